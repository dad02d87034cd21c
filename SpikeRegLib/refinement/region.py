"""The part of the working frame that a refinement may change, fading to nothing inside its edge."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import max_pool3d, pad

from SpikeRegLib.refinement.diffeomorphic import folds
from SpikeRegLib.refinement.grids import Grid

# Over so many mm (at brain scale) inside the edge, changes grow from nothing to their full size.
TAPER_MM = 6.0


class Region:
    """Where a field may change.

    A node of a field acts on the cells around it. So that nothing outside the region changes at all, nodes nearer to
    the edge than their own spacing do not move; from there on changes fade in.

    Args:
        inside: [D, H, W] bool on the working frame.
        frame: that frame's grid.
        taper_mm: over which changes fade in.
    """

    def __init__(self, inside: torch.Tensor, frame: Grid, *, taper_mm: float = TAPER_MM) -> None:
        self._frame, self._taper_mm, self._inside = frame, taper_mm, inside
        self._weights: dict[Grid, torch.Tensor] = {}
        index = inside.nonzero()
        self._first = index.amin(0).tolist() if len(index) else [0, 0, 0]
        self._last = index.amax(0).tolist() if len(index) else [0, 0, 0]
        self._depth: torch.Tensor | None = None
        self._steps = 0

    @property
    def content(self) -> tuple[list[int], list[int]]:
        """First and last index of the region along each axis of the working frame."""
        return self._first, self._last

    def weight_on(self, grid: Grid) -> torch.Tensor:
        """[d, h, w] in [0, 1] on `grid`, a field's grid that starts at the first voxel of the working frame."""
        if grid not in self._weights:
            spacing = self._frame.spacing_mm
            rim = grid.spacing_mm + spacing
            depth = self._depth_mm(rim + self._taper_mm)
            ratio = grid.spacing_mm / spacing
            nodes = [
                # The smaller depth of the two voxels beside a node that lies between them.
                torch.stack([(torch.arange(n) * ratio + o).floor().long() for o in (1e-4, 1 - 1e-4)])
                for n in grid.shape
            ]
            for axis, (low, high) in enumerate(nodes):
                beyond = high >= depth.shape[axis]
                low, high = (i.clamp(max=depth.shape[axis] - 1) for i in (low, high))
                depth = torch.minimum(depth.index_select(axis, low), depth.index_select(axis, high))
                depth.index_fill_(axis, beyond.nonzero()[:, 0], 0.0)
            share = ((depth - rim) / self._taper_mm).clamp(0, 1)
            self._weights[grid] = share * share * (3 - 2 * share)
        return self._weights[grid]

    def _depth_mm(self, most_mm: float) -> torch.Tensor:
        """[D, H, W] how far each voxel lies inside, along the nearest axis, up to about `most_mm`."""
        steps = math.ceil(most_mm / self._frame.spacing_mm) + 1
        if self._depth is None or steps > self._steps:
            (a, b, c), (d, e, f) = self._first, (n + 1 for n in self._last)
            outside = pad(1 - self._inside[a:d, b:e, c:f].float(), (1,) * 6, value=1.0)
            depth = torch.zeros_like(outside)
            for _ in range(steps):
                depth += 1 - outside
                outside = max_pool3d(outside[None], 3, stride=1, padding=1)[0]
            whole = torch.zeros(self._frame.shape)
            whole[a:d, b:e, c:f] = (depth[1:-1, 1:-1, 1:-1] - 1).clamp(min=0) * self._frame.spacing_mm
            self._depth, self._steps = whole, steps
        return self._depth


def changed_only_inside(
    weight: torch.Tensor, field: torch.Tensor, start: torch.Tensor, linear: torch.Tensor | None = None
) -> torch.Tensor:
    """`field` where `weight` is above 0 and exactly `start` elsewhere, without folds.

    Args:
        weight: [d, h, w], see `Region.weight_on`.
        field, start: [3, d, h, w] in voxels, both without folds.
        linear: second reading of the Jacobian, see `as_itk_sees`.
    """
    for share in (1.0, 0.75, 0.5, 0.25):
        candidate = torch.where(weight > 0, torch.lerp(start, field, share), start)
        if not folds(candidate, linear=linear):
            return candidate
    return start
