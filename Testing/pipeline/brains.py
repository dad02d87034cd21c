"""The bundled sample pair, small copies of it on any grid, known deformations, and a preset that takes a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

import SpikeRegLib
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, from_sitk, read_image, read_labels, to_sitk
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose, warp_image

SAMPLE = Path(SpikeRegLib.__file__).parent / "sample"
ANGLE = np.deg2rad(20.0)
TURNED = (np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE), 0.0, 0.0, 0.0, 1.0)

QUICK_PRESET = """\
description = "A few iterations on coarse voxels"
anatomy = "brain"
method = "optimize"
model = ""
working_spacing_mm = 3.0
similarity = "lncc"
passes = 0

[[refine.levels]]
spacing_mm = 6.0
field_mm = 6.0
iterations = 20
velocity_sigma_mm = 10.0
field_sigma_mm = 3.0

[[refine.levels]]
spacing_mm = 3.0
field_mm = 6.0
iterations = 15
velocity_sigma_mm = 5.0
field_sigma_mm = 2.0
"""


def sample(name: str) -> Volume:
    """One of the four files of the sample pair."""
    path = SAMPLE / f"{name}.nii.gz"
    return read_labels(path) if name.endswith("seg") else read_image(path)


def on_grid(
    volume: Volume,
    spacing: tuple[float, float, float] = (3.0, 3.0, 3.0),
    *,
    shape: tuple[int, int, int] | None = None,
    direction: tuple[float, ...] = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
) -> Volume:
    """The same anatomy on another grid with the same centre; by default the grid covers the old one's extent."""
    old = volume.frame
    centre = old.corners().mean(0)
    if shape is None:
        extent = np.ptp(old.corners(), axis=0)
        shape = tuple(int(np.ceil(e / s)) + 1 for e, s in zip(extent[::-1], spacing[::-1], strict=True))  # type: ignore
    frame = Frame(shape, (0.0, 0.0, 0.0), spacing, tuple(float(v) for v in direction))
    origin = centre - frame.corners().mean(0)
    frame = replace(frame, origin=tuple(float(v) for v in origin))
    nearest = not volume.data.is_floating_point()
    image = to_sitk(volume)
    if not nearest:
        image = sitk.SmoothingRecursiveGaussian(image, [max(0.1, 0.4 * s) for s in spacing])
        image = sitk.Maximum(image, 0.0)
    moved = warp_image(
        from_sitk(image, volume.name),
        Transform.identity(),
        frame,
        interpolation="nearest" if nearest else "linear",
    )
    if not nearest:  # a skull-stripped background stays exactly zero, as in the original
        moved = replace(moved, data=torch.where(moved.data < 4.0, torch.zeros(()), moved.data))
    return replace(moved, name=volume.name)


def brain_points(volume: Volume, count: int = 400, seed: int = 0) -> torch.Tensor:
    """[count, 3] LPS mm, voxel centres inside the (skull-stripped) brain."""
    index = torch.nonzero(volume.data > 20).double().numpy()
    chosen = index[np.random.default_rng(seed).permutation(len(index))[:count]][:, ::-1]
    matrix = volume.frame.matrix
    return torch.from_numpy(chosen @ matrix[:3, :3].T + matrix[:3, 3])


def rigid(
    degrees: tuple[float, float, float], shift: tuple[float, float, float], centre: np.ndarray
) -> AffineTransform:
    """Rotation about `centre` by Euler angles, then `shift` in mm."""
    turn = sitk.Euler3DTransform(centre.tolist(), *np.deg2rad(degrees).tolist(), shift)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    matrix[:3, 3] = turn.TransformPoint((0.0, 0.0, 0.0))
    return AffineTransform(matrix)


def bump(
    frame: Frame, centre: np.ndarray, peak: tuple[float, float, float] = (9.0, -6.0, 5.0), width: float = 30.0
) -> DisplacementTransform:
    """A one-sided push of `peak` mm around `centre`: different along every axis, so that no flip leaves it the same."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    world = np.stack([i, j, k], -1) @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
    weight = np.exp(-((world - centre) ** 2).sum(-1) / (2 * width**2))
    return DisplacementTransform(torch.from_numpy(np.stack([p * weight for p in peak]).astype(np.float32)), frame)


def carried(fixed: Volume, truth: Transform, frame: Frame | None = None) -> Volume:
    """The moving image for which `truth` (fixed -> moving) is the right answer: moving(truth(x)) = fixed(x)."""
    return replace(warp_image(fixed, truth.inverse(), frame or fixed.frame), name="moving.nii.gz")


def known_pair() -> tuple[Volume, Volume, Transform]:
    """Fixed, moving and the map between them: a push on one side of the brain, then a small rotation and shift."""
    fixed = on_grid(sample("fixed"))
    middle = brain_points(fixed).mean(0).numpy()
    truth = compose(bump(fixed.frame, middle + (25.0, -20.0, 10.0)), rigid((4, -3, 5), (3.0, -4.0, 2.0), middle))
    return fixed, carried(fixed, truth), truth


def error_mm(found: Transform, truth: Transform, points: torch.Tensor) -> float:
    """Mean distance of where two transforms send points."""
    return float((found.map_points(points) - truth.map_points(points)).norm(dim=1).mean())


def stored_differently(volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same voxels at the same places, stored with array axes permuted and reversed: only the header knows."""
    matrix, data = volume.frame.matrix, volume.data.permute(*order)
    axes = [2 - axis for axis in order][::-1]  # array axis a is index axis 2 - a
    columns = matrix[:3, [axes[0], axes[1], axes[2]]].copy()
    origin = matrix[:3, 3].copy()
    for axis in range(3):
        if flips[axis]:
            origin += columns[:, axis] * (data.shape[2 - axis] - 1)
            columns[:, axis] *= -1
            data = data.flip(2 - axis)
    spacing = np.linalg.norm(columns, axis=0)
    frame = Frame(
        (data.shape[0], data.shape[1], data.shape[2]),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        tuple((columns / spacing).ravel().tolist()),
    )
    return Volume(data.contiguous(), frame, volume.name)
