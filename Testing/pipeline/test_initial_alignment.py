"""Guidance of a whole run: an initial transform as a start, landmarks that pull, a region, another smoothness."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from brains import bump, carried, error_mm, rigid

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import write_points
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.space.transforms import compose, write_transform


@pytest.fixture(scope="module")
def middle(known) -> np.ndarray:
    return known.points.mean(0).numpy()


def aligned(known, quick, **settings):
    return register(known.fixed, known.moving, preset=quick, refine_iterations=0, threads=1, **settings)


# Going on from an initial transform -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bent", [False, True], ids=["affine", "bent"])
def test_alignment_goes_on_from_a_transform_that_is_25_degrees_off(known, quick, middle, bent):
    off = rigid((0, 25, 0), (5.0, 0.0, 0.0), middle)
    start = compose(bump(known.fixed.frame, middle + (25.0, -20.0, 10.0)), off) if bent else off
    alone = aligned(known, quick)
    found = aligned(known, quick, initial_transform=start, align=True)
    assert error_mm(start, known.truth, known.points) > 15
    bound = error_mm(alone.transform, known.truth, known.points) + 0.2
    # The bent start holds the deformation, which no alignment from the headers can find.
    assert error_mm(found.transform, known.truth, known.points) < (1.0 if bent else bound)


def test_a_moving_image_turned_away_is_brought_back_in_the_right_order(known, quick, middle):
    """T = T0 o A: with T0 the whole misplacement, A is left with the small rest, before T0."""
    turned = rigid((25, 0, 0), (40.0, -30.0, 20.0), middle)
    rest = rigid((2, -2, 3), (2.0, 1.0, -2.0), middle)
    truth = compose(rest, turned)
    frame = known.moving.frame
    moving = carried(known.fixed, truth, type(frame)(frame.shape, tuple(turned.map_points(
        torch.tensor([frame.origin], dtype=torch.float64))[0].tolist()), frame.spacing, frame.direction))  # fmt: skip
    bent = compose(bump(known.fixed.frame, middle, peak=(0.01, 0.0, 0.0)), turned)
    for start in (turned, bent):
        found = register(
            known.fixed, moving, preset=quick, initial_transform=start, align=True, refine_iterations=0, threads=1
        )
        assert error_mm(found.transform, truth, known.points) < 0.7 < error_mm(turned, truth, known.points)


def test_without_align_the_transform_is_taken_as_it_is(known, quick, middle):
    start = compose(bump(known.fixed.frame, middle), rigid((0, 10, 0), (5.0, 0.0, 0.0), middle))
    found = aligned(known, quick, initial_transform=start)
    torch.testing.assert_close(found.transform.map_points(known.points), start.map_points(known.points))


def test_align_needs_a_transform_to_go_on_from(known, quick):
    with pytest.raises(InputError, match=r"--align: .*add --initial-transform"):
        aligned(known, quick, align=True)


# Landmarks, region and smoothness through the pipeline ----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(known, quick):
    """The run that the others differ from, with landmarks only measured."""
    return register(known.fixed, known.moving, preset=quick, threads=1)


def test_a_landmark_moved_by_5_mm_pulls_by_5_mm_and_nothing_beyond_its_reach(known, quick, plain, middle):
    fixed = torch.from_numpy(middle)[None] + torch.tensor([[0.0, 0.0, 0.0], [30.0, 10.0, 0.0]])
    moving = plain.transform.map_points(fixed) + torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    pulled = register(known.fixed, known.moving, preset=quick, threads=1, fixed_points=fixed, moving_points=moving,
                      landmark_weight=1.0)  # fmt: skip
    torch.testing.assert_close(pulled.transform.map_points(fixed), moving, atol=0.15, rtol=0)
    result = pulled.result
    assert result["deformation"]["folding_percent"] == 0
    assert max(result["tre_mm"]["per_point"]) < 0.15 and result["warnings"] == []
    assert result["refinement"]["landmark_weight"] == 1.0
    assert result["similarity"]["lncc_without_landmarks"] == plain.result["similarity"]["lncc_after"]
    far = known.points[(torch.cdist(known.points, fixed).min(1).values > 40)]
    assert len(far) > 100
    moved = pulled.transform.map_points(far) - plain.transform.map_points(far)
    assert float(moved.norm(dim=1).max()) < 0.1


@pytest.mark.parametrize("away", [(3.0, -4.0, 0.0), (12.0, -9.0, 0.0)])
def test_what_landmarks_and_images_together_gained_is_kept_although_the_images_lost(known, quick, plain, middle, away):
    """A weight at which the two are nearly even: the optimisation has weighed them, and nobody weighs them again."""
    fixed = torch.from_numpy(middle)[None]
    moving = plain.transform.map_points(fixed) + torch.tensor(away)
    result = register(known.fixed, known.moving, preset=quick, threads=1, fixed_points=fixed, moving_points=moving,
                      landmark_weight=3e-4).result  # fmt: skip
    before = float((plain.transform.map_points(fixed) - moving).norm())
    assert result["tre_mm"]["after_mean"] < before - 1.0
    assert result["similarity"]["lncc_after"] < result["similarity"]["lncc_without_landmarks"]
    assert not any("did not pull" in line for line in result["warnings"])


def test_a_weight_of_zero_changes_no_bit(known, quick, plain):
    shifted = known.points[:5] + 3.0
    measured = register(known.fixed, known.moving, preset=quick, threads=1, fixed_points=known.points[:5],
                        moving_points=shifted, landmark_weight=0.0, regularisation=1.0)  # fmt: skip
    assert torch.equal(measured.displacement, plain.displacement)


def test_landmarks_pull_where_the_preset_has_no_refinement(known, quick):
    fixed = known.points[:4]
    found = register(known.fixed, known.moving, preset=quick, threads=1, refine_iterations=0, fixed_points=fixed,
                     moving_points=known.truth.map_points(fixed), landmark_weight=1.0)  # fmt: skip
    assert max(found.result["tre_mm"]["per_point"]) < 0.15 and found.result["deformation"]["folding_percent"] == 0


def test_stiffer_means_smoother(known, quick, plain):
    rough = [register(known.fixed, known.moving, preset=quick, threads=1, regularisation=r).result for r in (0.5, 2.0)]
    values = [result["deformation"]["sdlogj"] for result in (rough[0], plain.result, rough[1])]
    assert values[0] > values[1] > values[2]


def test_the_command_takes_all_of_it(known, quick, tmp_path, signal_handlers_restored):
    for name, volume in (("fixed", known.fixed), ("moving", known.moving)):
        write_volume(volume, tmp_path / f"{name}.nii.gz")
    fixed = known.points[:3]
    write_points(fixed, tmp_path / "fixed.csv")
    write_points(known.truth.map_points(fixed), tmp_path / "moving.csv")
    write_transform(rigid((0, 5, 0), (2.0, 0.0, 0.0), known.points.mean(0).numpy()), tmp_path / "start.tfm")
    inside = torch.zeros(known.fixed.frame.shape, dtype=torch.int16)
    inside[:, :, : inside.shape[2] // 2] = 1
    write_volume(Volume(inside, known.fixed.frame), tmp_path / "region.nii.gz")
    path = {name: str(tmp_path / name) for name in ("fixed.nii.gz", "moving.nii.gz", "fixed.csv", "moving.csv")}
    common = ["register", path["fixed.nii.gz"], path["moving.nii.gz"], "--preset", str(quick), "--align"]
    common += ["--initial-transform", str(tmp_path / "start.tfm"), "--threads", "1", "--progress", "none"]
    options = ["--region", str(tmp_path / "region.nii.gz"), "--regularisation", "0.5", "--landmark-weight", "0.5"]
    options += ["--fixed-points", path["fixed.csv"], "--moving-points", path["moving.csv"]]
    assert main([*common, "--refine-iterations", "0", "--out", str(tmp_path / "before")]) == 0
    assert main([*common, *options, "--out", str(tmp_path / "after")]) == 0
    result = json.loads((tmp_path / "after" / "result.json").read_text())
    assert result["refinement"]["landmark_weight"] == 0.5 and result["refinement"]["regularisation"] == 0.5
    assert result["refinement"]["region"].endswith("region.nii.gz")
    import SimpleITK as sitk

    fields = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / run / "displacement.nii.gz")))
        for run in ("before", "after")
    ]
    changed = np.linalg.norm(fields[1] - fields[0], axis=-1)
    assert changed[inside.numpy() == 0].max() == 0 and changed[inside.numpy() > 0].max() > 1


def test_a_weight_without_landmarks_and_a_region_on_another_grid_are_refused(known, quick):
    with pytest.raises(InputError, match="--landmark-weight: needs landmarks"):
        register(known.fixed, known.moving, preset=quick, landmark_weight=1.0)
    with pytest.raises(InputError, match="the region is on another grid"):
        register(known.fixed, known.moving, preset=quick, region=Volume(torch.ones(20, 20, 20).short(),
                 type(known.fixed.frame)((20, 20, 20))))  # fmt: skip
