"""Maps of both images that are compared voxel by voxel beside the images: the squared difference, and what lowers it.

Correlation asks whether two images look alike around a point. Maps, such as the probabilities of structures, say what
is there: they pull whole structures onto each other where intensities alone would settle for another fold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from SpikeRegLib.images.boxes import Box
from SpikeRegLib.space.displacement import sample
from SpikeRegLib.space.grids import Grid, resample


class FeatureMaps(NamedTuple):
    """Channels of both images on one grid of the working frame.

    Attributes:
        fixed, moving: [K, d, h, w] on `grid`; the moving ones seen through the alignment.
        weight: [d, h, w], how far each voxel counts.
        grid: starts at the first voxel of the working frame.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: torch.Tensor
    grid: Grid


class FeatureDifference:
    """The maps at one level, and minus their mean squared difference when the moving ones are seen through a field.

    Args:
        maps: no finer than they are needed: levels of finer images use them as they are.
        spacing_mm: of the level's images.
        content: box of the fixed image (first and last voxels of the frame) that is looked at.
        frame: the working grid.
    """

    def __init__(self, maps: FeatureMaps, spacing_mm: float, content: Box, frame: Grid) -> None:
        whole, sigma = maps.grid, 0.0
        if spacing_mm > whole.spacing_mm:
            whole, sigma = frame.coarser(spacing_mm), 0.35 * spacing_mm
        ratio = whole.spacing_mm / frame.spacing_mm
        lower = [max(0, int(first / ratio) - 1) for first in content[0]]
        upper = [min(n, int(last / ratio) + 3) for last, n in zip(content[1], whole.shape, strict=True)]
        self.grid = whole.cropped((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
        self._whole = whole
        self._start = (float(lower[0]), float(lower[1]), float(lower[2]))
        self._fixed = resample(maps.fixed, maps.grid, self.grid, sigma_mm=sigma)
        self._moving = self._original = resample(maps.moving, maps.grid, whole, sigma_mm=sigma)
        weight = resample(maps.weight, maps.grid, self.grid, sigma_mm=sigma)
        self._weight = weight / weight.sum().clamp_min(1e-6)
        # Slopes are taken over two voxels and weights sum to 1, on this grid as on the images' own.
        self._scale = (spacing_mm / self.grid.spacing_mm) ** 4

    def move_through(self, field: torch.Tensor | None, grid: Grid) -> None:
        """See `LevelImages.move_through`."""
        self._moving = self._original
        if field is not None:
            fine = [resample(component, grid, self._whole) for component in field]
            self._moving = sample(self._original, fine, scale=grid.spacing_mm / self._whole.spacing_mm)

    def value(self, field: torch.Tensor, grid: Grid) -> float:
        """Minus the mean squared difference, summed over the channels; 0 is perfect."""
        return self._value(self._difference(field, grid)[1])

    def value_and_velocity(self, field: torch.Tensor, grid: Grid, sigma_mm: float) -> tuple[float, torch.Tensor]:
        """The value, and the smoothed direction [3, d, h, w] on `grid` that increases it, in the units of images."""
        warped, difference = self._difference(field, grid)
        velocity = field.new_zeros(3, *grid.shape)
        weight = self._weight * (-2 * self._scale)
        for component, axis in enumerate((3, 2, 1)):
            inner = difference.narrow(axis, 1, difference.shape[axis] - 2)
            ahead, behind = (warped.narrow(axis, at, warped.shape[axis] - 2) for at in (2, 0))
            force = torch.zeros_like(weight)
            force.narrow(axis - 1, 1, weight.shape[axis - 1] - 2).copy_(((ahead - behind) * inner).sum(0))
            velocity[component] = resample(force.mul_(weight), self.grid, grid, sigma_mm=sigma_mm)
        return self._value(difference), velocity

    def _difference(self, field: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        fine = [resample(component, grid, self.grid) for component in field]
        scale = grid.spacing_mm / self.grid.spacing_mm
        warped = sample(self._moving, fine, start=self._start, scale=scale)
        return warped, warped - self._fixed

    def _value(self, difference: torch.Tensor) -> float:
        return -float((difference.square().sum(0) * self._weight).sum())
