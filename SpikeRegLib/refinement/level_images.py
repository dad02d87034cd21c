"""Two images at one level of a refinement: how well a field aligns them, and which velocity would align them better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch

from SpikeRegLib.images.boxes import Box, bounding_box
from SpikeRegLib.progress import Tick
from SpikeRegLib.refinement.feature_maps import FeatureDifference, FeatureMaps
from SpikeRegLib.similarity.known_lncc import KnownCorrelation
from SpikeRegLib.similarity.lncc_gradient import LocalCorrelation
from SpikeRegLib.space.displacement import sample
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.known import FADE_MM, Known, counting, extrapolated, resample_known

# The images are smoothed by this fraction of a level's spacing before they are sub-sampled to it.
_ANTI_ALIAS = 0.35


class Images(NamedTuple):
    """What is compared, on the working frame: [C, D, H, W] images, [D, H, W] weight of each voxel of the fixed one, and
    where both are known, None for everywhere."""

    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor | None = None
    known: Known | None = None


def content_of(image: torch.Tensor) -> Box:
    """The box in which an image [C, D, H, W] is not empty; all of it where it is empty."""
    return bounding_box((image > 1e-3).any(0)) or ([0, 0, 0], [n - 1 for n in image.shape[1:]])


class LevelImages:
    """Both images at the voxel size of one level, the fixed one cropped to its content, and how fields align them."""

    def __init__(
        self, images: Images, frame: Grid, spacing_mm: float, content: Box, window: int,
        maps: FeatureMaps | None = None, maps_weight: float = 0.0,
    ) -> None:  # fmt: skip
        self._maps = None if maps is None or not maps_weight else FeatureDifference(maps, spacing_mm, content, frame)
        self._maps_weight = maps_weight
        fixed, moving, mask, known = images
        ratio = spacing_mm / frame.spacing_mm
        self._whole = whole = frame.coarser(spacing_mm)
        sigma = _ANTI_ALIAS * spacing_mm if ratio > 1 else 0.0
        lower = [max(0, int(a / ratio) - window // 2) for a in content[0]]
        upper = [min(n, int(b / ratio) + 2 + window // 2) for b, n in zip(content[1], whole.shape, strict=True)]
        self.grid = whole.cropped((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
        self._start = (float(lower[0]), float(lower[1]), float(lower[2]))
        self._positions: torch.Tensor | None = None
        self._correlations: Sequence[Any]  # LocalCorrelation, or KnownCorrelation, which is told what is known as well
        weight = None if mask is None else resample(mask.to(fixed.dtype), frame, self.grid, sigma_mm=sigma)
        self._fixed_known: torch.Tensor | None = None
        if known is None:
            self._moving = self._original = resample(moving, frame, whole, sigma_mm=sigma)
            self._correlations = [
                LocalCorrelation(channel, window=window, weight=weight)
                for channel in resample(fixed, frame, self.grid, sigma_mm=sigma)
            ]
            return
        self._fixed_known = resample(known.fixed, frame, whole, sigma_mm=sigma)
        moving = resample_known(moving, known.moving[0], frame, whole, sigma_mm=sigma)
        moving_known = resample(known.moving, frame, whole, sigma_mm=sigma)
        moving = torch.stack([extrapolated(channel, moving_known[0]) for channel in moving])
        # What is known of the moving image is carried along with it, as two more channels.
        self._moving = self._original = torch.cat((moving, moving_known))
        counts = counting(resample(self._fixed_known[0], whole, self.grid))
        self._correlations = [
            KnownCorrelation(channel, window=window, weight=weight, counts=counts)
            for channel in resample_known(fixed, known.fixed[0], frame, self.grid, sigma_mm=sigma)
        ]

    def continued(self, field: torch.Tensor, grid: Grid, *, fade_mm: float = FADE_MM) -> torch.Tensor:
        """`field` (voxels of `grid`) as it is where both images are known; elsewhere it goes on smoothly."""
        if self._fixed_known is None:
            return field
        fine = [resample(component, grid, self._whole) for component in field]
        moving = sample(self._moving[-2:], fine, scale=grid.spacing_mm / self._whole.spacing_mm)
        known = Known(self._fixed_known, moving).resampled(self._whole, grid)
        return known.continued(field, grid.spacing_mm, fade_mm=fade_mm)

    def move_through(self, field: torch.Tensor | None, grid: Grid) -> None:
        """From now on `field` (voxels of `grid`) comes after every other: the moving image is warped with it, once."""
        if self._maps is not None:
            self._maps.move_through(field, grid)
        self._moving = self._original
        if field is not None:
            fine = [resample(component, grid, self._whole) for component in field]
            self._moving = sample(self._original, fine, scale=grid.spacing_mm / self._whole.spacing_mm)

    def similarity(self, field: torch.Tensor, grid: Grid) -> float:
        """Mean local correlation when the moving image is seen through `field` (voxels of `grid`)."""
        warped, known = self._parted(self._warped(field, grid))
        return fmean(at.value(channel, *known) for at, channel in zip(self._correlations, warped, strict=True))

    def objective(self, field: torch.Tensor, grid: Grid) -> float:
        """What is climbed: the similarity, and with maps their agreement times its weight."""
        value = self.similarity(field, grid)
        return value if self._maps is None else value + self._maps_weight * self._maps.value(field, grid)

    def _parted(self, warped: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The warped image, and how far its voxels count if that is not everywhere the same."""
        if self._fixed_known is None:
            return warped, ()
        return warped[:-2], (counting(warped[-2]),)

    def _warped(self, field: torch.Tensor, grid: Grid) -> torch.Tensor:
        # One component at a time, and one buffer for all iterations: the system hands out larger pieces of memory page
        # by page, cleared, which took a third of an iteration at 1 mm.
        fine = (resample(component, grid, self.grid) for component in field)
        scale = grid.spacing_mm / self.grid.spacing_mm
        if self._positions is None:
            self._positions = field.new_empty(*self.grid.shape, 3)
        return sample(self._moving, list(fine), start=self._start, scale=scale, buffer=self._positions)

    def objective_and_velocity(
        self, field: torch.Tensor, grid: Grid, sigma_mm: float, tick: Tick
    ) -> tuple[float, torch.Tensor]:
        """The objective of `field`, and the smoothed direction [3, d, h, w] on `grid` that increases it.

        `tick` is called between the longer steps.
        """
        values, velocity = [], field.new_zeros(3, *grid.shape)
        slope = field.new_zeros(self.grid.shape)
        warped_channels, known = self._parted(self._warped(field, grid))
        channels = len(self._correlations)
        for number, (at, warped) in enumerate(zip(self._correlations, warped_channels, strict=True)):
            tick(number / channels)
            value, gradient = at.value_and_gradient(warped, *known)
            tick((number + 0.5) / channels)
            values.append(value)
            for component, axis in enumerate((2, 1, 0)):
                ahead, behind = (warped.narrow(axis, at, warped.shape[axis] - 2) for at in (2, 0))
                torch.sub(ahead, behind, out=slope.narrow(axis, 1, warped.shape[axis] - 2))
                for face in (0, warped.shape[axis] - 1):
                    slope.select(axis, face).zero_()
                velocity[component] += resample(slope.mul_(gradient), self.grid, grid, sigma_mm=sigma_mm)
            tick((number + 1) / channels)
        value = fmean(values)
        if self._maps is not None:
            agreement, direction = self._maps.value_and_velocity(field, grid, sigma_mm)
            # The channels' velocities are summed, their values averaged.
            velocity.add_(direction, alpha=self._maps_weight * channels)
            value += self._maps_weight * agreement
        return value, velocity

    def unit_force(self, sigma_mm: float) -> float:
        """What a gain of 1 for each mm that one point moves adds to the velocity there, smoothed like the images'."""
        spread = sigma_mm / self.grid.spacing_mm
        peak = min(1.0, (2 * math.pi) ** -1.5 / max(spread, 1e-3) ** 3)
        return 2 * self.grid.spacing_mm * peak  # slopes of images are taken over two voxels
