"""Pairs that no registration should call good, and sparse ones with a known motion, all made from random numbers.

Noise and smooth blobs have nothing in common with any other image. The vessel trees are those of two lungs, drawn thin
and smoothed, once at full inhale and once at exhale: the points of the tree are moved, not the image, so that the
landmarks at its forks are exact. Everything depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.filters import gaussian

# Half axes of a lung (left-right, front-back, up-down) and where the two are, mm, LPS.
_LUNG_MM, _LUNGS_MM = (58.0, 85.0, 125.0), (-75.0, 75.0)
_ENDS = 90  # of the tree in one lung
_LANDMARKS = 60


@dataclass(frozen=True)
class SparsePair:
    """Two images of one tree and the landmarks at its forks: [N, 3] LPS mm, in the same order."""

    fixed: Volume
    moving: Volume
    fixed_points: torch.Tensor
    moving_points: torch.Tensor


def _frame(size: int, extent_mm: float) -> Frame:
    spacing = extent_mm / size
    edge = -extent_mm / 2 + spacing / 2
    return Frame((size, size, size), (edge, edge, edge), (spacing,) * 3)


def noise(seed: int, *, size: int = 96, extent_mm: float = 190.0, sigma: float = 0.0) -> Volume:
    """Random voxels without any structure, or with that of a smoothing by `sigma` voxels."""
    values = torch.randn(size, size, size, generator=torch.Generator().manual_seed(seed))
    values = gaussian(values, sigma) if sigma else values
    return Volume(100 * (values - values.min()) / (values.max() - values.min()), _frame(size, extent_mm), "noise")


def blobs(seed: int, *, size: int = 96, extent_mm: float = 190.0, width_mm: float = 9.0) -> Volume:
    """Smooth random blobs inside a ball with a soft edge, on an empty background."""
    frame = _frame(size, extent_mm)
    field = gaussian(
        torch.randn(size, size, size, generator=torch.Generator().manual_seed(seed)), width_mm / frame.spacing[0]
    )
    axis = torch.arange(size) * frame.spacing[0] + frame.origin[0]
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    inside = ((0.42 * extent_mm - radius) / 4).clamp(0, 1)
    return Volume(inside * (100 + 40 * field / field.std()).clamp(min=1), frame, "blobs")


def lung_vessels(seed: int, *, size: int = 96, base_mm: float = 30.0, lost: float = 0.15) -> SparsePair:
    """The vessels of both lungs, inhale (fixed) and exhale (moving).

    Args:
        seed: of the tree and the motion.
        size: voxels along each axis of 360 mm.
        base_mm: how far the lowest parts rise at exhale.
        lost: share of the thinnest branches that are seen in one of the two images only.
    """
    random = np.random.default_rng(seed)
    segments: list[tuple[np.ndarray, np.ndarray, float]] = []
    forks: list[np.ndarray] = []
    for side in _LUNGS_MM:
        ends = random.normal(size=(4 * _ENDS, 3))
        ends *= (random.random(4 * _ENDS) ** (1 / 3) / np.linalg.norm(ends, axis=1))[:, None]
        ends = ends * _LUNG_MM + (side, 0.0, 0.0)
        ends = ends[np.abs(ends[:, 0]) > 22][:_ENDS]
        _grow(np.array([0.25 * side, 5.0, 10.0]), ends, segments, forks)
    motion = _breath(random, base_mm)
    thin = np.median([radius for _, _, radius in segments])
    seen = [[random.random() > lost or radius > thin for _, _, radius in segments] for _ in range(2)]
    points = np.array(forks)[random.permutation(len(forks))[:_LANDMARKS]]
    images = []
    for moved, shown, name in ((None, seen[0], "inhale"), (motion, seen[1], "exhale")):
        kept = [segment for segment, there in zip(segments, shown, strict=True) if there]
        images.append(_drawn(kept, moved, random, _frame(size, 360.0), name))
    return SparsePair(images[0], images[1], torch.from_numpy(points), torch.from_numpy(motion(points)))


def _grow(
    root: np.ndarray, ends: np.ndarray, segments: list[tuple[np.ndarray, np.ndarray, float]], forks: list[np.ndarray]
) -> None:
    """A tree from `root` to all `ends`: towards their middle, then split in two across their longest direction."""
    radius = 0.9 * len(ends) ** (1 / 3)
    if len(ends) == 1:
        segments.append((root, ends[0], radius))
        return
    middle = ends.mean(0)
    fork = root + 0.55 * (middle - root)
    segments.append((root, fork, radius))
    forks.append(fork)
    along = (ends - middle) @ np.linalg.svd(ends - middle, full_matrices=False)[2][0]
    order = np.argsort(along)
    half = len(ends) // 2
    _grow(fork, ends[order[:half]], segments, forks)
    _grow(fork, ends[order[half:]], segments, forks)


def _breath(random: np.random.Generator, base_mm: float) -> Callable[[np.ndarray], np.ndarray]:
    """Inhale -> exhale points, LPS mm: the base rises, the chest falls in, and every region does it its own way."""
    depth = random.uniform(3.0, 9.0)
    centres = random.normal(size=(6, 3)) * (60.0, 60.0, 90.0)
    pushes = random.normal(size=(6, 3)) * 4.0

    def move(points: np.ndarray) -> np.ndarray:
        height = np.clip((125.0 - points[:, 2]) / 250.0, 0, 1)  # 0 at the apex, 1 at the base
        moved = points.copy()
        moved[:, 2] += base_mm * height**1.5
        moved[:, 1] += depth * np.clip(-points[:, 1] / 85.0, 0, 1)
        for centre, push in zip(centres, pushes, strict=True):
            moved += push * np.exp(-((points - centre) ** 2).sum(1) / (2 * 45.0**2))[:, None]
        return moved

    return move


def _drawn(
    segments: list[tuple[np.ndarray, np.ndarray, float]], motion: Callable[[np.ndarray], np.ndarray] | None,
    random: np.random.Generator, frame: Frame, name: str,
) -> Volume:  # fmt: skip
    """Tubes through the (moved) segments, bright on dark, blurred by a voxel, with noise around them."""
    spacing = frame.spacing[0]
    amount = np.zeros(frame.shape)
    for start, end, radius in segments:
        steps = max(2, int(np.linalg.norm(end - start) / (0.25 * spacing)))
        points = start + np.linspace(0, 1, steps)[:, None] * (end - start)
        if motion is not None:
            points = motion(points)
        index = np.rint((points - frame.origin[0]) / spacing).astype(int)
        index = index[((index >= 0) & (index < frame.shape[0])).all(1)]
        np.maximum.at(amount, (index[:, 2], index[:, 1], index[:, 0]), min(1.0, (radius / spacing) ** 2))
    smooth = gaussian(torch.from_numpy(amount).float(), 1.0)
    values = 1000 * smooth / smooth.max() + torch.from_numpy(random.normal(size=frame.shape)).float()
    return Volume(values.clamp(min=0), frame, name)
