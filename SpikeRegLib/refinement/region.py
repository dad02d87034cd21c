"""The part of the working frame that a refinement may change, fading to nothing inside its edge."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import max_pool3d, pad

from SpikeRegLib.images.boxes import Box, bounding_box
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.grids import Grid

# Over so many mm (at brain scale) inside the edge, changes grow from nothing to their full size.
TAPER_MM = 6.0
# Repairs of folds at the edge reach outside, where they are undone; so often, then the change is made smaller.
_ROUNDS = 8


class Region:
    """Where a field may change.

    A node of a field acts on the cells around it. So that nothing outside the region changes at all, nodes nearer to
    the edge than their own spacing do not move; from there on changes fade in.

    Args:
        inside: [D, H, W] bool on the working frame.
        frame: that frame's grid.
        taper_mm: over which changes fade in.

    Attributes:
        content: first and last index of the region along each axis of the frame.
    """

    def __init__(self, inside: torch.Tensor, frame: Grid, *, taper_mm: float = TAPER_MM) -> None:
        self._frame, self._taper_mm, self._inside = frame, taper_mm, inside
        self._weights: dict[Grid, torch.Tensor] = {}
        self.content: Box = bounding_box(inside) or ([0, 0, 0], [0, 0, 0])
        self._depth: torch.Tensor | None = None
        self._steps = 0

    def inside_on(self, grid: Grid) -> torch.Tensor:
        """[d, h, w] bool, where alone anything may change."""
        return self.weight_on(grid) > 0

    def weight_on(self, grid: Grid) -> torch.Tensor:
        """[d, h, w] in [0, 1] on `grid`, a field's grid that starts at the first voxel of the working frame."""
        if grid not in self._weights:
            spacing, rim = self._frame.spacing_mm, self._rim_mm(grid)
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

    def thinnest_mm(self, grid: Grid) -> float:
        """How far a region reaches at least along every axis if a field on `grid` is to change fully in it."""
        return 2 * (self._rim_mm(grid) + self._taper_mm + self._frame.spacing_mm)

    def _rim_mm(self, grid: Grid) -> float:
        """Nodes at most so deep inside do not move, as cells that they bound reach outside."""
        return grid.spacing_mm + self._frame.spacing_mm

    def _depth_mm(self, most_mm: float) -> torch.Tensor:
        """[D, H, W] how far each voxel lies inside, along the nearest axis, up to about `most_mm`."""
        steps = math.ceil(most_mm / self._frame.spacing_mm) + 1
        if self._depth is None or steps > self._steps:
            (a, b, c), (d, e, f) = self.content[0], (n + 1 for n in self.content[1])
            outside = pad(1 - self._inside[a:d, b:e, c:f].float(), (1,) * 6, value=1.0)
            depth = torch.zeros_like(outside)
            for _ in range(steps):
                depth += 1 - outside
                outside = max_pool3d(outside[None], 3, stride=1, padding=1)[0]
            whole = torch.zeros(self._frame.shape)
            whole[a:d, b:e, c:f] = (depth[1:-1, 1:-1, 1:-1] - 1).clamp(min=0) * self._frame.spacing_mm
            self._depth, self._steps = whole, steps
        return self._depth


class Neighbourhood:
    """Where a field may change that is refined around points: fully near them, not at all beyond their reach.

    Args:
        points: [N, 3] float64, (x, y, z) mm from the first voxel of the working frame.
        reach_mm: changes fade from half of it on.
        frame: the working frame's grid.
        within: limits it further.

    Attributes:
        content: first and last index along each axis of the frame between which changes can happen.
    """

    def __init__(self, points: torch.Tensor, reach_mm: float, frame: Grid, within: Region | None = None) -> None:
        self._points, self._reach_mm, self._within = points.flip(1), reach_mm, within  # (D, H, W)
        last = torch.tensor(frame.shape) - 1
        low = ((self._points.amin(0) - reach_mm) / frame.spacing_mm).floor().long().clamp(min=0)
        high = ((self._points.amax(0) + reach_mm) / frame.spacing_mm).ceil().long()
        first, end = torch.minimum(low, last), torch.minimum(high, last)
        if within is not None:
            first = torch.maximum(first, torch.tensor(within.content[0]))
            end = torch.maximum(first, torch.minimum(end, torch.tensor(within.content[1])))
        self.content: Box = (first.tolist(), end.tolist())
        self._weights: dict[Grid, torch.Tensor] = {}

    def inside_on(self, grid: Grid) -> torch.Tensor | None:
        """[d, h, w] bool, where alone anything may change, if that matters."""
        return None if self._within is None else self._within.inside_on(grid)

    def weight_on(self, grid: Grid) -> torch.Tensor:
        """[d, h, w] in [0, 1] on `grid`, a field's grid that starts at the first voxel of the working frame."""
        if grid not in self._weights:
            nearest = torch.full(grid.shape, math.inf)
            axes = [torch.arange(n) * grid.spacing_mm for n in grid.shape]
            for point in self._points:
                boxes, squares = [], []
                for axis, centre in zip(axes, point, strict=True):
                    near = ((axis - centre).abs() <= self._reach_mm).nonzero()[:, 0]
                    boxes.append(slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(0, 0))
                    squares.append((axis[boxes[-1]] - centre).square().float())
                z, y, x = squares
                part = nearest[boxes[0], boxes[1], boxes[2]]
                torch.minimum(part, z[:, None, None] + y[:, None] + x, out=part)
            share = (2 - 2 * nearest.sqrt() / self._reach_mm).clamp(0, 1)
            weight = share * share * (3 - 2 * share)
            self._weights[grid] = weight if self._within is None else weight * self._within.weight_on(grid)
        return self._weights[grid]


def changed_only_inside(
    inside: torch.Tensor, field: torch.Tensor, start: torch.Tensor, linear: torch.Tensor | None = None
) -> torch.Tensor:
    """`field` inside and exactly `start` elsewhere, without folds.

    Args:
        inside: [d, h, w] bool.
        field, start: [3, d, h, w] in voxels, both without folds.
        linear: second reading of the Jacobian, see `as_itk_sees`.
    """
    for share in (1.0, 0.75, 0.5, 0.25):
        candidate = torch.where(inside, torch.lerp(start, field, share), start)
        for _ in range(_ROUNDS):
            mended, bad = remove_folds(candidate, linear=linear)
            if not bad:
                return candidate
            candidate = torch.where(inside, mended, start)
    return start
