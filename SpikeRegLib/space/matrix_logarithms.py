"""Logarithms of affine maps, and their mean: what is half way between maps, and what a group of them has in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Translations are counted in this many mm, so that they are no larger than the other entries.
_UNIT_MM = 100.0
# The series is summed for matrices this near to the identity; its terms fall by the square of half of it.
_NEAR, _TERMS = 0.25, 12
_MOST_ROOTS = 24
# Rotations by more have two logarithms that are nearly as long, and none that is right.
_MOST_DEGREES = 170.0
_MEAN_ROUNDS, _MEAN_TOLERANCE = 50, 1e-12


def affine_log(matrix: np.ndarray) -> np.ndarray:
    """The principal logarithm of an affine map, by inverse scaling and squaring (Kenney and Laub 1989).

    Args:
        matrix: [4, 4] homogeneous, LPS mm.

    Returns:
        [4, 4] with a last row of zeros; `affine_exp` gives the matrix back.

    Raises:
        ValueError: it mirrors, or turns by more than 170 degrees: there is no logarithm to go half way along.
    """
    values = np.linalg.eigvals(np.asarray(matrix, float)[:3, :3])
    if np.linalg.det(matrix[:3, :3]) <= 0 or np.abs(np.angle(values, deg=True)).max() > _MOST_DEGREES:
        raise ValueError("the map mirrors or turns by more than 170 degrees")
    units = np.diag([1.0, 1.0, 1.0, _UNIT_MM])
    root = np.linalg.inv(units) @ matrix @ units
    count = 0
    while np.abs(root - np.eye(4)).max() > _NEAR and count < _MOST_ROOTS:
        root, count = _square_root(root), count + 1
    # log X = 2 artanh Z with Z = (X - 1) / (X + 1).
    ratio = np.linalg.solve(root + np.eye(4), root - np.eye(4))
    square, power, total = ratio @ ratio, ratio, np.zeros((4, 4))
    for term in range(_TERMS):
        total += power / (2 * term + 1)
        power = power @ square
    logarithm: np.ndarray = units @ (2.0 ** (count + 1) * total) @ np.linalg.inv(units)
    logarithm[3] = 0
    return logarithm


def affine_exp(logarithm: np.ndarray) -> np.ndarray:
    """[4, 4] the affine map of a logarithm [4, 4], by scaling and squaring."""
    units = np.diag([1.0, 1.0, 1.0, _UNIT_MM])
    small = np.linalg.inv(units) @ logarithm @ units
    count = max(0, int(np.ceil(np.log2(max(np.abs(small).max(), 1e-300) / _NEAR))))
    small = small / 2.0**count
    power, total = np.eye(4), np.eye(4)
    for term in range(1, 2 * _TERMS):
        power = power @ small / term
        total = total + power
    for _ in range(count):
        total = total @ total
    exponential: np.ndarray = units @ total @ np.linalg.inv(units)
    exponential[3] = (0, 0, 0, 1)
    return exponential


def without_mean(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps from a common space to each of several, after that space was moved so that their logarithms add to zero.

    The group mean of Arsigny, Pennec and Ayache (2009): the space lies in the middle, and no map is favoured.

    Args:
        matrices: [4, 4] each, from any common space.

    Raises:
        ValueError: one has no logarithm, see `affine_log`.
    """
    found = [np.asarray(matrix, float) for matrix in matrices]
    for _ in range(_MEAN_ROUNDS):
        mean = np.mean([affine_log(matrix) for matrix in found], 0)
        found = [matrix @ affine_exp(-mean) for matrix in found]
        if np.abs(mean).max() < _MEAN_TOLERANCE:
            break
    return found


def without_mean_stretch(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`without_mean` of sizes and shears alone: the common space keeps its place and orientation.

    Each linear part is a stretch and then a rotation (polar decomposition); the logarithms of the stretches, which any
    affine map without mirroring has, add to zero afterwards.

    Args:
        matrices: [4, 4] each, from any common space.
    """
    found = [np.asarray(matrix, float) for matrix in matrices]
    for _ in range(_MEAN_ROUNDS):
        mean = np.mean([_log_of_stretch(matrix[:3, :3]) for matrix in found], 0)
        values, vectors = np.linalg.eigh(mean)
        back = np.eye(4)
        back[:3, :3] = vectors @ np.diag(np.exp(-values)) @ vectors.T
        found = [matrix @ back for matrix in found]
        if np.abs(mean).max() < _MEAN_TOLERANCE:
            break
    return found


def nearest_rigid(matrix: np.ndarray) -> np.ndarray:
    """[4, 4] the rotation nearest to an affine map's linear part, and its translation."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    rigid = np.array(matrix, float)
    rigid[:3, :3] = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return rigid


def _log_of_stretch(linear: np.ndarray) -> np.ndarray:
    _, stretches, axes = np.linalg.svd(linear)
    return axes.T @ np.diag(np.log(stretches)) @ axes


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """Denman and Beavers' iteration (1976)."""
    root, inverse = matrix, np.eye(4)
    for _ in range(50):
        root, inverse, before = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2, root
        if np.abs(root - before).max() < 1e-14:
            break
    return root
