"""What speaks for and against a deformation at every point: residual of the images, their texture, and strain.

All lengths are as if the voxels were 2 mm (a brain's are), so that a mouse and a man are looked at alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from SpikeRegLib.similarity.losses import known_lncc_map, lncc_map
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import resample

# Voxels are called so large, whatever they are.
NOMINAL_MM = 2.0
# Standard deviation of the neighbourhoods, in voxels.
_NEAR, _WIDE, _EDGE = 1.5, 4.0, 3.0
_WINDOW = 5

EVIDENCE = (
    "dissimilarity", "dissimilarity_wide", "texture", "residual_shift", "residual_flow", "weakest_texture",
    "strain", "strain_wide", "bending", "unevenness", "length", "depth", "pair_dissimilarity", "pair_strain",
)  # fmt: skip


def evidence_of(pair: Pair, deformation: Deformation) -> dict[str, torch.Tensor]:
    """Everything of `EVIDENCE`, each [D, H, W] on the grid of `pair`.

    Args:
        pair: images on the coarser of the two working grids.
        deformation: fixed -> aligned moving.

    Returns:
        dissimilarity: 1 - LNCC. texture: root of the mean squared slope of the fixed image. weakest_texture: the same
        in the direction in which it is least. residual_shift: difference of the images over that slope, mm.
        residual_flow: what one step of optical flow would still move, mm. strain: size of the deformation's gradient.
        bending: of its second derivatives, 1/mm. unevenness: how far it lies from its own smoothed version, mm. length:
        of the displacement, mm. depth: how far inside the mask. pair_...: the mean over the mask. What is not known in
        both images counts nowhere.
    """
    u = _nominal(pair, deformation)
    fixed, moving = pair.comparison.of_fixed(pair.fixed), pair.comparison.of_moving(pair.moving)
    seen = warp(moving[None], u[None] / NOMINAL_MM)[0]
    known = known_to(pair, deformation)
    counted = pair.mask & known
    near, wide = mean_over(counted, _NEAR), mean_over(counted, _WIDE)
    alike = [
        lncc_map(a, b, window=_WINDOW) if pair.known is None else known_lncc_map(a, b, known.float(), window=_WINDOW)
        for a, b in zip(fixed, seen, strict=True)
    ]
    unlike = 1 - torch.stack(alike).mean(0)
    slope = _slopes(fixed[0])
    squared = near(slope.square().sum(0))
    difference = fixed[0] - seen[0]
    difference = difference - wide(difference)
    tensor = [[near(slope[i] * slope[j]) for j in range(3)] for i in range(3)]
    flow = torch.stack([near(difference * part) for part in slope])
    gradient = torch.stack([_slopes(component) for component in u])
    strain = gradient.square().sum((0, 1)).sqrt()
    second = sum(
        (_slopes(gradient[c, a]).square().sum(0) for c in range(3) for a in range(3)), torch.zeros_like(strain)
    )
    return {
        "dissimilarity": near(unlike),
        "dissimilarity_wide": wide(unlike),
        "texture": squared.sqrt(),
        "residual_shift": (near(difference.square()) / (squared + 1e-4)).sqrt(),
        "residual_flow": flow.norm(dim=0) / (squared + 1e-4),
        "weakest_texture": _least_eigenvalue(tensor).clamp_min(0).sqrt(),
        "strain": near(strain),
        "strain_wide": wide(strain),
        "bending": near(second.sqrt()),
        "unevenness": (u - gaussian(u, 1.5 * _WIDE)).norm(dim=0),
        "length": u.norm(dim=0),
        "depth": gaussian(pair.mask.float()[None], _EDGE)[0],
        "pair_dissimilarity": _everywhere(unlike, counted),
        "pair_strain": _everywhere(strain, counted),
    }


def known_to(pair: Pair, deformation: Deformation) -> torch.Tensor:
    """[D, H, W] bool, where both images are known, the moving one seen through the deformation."""
    if pair.known is None:
        return torch.ones_like(pair.mask)
    field = resample(deformation.field, deformation.grid, pair.grid)
    return pair.known.seen_through(pair.grid.to_voxels(field)).counts > 0.5


def _nominal(pair: Pair, deformation: Deformation) -> torch.Tensor:
    return resample(deformation.field, deformation.grid, pair.grid) * (NOMINAL_MM / pair.grid.spacing_mm)


def _slopes(values: torch.Tensor) -> torch.Tensor:
    """[3, D, H, W] of [D, H, W], per mm."""
    return torch.stack(torch.gradient(values, spacing=NOMINAL_MM))


def mean_over(mask: torch.Tensor, sigma: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The Gaussian mean, of so many voxels of standard deviation, of what lies in the mask [D, H, W]."""
    weight = mask.float()
    norm = gaussian(weight[None], sigma)[0].clamp_min(1e-3)
    return lambda values: gaussian((values * weight)[None], sigma)[0] / norm


def _everywhere(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values[mask].mean().expand_as(values)


def _least_eigenvalue(tensor: list[list[torch.Tensor]]) -> torch.Tensor:
    """Of symmetric 3 x 3 tensors, by the trigonometric formula (Smith 1961), which costs a tenth of the general one."""
    mean = (tensor[0][0] + tensor[1][1] + tensor[2][2]) / 3
    a, b, c = (tensor[n][n] - mean for n in range(3))
    d, e, f = tensor[0][1], tensor[0][2], tensor[1][2]
    p = ((a * a + b * b + c * c + 2 * (d * d + e * e + f * f)) / 6).sqrt().clamp_min(1e-12)
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = torch.arccos((determinant / (2 * p**3)).clamp(-1, 1)) / 3
    return mean + 2 * p * torch.cos(angle + 2 * torch.pi / 3)
