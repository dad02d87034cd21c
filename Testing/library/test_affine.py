"""Alignment of synthetic heads with a known answer: asymmetric blobs in an ellipsoid, sampled on any grid."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SpikeRegLib import affine, register
from SpikeRegLib.affine import align
from SpikeRegLib.affine.given import align_pair
from SpikeRegLib.errors import Cancelled, InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.progress import Progress
from SpikeRegLib.space.transforms import AffineTransform, Transform

SEMI_AXES = np.array([68.0, 84.0, 62.0])
BRAIN_FRAME = Frame((50, 64, 54), (-79.5, -94.5, -73.5), (3.0, 3.0, 3.0))


def anatomy(points: np.ndarray, *, inverted: bool = False) -> np.ndarray:
    """Intensity at [..., 3] LPS mm: an ellipsoid, thinner in front, with blobs of no symmetry; 0 outside."""
    x, y, z = np.moveaxis(points, -1, 0)
    shape = (x / (SEMI_AXES[0] * (1 + 0.0015 * y))) ** 2 + (y / SEMI_AXES[1]) ** 2 + (z / SEMI_AXES[2]) ** 2
    inside = 1 / (1 + np.exp(np.clip((shape - 1) * 25, -50, 50)))
    generator = np.random.default_rng(11)
    tissue = np.full(x.shape, 0.55)
    for _ in range(45):
        centre = generator.uniform(-0.75, 0.75, 3) * SEMI_AXES
        width, height = generator.uniform(5, 14), generator.uniform(-0.45, 0.45)
        tissue = tissue + height * np.exp(-((points - centre) ** 2).sum(-1) / (2 * width**2))
    tissue = np.clip(tissue, 0.1, 1)
    return inside * ((1.15 - tissue) ** 2 if inverted else tissue)


def volume(frame: Frame, to_anatomy: np.ndarray | None = None, *, inverted: bool = False) -> Volume:
    """The anatomy on a frame; `to_anatomy` (4x4) maps the frame's LPS mm to the anatomy's. With a little noise."""
    depth, height, width = frame.shape
    k, j, i = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
    matrix = frame.matrix if to_anatomy is None else to_anatomy @ frame.matrix
    values = anatomy(np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3], inverted=inverted)
    noise = np.random.default_rng(depth).normal(0, 0.01, values.shape) * (values > 0.02)
    return Volume(torch.from_numpy(((values * (values > 0.02) + noise) * 1000).astype(np.float32)), frame)


def rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def homogeneous(linear: np.ndarray, translation: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, translation
    return matrix


def placed(image: Volume, motion: np.ndarray) -> Volume:
    """The same voxels with the header moved by a rigid motion (4x4): the true transform is that motion."""
    matrix = motion @ image.frame.matrix
    direction = matrix[:3, :3] / np.asarray(image.frame.spacing)
    origin = (float(matrix[0, 3]), float(matrix[1, 3]), float(matrix[2, 3]))
    return Volume(image.data, Frame(image.frame.shape, origin, image.frame.spacing, tuple(direction.ravel())))


def corner_error(transform: AffineTransform, truth: np.ndarray) -> float:
    """Largest distance in mm over the corners of the anatomy's box."""
    corners = torch.from_numpy(np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) * SEMI_AXES)
    return float((transform.map_points(corners) - AffineTransform(truth).map_points(corners)).norm(dim=1).max())


@pytest.fixture(scope="module")
def brain() -> Volume:
    return volume(BRAIN_FRAME)


@pytest.mark.parametrize(
    ("axis", "degrees", "shift"),
    [
        ((1, 0, 0), 30, (12, -8, 20)),
        ((0, 1, 0), -30, (400, 286, -255)),
        ((0, 0, 1), 30, (-900, 0, 35)),
        ((1, 2, -1), 110, (0, 0, 0)),
        ((0, 0, 1), 90, (50, 50, 50)),
        ((1, 0, 0), 180, (0, 300, 0)),
    ],
)
def test_any_rotation_and_origin_is_recovered(brain, axis, degrees, shift):
    truth = homogeneous(rotation(axis, degrees), shift)
    result = align(brain, placed(brain, truth), model="rigid")
    assert corner_error(result.transform, truth) < 0.5
    assert result.similarity_after > result.similarity_before
    assert result.warnings == []


