"""Digital phantoms: drawn as they say, and measured so that a wrong direction cannot pass."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from SpikeRegLib.commands.demo import SAMPLE
from SpikeRegLib.commissioning import KINDS
from SpikeRegLib.commissioning.page import render_page
from SpikeRegLib.commissioning.phantoms import anatomy_mm, make_phantom
from SpikeRegLib.commissioning.trial import measured

RESULT = {
    "deformation": {"folding_percent": 0.0}, "verdict": {"level": "good"},
    "predicted_error": {"mean_mm": 0.4, "p95_mm": 0.9},
}  # fmt: skip


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    """The sample head, turned in its file: axes are neither those of the patient nor equal to them."""
    image = sitk.ReadImage(str(SAMPLE / "fixed.nii.gz"), sitk.sitkFloat32)
    image = sitk.Shrink(image, [2, 2, 2])
    image.SetDirection((0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    image.SetOrigin((30.0, -12.0, 55.0))
    return image


def mapped(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


@pytest.mark.parametrize("kind", KINDS)
def test_the_moving_image_shows_the_fixed_one_where_the_map_says(head, kind):
    phantom = make_phantom(head, kind, 3)
    points = anatomy_mm(phantom.moving)[::37]
    seen = [phantom.moving.EvaluateAtPhysicalPoint(point) for point in points.tolist()]
    shown = [phantom.fixed.EvaluateAtPhysicalPoint(point) for point in mapped(phantom.drawn, points).tolist()]
    assert np.corrcoef(seen, shown)[0, 1] > 0.97
    swapped = mapped(phantom.drawn, mapped(phantom.drawn, points))
    moved = np.linalg.norm(mapped(phantom.drawn, points) - points, axis=1)
    if kind in ("rigid", "affine"):
        assert moved.mean() > 5
        assert np.linalg.norm(swapped - points, axis=1).mean() > 8
    else:
        assert {"smooth": 1.5, "local": 0.1}[kind] < moved.mean() < 6 and moved.max() < 15


def test_only_two_places_are_pushed_in_a_local_phantom(head):
    phantom = make_phantom(head, "local", 1)
    points = anatomy_mm(phantom.moving)
    moved = np.linalg.norm(mapped(phantom.drawn, points) - points, axis=1)
    assert moved.max() > 5 and np.median(moved) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_moved_head_stays_in_its_image(head, kind):
    phantom = make_phantom(head, kind, 5)
    values = sitk.GetArrayFromImage(phantom.moving)
    bright = 0.2 * np.quantile(values, 0.99)
    for axis in range(3):
        for face in (0, -1):
            assert (values.take(face, axis) > bright).mean() < 0.01


def test_the_noise_of_the_two_images_is_not_the_same(head):
    first, again, other = (make_phantom(head, "rigid", seed) for seed in (1, 1, 2))
    values = [sitk.GetArrayFromImage(phantom.fixed) for phantom in (first, again, other)]
    assert (values[0] == values[1]).all() and (values[0] != values[2]).any()
    assert first.drawn.GetParameters() != other.drawn.GetParameters()


def answers(phantom, folder, *, turned: bool = False, beside_mm: float = 0.0):
    """What a perfect registration writes; the two maps exchanged, or moved aside, if asked for."""
    inverse = phantom.drawn
    forward = inverse.GetInverse()
    aside = sitk.TranslationTransform(3, (beside_mm, 0.0, 0.0))
    forward = sitk.CompositeTransform([aside, forward])
    names = ("inverse_transform", "transform") if turned else ("transform", "inverse_transform")
    for name, transform in zip(names, (forward, sitk.CompositeTransform([inverse])), strict=True):
        sitk.WriteTransform(transform, str(folder / f"{name}.h5"))


def test_the_truth_has_no_error_and_passes(head, tmp_path):
    phantom = make_phantom(head, "affine", 0)
    answers(phantom, tmp_path)
    row = measured(phantom, tmp_path, RESULT)
    assert row["error_max_mm"] < 1e-6 and row["inverse_error_mean_mm"] < 1e-6 and row["passed"]
    assert row["within_2_mm_percent"] == 100 and row["moved_mean_mm"] > 5
    assert (row["predicted_mean_mm"], row["predicted_p95_mm"], row["verdict"]) == (0.4, 0.9, "good")


def test_maps_in_the_wrong_direction_do_not_pass(head, tmp_path):
    phantom = make_phantom(head, "rigid", 0)
    answers(phantom, tmp_path, turned=True)
    row = measured(phantom, tmp_path, RESULT)
    assert row["error_mean_mm"] > 8 and row["inverse_error_mean_mm"] > 8 and not row["passed"]


@pytest.mark.parametrize(("voxels", "passed"), [(0.45, True), (0.55, False)])
def test_half_a_voxel_is_the_tolerance_of_what_is_not_deformed(head, tmp_path, voxels, passed):
    phantom = make_phantom(head, "rigid", 2)
    answers(phantom, tmp_path, beside_mm=voxels * head.GetSpacing()[0])
    row = measured(phantom, tmp_path, RESULT)
    assert row["error_mean_mm"] == pytest.approx(voxels * head.GetSpacing()[0]) and row["passed"] is passed
    assert f"{head.GetSpacing()[0] / 2:.2f} mm" in row["tolerance"]


def test_of_a_warp_95_percent_are_within_2_mm_and_nothing_beyond_5(head, tmp_path):
    phantom = make_phantom(head, "local", 0)
    identity = sitk.CompositeTransform([sitk.TranslationTransform(3)])
    for name in ("transform", "inverse_transform"):
        sitk.WriteTransform(identity, str(tmp_path / f"{name}.h5"))
    row = measured(phantom, tmp_path, RESULT)
    assert row["error_max_mm"] > 5 and row["within_2_mm_percent"] > 90 and not row["passed"]
    assert row["tolerance"] == "95 % within 2 mm, none beyond 5 mm"


def test_the_page_says_what_was_missed_and_takes_no_markup(head, tmp_path):
    phantom = make_phantom(head, "rigid", 0)
    answers(phantom, tmp_path)
    row = measured(phantom, tmp_path, RESULT)
    result = {"preset": "<b>brain", "seed": 0, "phantoms": {"<i>head": row, "other": {**row, "passed": False}}}
    text = render_page(result)
    assert "Not every phantom keeps its tolerance" in text and "1 of 2" in text
    assert "<b>brain" not in text and "<i>head" not in text and "&lt;i&gt;head" in text
    kept = render_page({**result, "phantoms": {"one": row}})
    assert "All phantoms keep their tolerance" in kept
