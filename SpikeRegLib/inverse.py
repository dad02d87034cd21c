"""The inverse of a deformation on a finer grid than its own: an inverse bends more sharply than what it undoes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.transforms import CompositeTransform, DisplacementTransform

# Where a deformation compresses, its inverse stretches: its grid needs nodes that lie closer by about this much.
FINER = 1.7
# Beyond so many nodes the finer grid is left out: it would cost more than the deformation's own grid loses.
_MOST_NODES = 5_000_000


def fine_inverse(
    deformation: DisplacementTransform, *, finer: float = FINER, tick: Callable[[], None] = lambda: None
) -> DisplacementTransform:
    """The inverse of `deformation`, solved on its own grid, then interpolated to a finer one and corrected there.

    The correction is a Newton step whose derivative comes from the inverse itself, (I + Du)^-1 = I + Dv, and is kept
    where it makes the error smaller. A second one gains next to nothing.

    Args:
        deformation: x -> x + u(x) on an isotropic grid with the axes of the patient.
        finer: ratio of the two grids' spacings.
        tick: called between the steps; what it raises ends the work.

    Returns:
        y -> y + v(y), v in mm, on a grid that covers every point the deformation reaches from its own; the
            deformation's own spacing where the finer grid would be too large.
    """
    coarse = deformation.inverse()
    tick()
    source = Grid(coarse.frame.shape, coarse.frame.spacing[0])
    target = source.coarser(source.spacing_mm / finer)
    if math.prod(target.shape) > _MOST_NODES:
        return coarse
    frame = replace(coarse.frame, shape=target.shape, spacing=(target.spacing_mm,) * 3)

    def error_of(v: torch.Tensor) -> torch.Tensor:
        return CompositeTransform([DisplacementTransform(v, frame), deformation]).displacement_on(frame)

    field = resample(coarse.field, source, target)
    tick()
    error = error_of(field)
    tick()
    trial = field - error
    for component, axis in enumerate((3, 2, 1)):
        tick()
        trial.addcmul_(torch.gradient(field, spacing=target.spacing_mm, dim=axis)[0], error[component], value=-1)
    tick()
    better = error_of(trial).square().sum(0) < error.square().sum(0)
    return DisplacementTransform(torch.where(better, trial, field), frame)