def test_permuted_axes_describe_the_same_volume(brain):
    data = brain.data.permute(2, 0, 1).contiguous().flip(0)  # array axes turned, and the header turned with them
    frame = BRAIN_FRAME
    columns = np.stack([frame.matrix[:3, 1], frame.matrix[:3, 2], -frame.matrix[:3, 0]], 1) / 3.0
    last = frame.matrix @ np.array([frame.shape[2] - 1.0, 0, 0, 1])
    turned = Frame(tuple(data.shape), tuple(last[:3]), (3.0, 3.0, 3.0), tuple(columns.ravel()))
    result = align(brain, Volume(data, turned))
    assert corner_error(result.transform, np.eye(4)) < 0.3


def test_affine_with_thick_oblique_slices_is_recovered(brain):
    linear = rotation((1, 1, 0), 15) @ np.array([[1.10, 0.06, 0.0], [0.0, 0.92, -0.05], [0.0, 0.0, 0.95]])
    truth = homogeneous(linear, (25, -40, 60))
    frame = Frame((44, 100, 92), (0, 0, 0), (2.0, 2.0, 4.0), tuple(rotation((0, 1, 1), 20).ravel()))
    matrix = frame.matrix
    middle = matrix[:3, :3] @ np.array([46, 50, 22])
    frame = Frame(frame.shape, tuple(np.array([25.0, -40, 60]) - middle), frame.spacing, frame.direction)
    moving = volume(frame, np.linalg.inv(truth))
    result = align(brain, moving)
    assert corner_error(result.transform, truth) < 1.5
    rigid = align(brain, moving, model="rigid")
    assert corner_error(rigid.transform, truth) > 5
    assert result.similarity_after > rigid.similarity_after
    linear_part = rigid.transform.matrix[:3, :3]
    assert np.allclose(linear_part @ linear_part.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(linear_part) == pytest.approx(1, abs=1e-6)


def test_inverted_contrast_is_aligned_by_mutual_information(brain):
    truth = homogeneous(rotation((1, 0, 1), 30), (30, -200, 10))
    moving = placed(volume(BRAIN_FRAME, inverted=True), truth)
    result = align(brain, moving)
    assert result.measure == "mutual information"
    assert corner_error(result.transform, truth) < 2


@pytest.mark.slow
def test_anatomy_inside_a_larger_object_is_found(brain):
    """Skull-stripped against whole head, in both directions; a mask on the head does as well."""
    depth, height, width = BRAIN_FRAME.shape
    pad = 10
    frame = Frame((depth + 3 * pad, height + 2 * pad, width + 2 * pad), tuple(np.array([-109.5, -124.5, -133.5])),
                  (3.0,) * 3)  # fmt: skip
    head = volume(frame)
    k, j, i = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    x, y, z = np.moveaxis(np.stack([i, j, k], -1) * 3.0 + np.array(frame.origin), -1, 0)
    skull = (x / 86) ** 2 + (y / 102) ** 2 + (z / 80) ** 2
    neck = ((x / 55) ** 2 + ((y - 10) / 60) ** 2 < 1) & (z < -50)
    scalp = torch.from_numpy((((skull < 1) | neck) & (anatomy(np.stack([x, y, z], -1)) < 0.02)) & (skull > 0.8))
    whole = Volume(torch.where(scalp, torch.tensor(700.0), head.data), frame)
    truth = homogeneous(rotation((0, 1, 0), 20), (15, 30, -200))
    assert corner_error(align(brain, placed(whole, truth)).transform, truth) < 3
    assert corner_error(align(whole, placed(brain, truth)).transform, truth) < 3
    mask = placed(Volume((head.data > 20).to(torch.int16), frame), truth)
    assert corner_error(align(brain, placed(whole, truth), moving_mask=mask).transform, truth) < 1


def test_initial_transform_is_where_it_starts(brain):
    truth = homogeneous(rotation((0, 0, 1), 100), (500, 0, 0))
    near = AffineTransform(truth @ homogeneous(rotation((0, 1, 0), 8), (6, -4, 3)))
    result = align(brain, placed(brain, truth), model="rigid", initial=near)
    assert corner_error(result.transform, truth) < 1
    assert "start search" not in result.accepted_steps
    assert result.measure == "correlation"


def test_start_that_cannot_be_improved_is_returned_and_said(brain, monkeypatch):
    """Every step offers a worse transform: none may be accepted."""
    worse = homogeneous(np.eye(3), (0.2, 0, 0))
    monkeypatch.setattr(affine.steps, "optimise", lambda pair, start, *rest: start @ worse)
    start = Transform.identity()
    result = align(brain, brain, initial=start)
    assert np.allclose(result.transform.matrix, np.eye(4), atol=1e-9)
    assert result.accepted_steps == []
    assert result.similarity_after == result.similarity_before
    assert any("no step improved" in line for line in result.warnings)


@pytest.mark.parametrize(
    ("linear", "reason"),
    [
        (np.diag([-1.0, 1, 1]), "mirrors"),
        (np.diag([1.0, 1.7, 1]), "scales"),
        (np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1.0]]), "shears"),
    ],
)
def test_implausible_affine_is_refused_although_it_fits(brain, monkeypatch, linear, reason):
    truth = homogeneous(linear)
    moving = volume(Frame((60, 120, 90), (-133.5, -178.5, -88.5), (3.0,) * 3), np.linalg.inv(truth))
    optimise = affine.steps.optimise

    def perfect(pair, start, step, *rest):
        if step != "affine":
            return optimise(pair, start, step, *rest)
        fixed, other = (affine.find(v, None, "image") for v in (brain, moving))
        radius = min(fixed.radius, other.radius)
        return affine.unit_map(other.centre, radius) @ truth @ np.linalg.inv(affine.unit_map(fixed.centre, radius))

    monkeypatch.setattr(affine.steps, "optimise", perfect)
    result = align(brain, moving)
    assert "affine" not in result.accepted_steps
    assert any("affine step not accepted" in line and reason in line for line in result.warnings)


