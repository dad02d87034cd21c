"""Differentiable similarity and regularity terms for training."""

from __future__ import annotations

import torch

from SpikeRegLib.space.filters import box_sum


def lncc_map(fixed: torch.Tensor, moving: torch.Tensor, *, window: int = 9, epsilon: float = 1e-5) -> torch.Tensor:
    """Squared local normalised cross-correlation of each voxel, in [0, 1]; flat regions give 0, not 1.

    Args:
        fixed, moving: [..., D, H, W], intensities in [0, 1].
        window: edge of the cube in voxels, odd. Beyond the border of the grid the images count as zero.
        epsilon: variance (intensity squared) below which a region counts as flat.
    """
    count = float(window**3)
    sums = box_sum(torch.stack((fixed, moving, fixed * fixed, moving * moving, fixed * moving)), window) / count
    mean_f, mean_m, ff, mm, fm = sums.unbind(0)
    covariance = fm - mean_f * mean_m
    variance_f = (ff - mean_f * mean_f).clamp_min(0)
    variance_m = (mm - mean_m * mean_m).clamp_min(0)
    return covariance * covariance / ((variance_f + epsilon) * (variance_m + epsilon))


def known_lncc_map(
    fixed: torch.Tensor, moving: torch.Tensor, known: torch.Tensor, *, window: int = 9, epsilon: float = 1e-5
) -> torch.Tensor:
    """`lncc_map` with every mean over what is known in the window alone: [D, H, W] in [0, 1], how far a voxel is."""
    volumes = torch.stack((torch.ones_like(fixed), fixed, moving, fixed * fixed, moving * moving, fixed * moving))
    count, *sums = box_sum(volumes * known, window).unbind(0)
    mean_f, mean_m, ff, mm, fm = (total / count.clamp_min(1e-3) for total in sums)
    covariance = fm - mean_f * mean_m
    variance_f = (ff - mean_f * mean_f).clamp_min(0)
    variance_m = (mm - mean_m * mean_m).clamp_min(0)
    return covariance * covariance / ((variance_f + epsilon) * (variance_m + epsilon))


def lncc(
    fixed: torch.Tensor, moving: torch.Tensor, *, window: int = 9, mask: torch.Tensor | None = None,
    known: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Mean squared local normalised cross-correlation over `mask` (or the whole grid): higher is more alike.

    Args:
        fixed, moving, window: as for `lncc_map`.
        mask: [D, H, W] weight of each window.
        known: [D, H, W] in [0, 1], how far the voxels of both images are known; the others do not count.
    """
    if known is None:
        similarity = lncc_map(fixed, moving, window=window)
    else:
        similarity = known_lncc_map(fixed, moving, known, window=window)
        mask = known if mask is None else known * mask
    if mask is None:
        return similarity.mean()
    return (similarity * mask).sum() / mask.sum().clamp_min(1)


def diffusion(field: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Mean squared forward differences of a field in mm, per mm: dimensionless (mm/mm).

    Args:
        field: [..., 3, D, H, W] in mm on an isotropic grid.
        spacing_mm: of that grid.
    """
    terms = [(torch.diff(field, dim=axis) ** 2).mean() for axis in (-3, -2, -1)]
    return (terms[0] + terms[1] + terms[2]) / spacing_mm**2


def bending_energy(field: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Mean squared second differences of a field in mm, in 1/mm^2 (mixed terms counted twice)."""
    total = field.new_zeros(())
    for first in (-3, -2, -1):
        for second in (-3, -2, -1):
            if second < first:
                continue
            term = (torch.diff(torch.diff(field, dim=first), dim=second) ** 2).mean()
            total = total + (term if first == second else 2 * term)
    return total / spacing_mm**4


def soft_dice(fixed: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
    """Mean Dice overlap of soft label maps, over the labels present in `fixed`.

    Args:
        fixed, warped: [..., labels, D, H, W] with values in [0, 1].

    Returns:
        A scalar, 1 for equal maps; not a number where `fixed` has no label at all.
    """
    axes = (-3, -2, -1)
    overlap = 2 * (fixed * warped).sum(axes)
    volume = (fixed * fixed).sum(axes) + (warped * warped).sum(axes)
    present = fixed.sum(axes) > 0
    return (overlap / volume.clamp_min(1e-6))[present].mean()
