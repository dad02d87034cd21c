"""A neural field sampled on a grid where it matters: exactly near the content, from a wide grid elsewhere."""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool3d

from SpikeRegLib.neural_field.codes import positions_on
from SpikeRegLib.neural_field.field import NeuralField
from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.space.grids import Grid, resample

# Spacing of the nodes that stand for everything outside the content.
WIDE_MM = 8.0
# Points decoded together: what they need stays in the processor's cache.
_TOGETHER = 4096


def near_content(image: torch.Tensor, frame: Grid, grid: Grid, reach_mm: float) -> torch.Tensor:
    """[d, h, w] bool on `grid`: nodes at most about `reach_mm` from a voxel of the [C, D, H, W] image above zero."""
    there = (image > 1e-3).any(0).float()
    near = resample(there, frame, grid, sigma_mm=max(frame.spacing_mm, 0.35 * grid.spacing_mm)) > 0.05
    steps = round(reach_mm / grid.spacing_mm)
    if steps:
        near = max_pool3d(near[None].float(), 2 * steps + 1, stride=1, padding=steps)[0] > 0
    return near


@torch.no_grad()
def sampled(field: NeuralField, grid: Grid, near: torch.Tensor, tick: Tick = unheard) -> torch.Tensor:
    """[3, d, h, w] displacement in mm at the nodes of `grid`.

    Args:
        near: [d, h, w] bool, nodes where it is exact; the others are interpolated from nodes `WIDE_MM` apart.
        tick: called between parts of the work.
    """
    wide = grid.coarser(max(WIDE_MM, grid.spacing_mm))
    tick(0.0)
    out = resample(field.displacement_on(wide), wide, grid)
    index = near.flatten().nonzero()[:, 0]
    flat = out.reshape(3, -1)
    pairs = zip(index.split(_TOGETHER), positions_on(grid)[index].split(_TOGETHER), strict=True)
    for number, (chosen, position) in enumerate(pairs):
        tick(number * _TOGETHER / max(1, len(index)))
        flat[:, chosen] = (field.points(position) - position).t()
    return flat.reshape(3, *grid.shape)
