"""Local normalised cross-correlation and its gradient in closed form (no autograd)."""

from __future__ import annotations

import torch

from SpikeRegLib.space.filters import box_sum

# Windows with less intensity variance than this (images in [0, 1]) count as flat: they say nothing about alignment.
FLAT_VARIANCE = 1e-4


class LocalCorrelation:
    """Mean squared local correlation of a fixed image with moving ones; the fixed statistics are computed once.

    Over the n voxels of the cube around p: c = cov(F, M), a = var(F), b = var(M) (sums, not means), and
    lncc(p) = c^2 / ((a + n e) (b + n e)), with e the noise variance. The mean runs over windows that are not flat in F.
    The derivative of the sum with respect to M(x) collects every window that contains x:
    F box(A) - M box(C) + box(C mean_M - A mean_F), A = 2 c / (a' b'), C = 2 c^2 / (a' b'^2), three box filters forward
    and three back.

    Args:
        fixed: [D, H, W] in [0, 1].
        window: edge of the cube in voxels, odd.
        noise: e, the intensity variance below which contrast is taken for noise. Small: where e is not far below the
            variance of the moving image, gaining contrast there pays more than aligning.
        weight: [D, H, W] weight of each window, None for 1.
    """

    def __init__(
        self, fixed: torch.Tensor, *, window: int = 5, noise: float = 1e-5, weight: torch.Tensor | None = None
    ) -> None:
        self._fixed, self._window, self._count = fixed, window, window**3
        self._noise = noise * self._count
        total = box_sum(fixed, window)
        self._fixed_mean = total / self._count
        variance = (box_sum(fixed * fixed, window) - total * self._fixed_mean).clamp_(min=0)
        support = (variance > FLAT_VARIANCE * self._count).to(fixed.dtype)
        self._weight = support if weight is None else support * weight
        self._weight = self._weight / self._weight.sum().clamp(min=1)
        self._inverse = 1 / (variance + self._noise)

    def _statistics(self, moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mean_M, c / (a' b') and 1 / b' of every window."""
        total = box_sum(moving, self._window)
        mean = total / self._count
        inverse = box_sum(moving * moving, self._window)
        inverse.addcmul_(total, mean, value=-1).clamp_(min=0).add_(self._noise).reciprocal_()
        covariance = box_sum(moving * self._fixed, self._window).addcmul_(total, self._fixed_mean, value=-1)
        return mean, covariance, inverse

    def value(self, moving: torch.Tensor) -> float:
        """Mean local correlation in [0, 1]; 1 is perfect."""
        _, covariance, inverse = self._statistics(moving)
        return float((covariance.square_().mul_(self._inverse).mul_(inverse) * self._weight).sum())

    def value_and_gradient(self, moving: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The value, and its derivative with respect to every voxel of `moving` [D, H, W]."""
        mean, covariance, inverse = self._statistics(moving)
        first = (covariance * self._inverse).mul_(inverse).mul_(self._weight)
        second = covariance.mul_(first)
        value = float(second.sum())
        second.mul_(inverse)
        mean.mul_(second).addcmul_(first, self._fixed_mean, value=-1)
        gradient = box_sum(mean, self._window)
        gradient.addcmul_(self._fixed, box_sum(first, self._window))
        gradient.addcmul_(moving, box_sum(second, self._window), value=-1)
        return value, gradient.mul_(2)