@pytest.mark.parametrize(
    ("linear", "reason"),
    [
        (np.diag([1.59, 1, 1]), ""),
        (np.diag([1, 1.61, 1]), "it scales by 1.00 to 1.61, beyond 0.6 to 1.6"),
        (np.diag([1, 1, 0.61]), ""),
        (np.diag([0.59, 1, 1]), "it scales by 0.59 to 1.00, beyond 0.6 to 1.6"),
        (np.array([[1, 0.29, 0], [0, 1, 0], [0, 0, 1]]), ""),
        (np.array([[1, 0, 0.31], [0, 1, 0], [0, 0, 1]]), "it shears by 0.31, beyond 0.3"),
        (np.array([[1, 0, 0], [0, 1, -0.31], [0, 0, 1]]), "it shears by 0.31, beyond 0.3"),
        (np.array([[1.5, 0.36, 0], [0, 1, 0], [0, 0, 1]]), ""),
        (np.array([[0.75, 0, 0.25], [0, 1, 0], [0, 0, 1]]), "it shears by 0.33, beyond 0.3"),
        (np.diag([1.2, -1, 1]), "it mirrors the anatomy"),
        (np.diag([1, 0, 1]), "it mirrors the anatomy"),
    ],
)
def test_what_two_anatomies_may_differ_by_has_these_bounds(linear, reason):
    turned = rotation((1, 2, 3), 40)
    for matrix in (linear, turned @ linear):
        assert affine.steps.implausible(homogeneous(matrix, (9.0, 9.0, 9.0))) == reason


