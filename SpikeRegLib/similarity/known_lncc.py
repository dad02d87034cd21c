"""Local normalised cross-correlation of images that are known in part, and its gradient in closed form."""

from __future__ import annotations

import torch

from SpikeRegLib.similarity.lncc_gradient import FLAT_VARIANCE
from SpikeRegLib.space.filters import box_sum

# Of a window so much must be known to be compared.
_LEAST_SHARE = 0.2


class KnownCorrelation:
    """`LocalCorrelation`, every sum over a window running over what is known of both images in it.

    What is known of the moving image moves with it, so the sums of the fixed one are computed anew each time: six box
    filters forward instead of three. Windows around a voxel that is not known do not count.

    Args:
        fixed: [D, H, W] in [0, 1].
        window: edge of the cube in voxels, odd.
        noise: the intensity variance below which contrast is taken for noise.
        weight: [D, H, W] weight of each window, None for 1.
        counts: [D, H, W] in [0, 1], how far each voxel of `fixed` is known.
    """

    def __init__(
        self, fixed: torch.Tensor, *, window: int = 5, noise: float = 1e-5, weight: torch.Tensor | None = None,
        counts: torch.Tensor,
    ) -> None:  # fmt: skip
        self._fixed, self._window, self._noise, self._counts = fixed, window, noise, counts
        self._weight = counts if weight is None else counts * weight

    def value(self, moving: torch.Tensor, known: torch.Tensor) -> float:
        """Mean local correlation in [0, 1]; 0 where nothing is known in common. `known`: of `moving`, [D, H, W]."""
        first, covariance, *_ = self._statistics(moving, known)
        return float((covariance * first).sum())

    def value_and_gradient(self, moving: torch.Tensor, known: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The value, and its derivative with respect to every voxel of `moving` [D, H, W]; `known` is a constant."""
        first, covariance, inverse, mean_fixed, mean_moving, both = self._statistics(moving, known)
        second = covariance * first
        value = float(second.sum())
        second *= inverse
        gradient = box_sum(mean_moving.mul_(second).addcmul_(first, mean_fixed, value=-1), self._window)
        gradient.addcmul_(self._fixed, box_sum(first, self._window))
        gradient.addcmul_(moving, box_sum(second, self._window), value=-1)
        return value, gradient.mul_(both).mul_(2)

    def _statistics(self, moving: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """w c / (a' b'), c, 1 / b', both means and what is known of both, of every window."""
        window, fixed, both = self._window, self._fixed, self._counts * known
        count = box_sum(both, window)
        share = count.clamp(min=1e-3)
        seen_fixed, seen_moving = fixed * both, moving * both
        mean_fixed, mean_moving = box_sum(seen_fixed, window).div_(share), box_sum(seen_moving, window).div_(share)
        covariance = box_sum(seen_fixed * moving, window).addcmul_(mean_fixed * mean_moving, share, value=-1)
        variance = box_sum(seen_fixed * fixed, window).addcmul_(mean_fixed.square(), share, value=-1).clamp_(min=0)
        inverse = box_sum(seen_moving * moving, window).addcmul_(mean_moving.square(), share, value=-1).clamp_(min=0)
        enough = (variance > FLAT_VARIANCE * share) & (count > _LEAST_SHARE * window**3)
        weight = enough * self._weight * known
        inverse.addcmul_(share, share.new_tensor(self._noise)).reciprocal_()
        first = covariance / variance.addcmul_(share, share.new_tensor(self._noise))
        first.mul_(inverse).mul_(weight).div_(weight.sum().clamp(min=1))
        return first, covariance, inverse, mean_fixed, mean_moving, both
