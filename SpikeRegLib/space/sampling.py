"""Values of an array between its voxels: the numbers behind `transforms`, and a list of all that read so.

All of them are trilinear and agree inside the grid but for rounding. They differ in how positions are given, in what
lies outside, and in speed. "ITK" is the rule of ITK: the value of the border up to half a voxel beyond the centres of
the outermost voxels, then `outside`, 0 for a displacement. "border" is the value of the border however far out.

reader                       positions                        outside  autograd  there for
---------------------------  -------------------------------  -------  --------  --------------------------------------
linear                       `Positions`, mm through frames   ITK      no        images and fields through a transform
linear_along_axes            the same, a parallel grid        ITK      no        the same at a third of the work
displacement_at              the same                         ITK      no        whichever of the two can
linear_in_double             [3, 1, 1, N] as `linear`         ITK      no        points through a field, in float64
clamped                      [d, h, w, 3] as `linear`         border   yes       what `linear` rests on; Newton steps
nearest                      as `linear`                      ITK      no        labels; the only one not trilinear
fields.warp                  x + u(x), voxels of one grid     border   yes       networks, losses, composing fields
fields.values_at             [N, 3] voxels                    border   yes       points: codes, landmarks, gradients
fields.upsample              the nodes of a finer grid        border   yes       the network's output, on any device
displacement.sample          x + s u(x), a part of a grid     border   no        refinement: no copies, a kept buffer
grids.resample               a grid inside the same frame     border   yes       pyramids: products with banded matrices
known.resample_known         as `resample`                    known    yes       the same, of what is known alone
landmarks.displacement_at    [N, 3] mm of a `Grid`            border   yes       `values_at` for millimetres
fixed_points.Sampling        [N, 3] mm of the codes' grid     border   own       fitting codes: its transpose as well
training.crops._sample       [1, d, h, w, 3] voxels           border   yes       crops of synthetic heads

The families `align_corners` has in torch stay apart on purpose: `linear` measures from the faces of the outermost
voxels, as ITK's half voxel needs, the others from their centres; a change would move every result in its last bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from SpikeRegLib.images.frames import Frame

# ITK counts a position up to half a voxel outside the outermost centres as inside (lower end included, upper end not)
# and clamps it. The tolerance keeps exact half-voxel positions on their side of the border whatever the rounding.
_EDGE = 1e-6
# Grids whose axes part by less than this, in voxels over their whole length, are parallel.
_PARALLEL = 1e-5
_SLAB_VOXELS = 2**18


class Positions:
    """Where the voxels of a slab of a frame went: `matrix @ (i, j, k, 1) + offset`, LPS mm.

    The affine part stays a 4x4 float64 matrix until it is needed, so that chains of affine maps are exact and cost
    nothing, and single precision only ever holds small numbers.
    """

    def __init__(self, frame: Frame, start: int, stop: int, dtype: torch.dtype = torch.float32) -> None:
        self.frame, self.start, self.stop, self.dtype = frame, start, stop, dtype
        self.matrix = frame.matrix
        self.offset: torch.Tensor | None = None  # [3, stop - start, H, W] mm

    def is_grid_of(self, frame: Frame) -> bool:
        """Whether the positions are still exactly the voxel centres of `frame`."""
        if self.offset is not None or frame.shape != self.frame.shape:
            return False
        return bool(np.abs(self.matrix - frame.matrix).max() < 1e-9)

    def apply_affine(self, matrix: np.ndarray) -> None:
        """Move every position p to `matrix @ p`."""
        self.matrix = matrix @ self.matrix
        if self.offset is not None:
            self.offset = rotated(matrix[:3, :3], self.offset)

    def add(self, displacement: torch.Tensor) -> None:
        """Add [3, d, H, W] mm to the positions."""
        self.offset = displacement if self.offset is None else self.offset + displacement

    def displacement(self) -> torch.Tensor:
        """[3, d, H, W] mm from the voxel centres to the positions."""
        moved = self._evaluate(self.matrix - self.frame.matrix)
        return moved if self.offset is None else moved + self.offset

    def coordinates(self, frame: Frame) -> torch.Tensor:
        """[3, d, H, W] positions relative to `frame`, (i, j, k) order: -1 and 1 are the outer faces of its voxels."""
        to_unit = unit_matrix(frame)
        unit = self._evaluate(to_unit @ self.matrix)
        return unit if self.offset is None else unit.add_(rotated(to_unit[:3, :3], self.offset))

    def _evaluate(self, matrix: np.ndarray) -> torch.Tensor:
        _, height, width = self.frame.shape
        i, j = (torch.arange(n, dtype=torch.float64) for n in (width, height))
        k = torch.arange(self.start, self.stop, dtype=torch.float64)
        out = torch.empty(3, self.stop - self.start, height, width, dtype=self.dtype)
        for row in range(3):
            a, b, c, d = (float(v) for v in matrix[row])
            plane = (a * i[None, :] + b * j[:, None]).to(self.dtype)
            torch.add(plane[None], (c * k + d).to(self.dtype)[:, None, None], out=out[row])
        return out


def slabs(frame: Frame) -> Iterator[tuple[int, int]]:
    """Ranges of slices along D small enough to stay in the processor's cache and to bound the memory."""
    depth, height, width = frame.shape
    step = max(1, _SLAB_VOXELS // (height * width))
    for start in range(0, depth, step):
        yield start, min(depth, start + step)


def unit_matrix(frame: Frame) -> np.ndarray:
    """4x4 float64, LPS mm to (i, j, k) coordinates in which -1 and 1 are the outer faces of the frame's voxels."""
    size = np.asarray(frame.size, float)
    scale = np.diag([*(2 / size), 1.0])
    scale[:3, 3] = 1 / size - 1
    return scale @ frame.inverse_matrix


def linear(values: torch.Tensor, unit: torch.Tensor, outside: float) -> torch.Tensor:
    """Trilinear values at positions, as ITK interpolates.

    Args:
        values: [C, D, H, W] float.
        unit: [3, d, h, w] coordinates from `Positions.coordinates`.
        outside: the value half a voxel and more beyond the outermost voxel centres.

    Returns:
        [C, d, h, w].
    """
    return _fill_outside(clamped(values, unit.permute(1, 2, 3, 0)), unit, outside)


def clamped(values: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """`linear` with the values of the border outside.

    Args:
        values: [C, D, H, W] float.
        unit: [d, h, w, 3] (i, j, k) coordinates, -1 and 1 on the outer faces of the voxels.

    Returns:
        [C, d, h, w].
    """
    return F.grid_sample(values[None], unit[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def linear_in_double(field: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """[3, N] float64 values of a float32 field [3, D, H, W] at [3, 1, 1, N] positions as of `linear`, 0 outside.

    In double precision to the end, but without a double copy of the field.
    """
    _, depth, height, width = field.shape
    size = torch.tensor([width, height, depth], dtype=torch.float64)[:, None]
    flat = unit.flatten(1)
    index = ((flat + 1) * size / 2 - 0.5).clamp(min=0.0).minimum(size - 1)
    low = index.floor().minimum((size - 2).clamp(min=0))
    weight, low = index - low, low.long()
    out = torch.zeros_like(flat)
    for corner in range(8):
        bit = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])[:, None]
        i, j, k = (low + bit).minimum(size.long() - 1)
        share = torch.where(bit.bool(), weight, 1 - weight).prod(0)
        out += share * field.flatten(1)[:, (k * height + j) * width + i].double()
    return out * ((flat >= -1) & (flat < 1)).all(0)


def linear_along_axes(values: torch.Tensor, frame: Frame, positions: Positions) -> torch.Tensor | None:
    """`linear` one axis after the other, a third of the work, where the positions are a grid parallel to the values'.

    Args:
        values: [C, D, H, W] float32 on `frame`; 0 outside.
        frame: their grid.
        positions: where values are wanted.

    Returns:
        [C, d, h, w]; None where the positions are no such grid.
    """
    matrix = frame.inverse_matrix @ positions.matrix  # index in `positions.frame` -> index in `frame`
    order = [int(axis) for axis in np.abs(matrix[:3, :3]).argmax(0)]  # of `frame`, for i, j and k of the positions
    crooked = matrix[:3, :3].copy()
    crooked[order, range(3)] = 0
    if (
        positions.offset is not None
        or positions.dtype != torch.float32
        or sorted(order) != [0, 1, 2]
        or np.abs(crooked).max() * max(positions.frame.shape) > _PARALLEL
        or min(frame.shape) < 2
    ):
        return None
    x = values.permute(0, *(3 - axis for axis in reversed(order)))  # [C, along k, along j, along i]
    width, height, _ = positions.frame.size
    for dim, axis, range_ in (
        (1, 2, range(positions.start, positions.stop)),
        (2, 1, range(height)),
        (3, 0, range(width)),
    ):
        length = x.shape[dim]
        index = matrix[order[axis], 3] + matrix[order[axis], axis] * torch.tensor(range_, dtype=torch.float64)
        unit = (2 * index + 1) / length - 1
        inside = ((unit >= -1 - _EDGE) & (unit < 1 - _EDGE)).float()
        index = index.clamp(0, length - 1)
        low = index.long().clamp_(max=length - 2)
        weight = (index - low).float()
        if dim == 3:  # where memory is scattered, a product is faster
            band = torch.zeros(length, len(index))
            band[low, torch.arange(len(low))] = (1 - weight) * inside
            band[low + 1, torch.arange(len(low))] = weight * inside
            x = x @ band
        else:
            column = (-1, *[1] * (3 - dim))
            x = torch.lerp(x.index_select(dim, low), x.index_select(dim, low + 1), weight.view(column))
            if not bool(inside.all()):
                x *= inside.view(column)
    return x


def displacement_at(field: torch.Tensor, frame: Frame, positions: Positions) -> torch.Tensor:
    """[3, d, h, w] values of a displacement [3, D, H, W] on `frame` at positions, 0 outside it."""
    along = linear_along_axes(field, frame, positions)
    return linear(field, positions.coordinates(frame).float(), 0.0) if along is None else along


def nearest(values: torch.Tensor, unit: torch.Tensor, outside: float) -> torch.Tensor:
    """Value of the nearest voxel, halves rounded up as ITK does; any dtype. Shapes as in `linear`."""
    _, depth, height, width = values.shape
    index = [
        ((unit[axis] + 1) * (n / 2) + _EDGE).floor_().long().clamp_(0, n - 1)
        for axis, n in enumerate((width, height, depth))
    ]
    flat = (index[2] * height + index[1]) * width + index[0]
    out = values.flatten(1)[:, flat.flatten()].reshape(-1, *flat.shape)
    return _fill_outside(out, unit, outside)


def _fill_outside(out: torch.Tensor, unit: torch.Tensor, outside: float) -> torch.Tensor:
    low, high = torch.aminmax(unit) if unit.numel() else (unit, unit)
    if bool((low >= -1 - _EDGE).all()) and bool((high < 1 - _EDGE).all()):
        return out
    beyond = ((unit < -1 - _EDGE) | (unit >= 1 - _EDGE)).any(0)
    return out.masked_fill_(beyond[None], outside)


def rotated(matrix: np.ndarray, vectors: torch.Tensor) -> torch.Tensor:
    """The vectors [3, ...], each multiplied by a 3x3 matrix."""
    flat = torch.as_tensor(matrix, dtype=vectors.dtype) @ vectors.reshape(3, -1)
    return flat.reshape(vectors.shape)