def test_what_is_left_out_does_not_enter_the_local_contrast(brain):
    """With `alone`, another object beside the anatomy changes no voxel of what is compared."""
    found = affine.find(brain, None, "image")
    near = sitk.BinaryDilate(found.foreground > 0, [4, 4, 4])
    beside = sitk.Cast(sitk.Equal(near, 0), found.intensity.GetPixelID()) * 3.0 + found.intensity
    contrasts = [
        sitk.GetArrayFromImage(affine.prepare(replace(found, intensity=intensity), found.radius, alone=True).contrast)
        for intensity in (found.intensity, beside)
    ]
    assert np.abs(contrasts[0]).max() > 0.5
    np.testing.assert_allclose(contrasts[1], contrasts[0], atol=1e-3)


@pytest.mark.parametrize("error", [Cancelled("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("message", ["orientation", "rigid", "affine"])
def test_listener_stops_it_at_any_stage(brain, error, message):
    heard: list[str] = []

    def listener(progress: Progress) -> None:
        heard.append(progress.message)
        if message in progress.message:
            raise error

    with pytest.raises(type(error)):
        align(brain, placed(brain, homogeneous(rotation((0, 0, 1), 20))), listener=listener)
    assert sum(message in line for line in heard) == 1  # nothing is reported after the stop


def test_progress_grows_from_zero_to_one(brain):
    heard: list[Progress] = []
    align(brain, brain, listener=heard.append)
    fractions = [p.fraction for p in heard]
    assert fractions[0] == 0 and fractions[-1] == 1
    assert fractions == sorted(fractions)
    assert {p.stage for p in heard} == {"align"}


def test_same_seed_same_result(brain):
    moving = placed(brain, homogeneous(rotation((1, 0, 0), 25), (3, 4, 5)))
    first, second = align(brain, moving, seed=3), align(brain, moving, seed=3)
    assert np.array_equal(first.transform.matrix, second.transform.matrix)
    assert first.similarity_after == second.similarity_after
    assert not np.array_equal(first.transform.matrix, align(brain, moving, seed=4).transform.matrix)


def test_what_draws_by_chance_draws_alike_for_everyone_who_names_no_seed():
    """An alignment alone, in a pipeline and as an option are one alignment."""
    seeds = [inspect.signature(made).parameters["seed"].default for made in (align, align_pair, register)]
    assert seeds == [0] * 3


def test_unusable_arguments_are_named(brain):
    with pytest.raises(InputError, match="model: 'rigidish'"):
        align(brain, brain, model="rigidish")
    empty = Volume(torch.zeros(BRAIN_FRAME.shape, dtype=torch.int16), BRAIN_FRAME, "empty.nii.gz")
    with pytest.raises(InputError, match=r"empty\.nii\.gz"):
        align(brain, brain, fixed_mask=empty)
    flat = Volume(torch.ones(BRAIN_FRAME.shape), BRAIN_FRAME, "flat.nii.gz")
    with pytest.raises(InputError, match=r"flat\.nii\.gz: the image is constant"):
        align(brain, flat)


@pytest.mark.data
def test_t1_and_t2_of_one_subject_fall_together_again():
    data = Path(os.environ.get("SPIKEREG_DATA", Path(__file__).parents[3] / "shared" / "data")) / "small"
    paths = [data / f"kirby113_v2_{name}brain_2mm.nii.gz" for name in ("t1", "t2")]
    if not all(p.exists() for p in paths):
        pytest.skip(f"needs {paths[0]} and {paths[1]}; set SPIKEREG_DATA")
    t1, t2 = (read_image(p) for p in paths)
    truth = homogeneous(rotation((1, -1, 2), 30), (100, -20, 300))
    result = align(t1, placed(t2, truth), model="rigid")
    middle = torch.from_numpy(t1.frame.corners().mean(0) + (t1.frame.corners() - t1.frame.corners().mean(0)) * 0.5)
    error = result.transform.map_points(middle) - AffineTransform(truth).map_points(middle)
    assert float(error.norm(dim=1).max()) < 2
