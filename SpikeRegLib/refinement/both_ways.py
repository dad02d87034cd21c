"""Coarse levels optimised both ways: fixed -> moving, and moving -> fixed inverted; the finer ones start from the mean.

An optimisation favours the image whose grid it works on (its voxels are weighed, its slopes are not), and what it makes
of noise is its own. The mean of both ways has less of either: on pairs of development subjects about the same overlap
at less roughness (`Benchmarks/anatomy_uses.py`: all, and all, one way). Symmetric methods (Avants et al. 2008) optimise
both at once; here each way is the plain optimisation, so that everything it can do is the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.progress import Listener, part_of_stage, silent
from SpikeRegLib.refinement.feature_maps import FeatureMaps
from SpikeRegLib.refinement.refine import OptimisedField, refine
from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.inversion import invert_field
from SpikeRegLib.space.known import Known

# The inverse is a start, and need not be solved further.
_TOLERANCE_MM = 0.02
# The brightness above which the moving image counts, where the fixed one has the weight of its mask.
_SEEN = 1e-3


def refine_both_ways(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    *,
    spacing_mm: float,
    schedule: RefinementSchedule,
    mask: torch.Tensor | None = None,
    itk_jacobian: torch.Tensor | None = None,
    known: Known | None = None,
    maps: FeatureMaps | None = None,
    listener: Listener = silent,
    **how: Any,
) -> OptimisedField:
    """The first `schedule.both_ways` levels both ways, from no displacement; then the others from the mean.

    Args:
        schedule: with `both_ways` of at least 1.
        fixed, moving, spacing_mm, mask, itk_jacobian, known, maps, listener, how: see `refine`.

    Returns:
        As from `refine`; where the mean led to a smaller similarity than there was at the beginning, what the way fixed
        -> moving found alone, which is never worse.

    Raises:
        InputError: see `refine`.
    """
    count = schedule.both_ways
    coarse = replace(schedule, levels=schedule.levels[:count], both_ways=0)
    fine = replace(schedule, levels=schedule.levels[count:], both_ways=0)
    common = {"spacing_mm": spacing_mm, **how}
    there = refine(
        fixed, moving, schedule=coarse, mask=mask, itk_jacobian=itk_jacobian, known=known, maps=maps,
        listener=part_of_stage(listener, 0.0, 0.3), **common,
    )  # fmt: skip
    seen = (moving > _SEEN if moving.ndim == 3 else (moving > _SEEN).any(0)).float()
    back = refine(
        moving, fixed, schedule=coarse, mask=None if mask is None else seen, known=_exchanged(known),
        maps=None if maps is None else FeatureMaps(maps.moving, maps.fixed, maps.weight, maps.grid),
        listener=part_of_stage(listener, 0.3, 0.6), **common,
    )  # fmt: skip
    mean = (there.field + _inverse(back.field, back.grid)) / 2
    found = refine(
        fixed, moving, schedule=fine, mask=mask, itk_jacobian=itk_jacobian, known=known, maps=maps, initial=mean,
        initial_grid=there.grid, listener=part_of_stage(listener, 0.6, 1.0), **common,
    )  # fmt: skip
    if found.similarity_after < there.similarity_before:
        return there
    return replace(
        found,
        similarity_before=there.similarity_before,
        iterations=(*(a + b for a, b in zip(there.iterations, back.iterations, strict=True)), *found.iterations),
        accepted=True,
    )


def _exchanged(known: Known | None) -> Known | None:
    return None if known is None else Known(known.moving, known.fixed)


def _inverse(field: torch.Tensor, grid: Grid) -> torch.Tensor:
    """[3, d, h, w] mm on `grid`: the displacement that undoes `field`."""
    own = Frame(grid.shape, (0.0, 0.0, 0.0), (grid.spacing_mm,) * 3)
    inverse, frame = invert_field(field, own, tolerance_mm=_TOLERANCE_MM)
    i, j, k = (round(-first / grid.spacing_mm) for first in frame.origin)
    depth, height, width = grid.shape
    return inverse[:, k : k + depth, j : j + height, i : i + width]
