"""Nested grids of the coarse-to-fine levels and the change of grid as three banded matrix products."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

# Part of the largest weight of a Gaussian below which a voxel does not count.
_LEAST_WEIGHT = 1e-8


@dataclass(frozen=True)
class Grid:
    """An isotropic grid inside a working frame, axes parallel to it.

    Attributes:
        shape: (D, H, W).
        spacing_mm: distance of neighbours.
        offset_mm: position of the first voxel along (D, H, W), measured from the first voxel of the working frame.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_mm(self, voxels: torch.Tensor) -> torch.Tensor:
        """A displacement or distance in mm, of one in voxels of this grid."""
        return voxels * self.spacing_mm

    def to_voxels(self, mm: torch.Tensor) -> torch.Tensor:
        """A displacement or distance in voxels of this grid, of one in mm."""
        return mm / self.spacing_mm

    def to_index(self, points: torch.Tensor) -> torch.Tensor:
        """[N, 3] voxel indices (i, j, k), with fractions, of [N, 3] (x, y, z) mm from the first voxel of the frame."""
        return (points - points.new_tensor(self.offset_mm[::-1])) / self.spacing_mm

    def coarser(self, spacing_mm: float) -> Grid:
        """The grid of `spacing_mm` that starts at the same voxel and covers this one.

        For an integer ratio of spacings every `ratio`-th voxel of this grid is one of the coarse grid, so a field
        interpolated linearly from the coarse grid is the same function after sampling it on the fine one.
        """
        ratio = spacing_mm / self.spacing_mm
        depth, height, width = (math.ceil((n - 1) / ratio - 1e-6) + 1 for n in self.shape)
        return Grid((depth, height, width), spacing_mm, self.offset_mm)

    def cropped(self, lower: tuple[int, int, int], upper: tuple[int, int, int]) -> Grid:
        """The part of this grid with indices lower <= index < upper."""
        depth, height, width = (b - a for a, b in zip(lower, upper, strict=True))
        x, y, z = (o + a * self.spacing_mm for o, a in zip(self.offset_mm, lower, strict=True))
        return Grid((depth, height, width), self.spacing_mm, (x, y, z))


@functools.lru_cache(maxsize=128)
@torch.inference_mode(False)
def _band(source: int, target: int, step: float, start: float, sigma: float, device: str) -> torch.Tensor:
    """[target, source] weights: row i reads the source around index start + i * step (clamped to the array)."""
    position = (start + step * torch.arange(target, dtype=torch.float64)).clamp(0, source - 1)[:, None]
    distance = torch.arange(source, dtype=torch.float64)[None] - position
    weight = torch.exp(-0.5 * (distance / sigma) ** 2) if sigma > 0 else (1 - distance.abs()).clamp(min=0)
    # The far tail of a Gaussian would be denormal numbers, which make a product ten times slower on some processors.
    weight = torch.where(weight < _LEAST_WEIGHT * weight.amax(1, keepdim=True), 0.0, weight)
    return (weight / weight.sum(1, keepdim=True)).float().to(device)


def _between(x: torch.Tensor, axis: int, target: int, step: float, start: float) -> torch.Tensor:
    """`target` values along `axis` at index start + i * step (clamped to the array), between their two neighbours."""
    position = (start + step * torch.arange(target, dtype=torch.float64, device=x.device)).clamp(0, x.shape[axis] - 1)
    low = position.long().clamp(max=x.shape[axis] - 2)
    weight = (position - low).to(x.dtype).view(-1, *[1] * (-axis - 1))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, low + 1), weight)


def resample(volume: torch.Tensor, source: Grid, target: Grid, *, sigma_mm: float = 0.0) -> torch.Tensor:
    """Values of `volume` on another grid: linear interpolation, or a Gaussian of `sigma_mm` when that is positive.

    Args:
        volume: [..., D, H, W] float32 on `source`; border values continue outside it.
        sigma_mm: to go coarser without aliasing: smoothing and sub-sampling are then one product.

    Returns:
        [..., D', H', W'] on `target`.
    """
    if source == target and sigma_mm <= 0:
        return volume
    depth, height, width = (
        _band(n, m, target.spacing_mm / source.spacing_mm, (b - a) / source.spacing_mm,
              sigma_mm / source.spacing_mm, str(volume.device))
        for n, m, a, b in zip(source.shape, target.shape, source.offset_mm, target.offset_mm, strict=True)
    )  # fmt: skip
    x = volume.reshape(-1, *volume.shape[-3:])
    if sigma_mm <= 0 and target.spacing_mm < source.spacing_mm:
        # Going finer, most weights are zero: only the innermost axis, where memory is scattered, is worth a product.
        step = target.spacing_mm / source.spacing_mm
        starts = [(b - a) / source.spacing_mm for a, b in zip(source.offset_mm, target.offset_mm, strict=True)]
        slab = target.shape[0] < source.shape[0]  # then the planes that it does not need go first
        if slab:
            x = _between(x, -3, target.shape[0], step, starts[0])
        x = _between(torch.matmul(x, width.t()), -2, target.shape[1], step, starts[1])
        if not slab:
            x = _between(x, -3, target.shape[0], step, starts[0])
        return x.reshape(*volume.shape[:-3], *target.shape)
    if target.shape[0] < source.shape[0]:  # the axis that shrinks most of the memory first
        x = torch.matmul(depth, x.flatten(2)).unflatten(2, x.shape[2:])
        x = torch.matmul(torch.matmul(height, x), width.t())
    else:
        x = torch.matmul(height, torch.matmul(x, width.t()))
        x = torch.matmul(depth, x.flatten(2)).unflatten(2, x.shape[2:])
    return x.reshape(*volume.shape[:-3], *target.shape)


def resample_voxels(displacement: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """`resample` of a displacement in voxels of `source`, as one in voxels of `target`."""
    return resample(displacement, source, target) * (source.spacing_mm / target.spacing_mm)
