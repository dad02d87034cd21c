"""A frame says where the voxels of an array lie in the patient: shape, origin, spacing, direction (mm, LPS, as ITK)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A regular voxel grid in LPS millimetres.

    Attributes:
        shape: (D, H, W) = (k, j, i), the order of the array.
        origin: LPS position (x, y, z) in mm of the centre of voxel (0, 0, 0).
        spacing: mm between voxel centres along (i, j, k), ITK's order: the reverse of `shape`.
        direction: 3x3 direction cosines, row-major, as ITK stores them; column a is the axis of index a in (i, j, k).
    """

    shape: tuple[int, int, int]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def matrix(self) -> np.ndarray:
        """4x4 float64, maps homogeneous voxel indices (i, j, k) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def inverse_matrix(self) -> np.ndarray:
        """4x4 float64, maps homogeneous LPS mm to voxel indices (i, j, k)."""
        return np.linalg.inv(self.matrix)

    @property
    def size(self) -> tuple[int, int, int]:
        """(W, H, D), the number of voxels along (i, j, k): ITK's order."""
        depth, height, width = self.shape
        return (width, height, depth)

    def to_mm(self, index: np.ndarray) -> np.ndarray:
        """[..., 3] LPS mm of [..., 3] voxel indices (i, j, k)."""
        return index @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] voxel indices (i, j, k), with fractions, of [..., 3] points in LPS mm."""
        inverse = self.inverse_matrix
        return points @ inverse[:3, :3].T + inverse[:3, 3]

    def part(self, first: Sequence[int], shape: tuple[int, int, int]) -> Frame:
        """The grid of so many voxels (D, H, W) that begins at voxel `first` (i, j, k) of this one, or beyond it."""
        x, y, z, _ = self.matrix @ np.array([*first, 1.0])
        return replace(self, shape=shape, origin=(float(x), float(y), float(z)))

    def corners(self) -> np.ndarray:
        """[8, 3] LPS mm of the centres of the eight corner voxels."""
        last = np.asarray(self.size) - 1
        index = np.array([[i, j, k] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * last
        return self.to_mm(index)


def world_aligned(
    lower: np.ndarray, upper: np.ndarray, spacing_mm: float, multiple: int = 1, minimum: int = 16
) -> Frame:
    """The isotropic frame with identity direction that covers the box [lower, upper] (LPS mm), centred on it.

    Every axis gets a number of voxels that is a multiple of `multiple` and at least `minimum`. On such a frame the
    array axes D, H, W are the patient axes z, y, x, so a displacement in mm divided by `spacing_mm` is one in voxels.
    """
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    count = [
        math.ceil(max(minimum, round((b - a) / spacing_mm, 6) + 1) / multiple) * multiple
        for a, b in zip(lower, upper, strict=True)
    ]
    origin = (lower + upper) / 2 - (np.asarray(count) - 1) * spacing_mm / 2
    return Frame(
        shape=(count[2], count[1], count[0]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        spacing=(float(spacing_mm),) * 3,
    )
