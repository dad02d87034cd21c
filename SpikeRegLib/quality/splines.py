"""Interpolating B-splines on a line of voxels, as rows of weights (Unser 1999): a value between voxels is a row times
the voxels. Along several axes the rows of each are multiplied."""

from __future__ import annotations

import numpy as np


def spline_weights(positions: np.ndarray, count: int, order: int) -> np.ndarray:
    """Weights of `count` voxels in the spline through them, mirrored at the outermost ones, as SciPy has it.

    Args:
        positions: [P] in voxels, inside [0, count - 1].
        count: of the voxels.
        order: 2 or 3.

    Returns:
        [P, count] float64: `weights @ values` are the spline's values at the positions.
    """
    positions = np.asarray(positions, np.float64)
    if count == 1:
        return np.ones((len(positions), 1))
    at_voxels = _basis(np.arange(count, dtype=np.float64), count, order)
    return np.linalg.solve(at_voxels.T, _basis(positions, count, order).T).T


def _basis(positions: np.ndarray, count: int, order: int) -> np.ndarray:
    """[P, count] B-splines of all voxels at the positions, those beyond the ends folded back."""
    out = np.zeros((len(positions), count))
    rows = np.arange(len(positions))
    period = 2 * (count - 1)
    for step in range(-2, 4):
        voxel = np.floor(positions).astype(int) + step
        folded = np.abs(voxel) % period
        np.add.at(out, (rows, np.where(folded < count, folded, period - folded)), _spline(positions - voxel, order))
    return out


def _spline(distance: np.ndarray, order: int) -> np.ndarray:
    x = np.abs(distance)
    if order == 2:
        return np.where(x <= 0.5, 0.75 - x**2, np.where(x < 1.5, (1.5 - x) ** 2 / 2, 0.0))
    if order == 3:
        return np.where(x <= 1, 2 / 3 - x**2 + x**3 / 2, np.where(x < 2, (2 - x) ** 3 / 6, 0.0))
    raise ValueError(f"order must be 2 or 3, got {order}")
