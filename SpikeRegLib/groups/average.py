"""The mean of warped images, added up one after the other, and made as sharp as they are."""

from __future__ import annotations

import torch

from SpikeRegLib.space.filters import gaussian

# What a mean blurs is what its members leave unaligned, about a voxel: so much of what a Gaussian of that width takes
# away is added.
_SHARPEN, _SIGMA = 0.75, 1.0


class RunningMean:
    """A mean of arrays of one shape, of which only the sum is kept."""

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self.count = 0

    def add(self, values: torch.Tensor) -> None:
        self._sum = values.clone() if self._sum is None else self._sum.add_(values)
        self.count += 1

    @property
    def mean(self) -> torch.Tensor:
        assert self._sum is not None  # something was added
        return self._sum / self.count


def sharpened(mean: torch.Tensor) -> torch.Tensor:
    """A mean image [D, H, W] in [0, 1] with its edges steeper: unsharp masking, within the range around each voxel.

    No voxel becomes brighter or darker than the brightest and darkest of its neighbours in the mean, so nothing rings.
    """
    pooled = mean[None, None]
    brightest = torch.nn.functional.max_pool3d(pooled, 3, stride=1, padding=1)[0, 0]
    darkest = -torch.nn.functional.max_pool3d(-pooled, 3, stride=1, padding=1)[0, 0]
    steeper = torch.lerp(gaussian(mean, _SIGMA), mean, 1 + _SHARPEN)
    return steeper.minimum(brightest).maximum(darkest).clamp_(0, 1)
