"""The inverse of a deformation on a finer grid than its own: an inverse bends more sharply than what it undoes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn.functional import max_pool3d

from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.space import sampling
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.inversion import invert_field
from SpikeRegLib.space.transforms import DisplacementTransform

# Where a deformation compresses, its inverse stretches: its grid needs nodes that lie closer by about this much.
FINER = 1.7
# Beyond so many nodes the finer grid is left out: it would cost more than the deformation's own grid loses.
_MOST_NODES = 5_000_000
# The inverse on the deformation's own grid only starts the correction, and need not be solved further than this.
_COARSE_TOLERANCE_MM = 0.02
# A straight line between the coarse nodes may miss the inverse by so much before the finer nodes there are corrected.
_STRAIGHT_MM = 0.04
# A longer step of the correction is checked before it is taken.
_SMALL_STEP_MM = 0.1
# Nodes corrected between two ticks.
_CHUNK = 2**17
# Parts of the work that are done once the inverse is solved on the coarse grid, and interpolated to the finer one.
_COARSE_SHARE, _INTERPOLATED_SHARE = 0.4, 0.5


def fine_inverse(
    deformation: DisplacementTransform, *, finer: float = FINER, tick: Tick = unheard
) -> DisplacementTransform:
    """The inverse of `deformation`, solved on its own grid, interpolated to a finer one and corrected where it bends.

    The correction is a Newton step whose derivative comes from the inverse itself, (I + Du)^-1 = I + Dv; a long one is
    kept only where it makes the error smaller. A second one gains next to nothing.

    Args:
        deformation: x -> x + u(x) on an isotropic grid with the axes of the patient.
        finer: ratio of the two grids' spacings.
        tick: called between the steps with the part of them that is done; what it raises ends the work.

    Returns:
        y -> y + v(y), v in mm, on a grid that covers every point the deformation reaches from its own; the
            deformation's own spacing where the finer grid would be too large.
    """
    source = Grid(deformation.frame.shape, deformation.frame.spacing[0])
    if math.prod(source.coarser(source.spacing_mm / finer).shape) > _MOST_NODES:
        return deformation.inverse()
    coarse = DisplacementTransform(
        *invert_field(deformation.field, deformation.frame, tolerance_mm=_COARSE_TOLERANCE_MM)
    )
    tick(_COARSE_SHARE)
    source = Grid(coarse.frame.shape, coarse.frame.spacing[0])
    target = source.coarser(source.spacing_mm / finer)
    frame = replace(coarse.frame, shape=target.shape, spacing=(target.spacing_mm,) * 3)
    field = resample(coarse.field, source, target)
    tick(_INTERPOLATED_SHARE)
    nodes = _on_finer(_bent(coarse.field), source, target).flatten().nonzero()[:, 0]
    corrected = []
    parts = nodes.split(_CHUNK)
    for number, part in enumerate(parts, 1):
        corrected.append(_corrected(field, target, frame.origin, deformation, part))
        tick(_INTERPOLATED_SHARE + (1 - _INTERPOLATED_SHARE) * number / len(parts))
    if corrected:
        field.flatten(1)[:, nodes] = torch.cat(corrected, 1)
    return DisplacementTransform(field, frame)


def _bent(field: torch.Tensor) -> torch.Tensor:
    """[D, H, W] bool: whether linear interpolation misses a smooth `field` in one of the cells next to a node.

    Half way between nodes it misses by h^2 f'' / 8 along each axis; f'' from second differences.
    """
    miss = torch.zeros(field.shape[1:])
    for axis in (1, 2, 3):
        n = field.shape[axis] - 2
        before, here, after = (field.narrow(axis, start, n) for start in range(3))
        miss.narrow(axis - 1, 1, n).add_((before + after).sub_(here, alpha=2).square_().sum(0).sqrt_(), alpha=1 / 8)
    return max_pool3d((miss > _STRAIGHT_MM).float()[None], 3, stride=1, padding=1)[0] > 0


def _on_finer(nodes: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """What the nearest node of `source` has, on `target`; its outermost layer is left out."""
    ratio = target.spacing_mm / source.spacing_mm
    for axis, (n, m) in enumerate(zip(target.shape, source.shape, strict=True)):
        nearest = (torch.arange(n) * ratio).round().long().clamp_(max=m - 1)
        nodes = nodes.index_select(axis, nearest)
        nodes.narrow(axis, 0, 1).fill_(False)
        nodes.narrow(axis, n - 1, 1).fill_(False)
    return nodes


def _corrected(
    field: torch.Tensor, grid: Grid, origin: tuple[float, float, float], deformation: DisplacementTransform,
    nodes: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """[3, N] the field at inner `nodes` (flat indices) of `grid` after a Newton step."""
    _, height, width = grid.shape
    flat = field.flatten(1)
    index = torch.stack((nodes % width, nodes // width % height, nodes // (width * height)))
    # float32 holds what is small: coordinates of the deformation's grid, and displacements.
    to_unit = sampling.unit_matrix(deformation.frame)
    centre = torch.from_numpy(to_unit[:3, :3] @ origin + to_unit[:3, 3]).float()[:, None]
    scale = torch.from_numpy(to_unit.diagonal()[:3].copy()).float()[:, None]
    place = (index * (scale * grid.spacing_mm)).add_(centre)

    def error_of(v: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        unit = torch.addcmul(place, v, scale)[:, None, None]
        return sampling.linear(deformation.field, unit, 0.0)[:, 0, 0].add_(v)

    v = flat[:, nodes]
    error = error_of(v, place)
    trial = v - error
    for component, step in enumerate((1, width, width * height)):
        slope = (flat[:, nodes + step] - flat[:, nodes - step]).div_(2 * grid.spacing_mm)
        trial.addcmul_(slope, error[component], value=-1)
    far = ((trial - v).square_().sum(0) > _SMALL_STEP_MM**2).nonzero()[:, 0]
    left = error_of(trial[:, far], place[:, far]).square_().sum(0)
    worse = far[left >= error[:, far].square_().sum(0)]
    trial[:, worse] = v[:, worse]
    return trial
