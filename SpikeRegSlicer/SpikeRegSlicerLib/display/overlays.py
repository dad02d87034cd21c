"""What overlays show, as arrays on the fixed image's grid: where anatomy is, whose square it is, where errors lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SpikeRegSlicerLib.display import intensity

OUTSIDE = -1000.0
"""Below every value that an overlay draws; what has it is not drawn."""
_MARK = 0.1  # of a square's side


def insideAnatomy(values: np.ndarray, fixed: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Values where the fixed image shows anatomy, `OUTSIDE` elsewhere; float32.

    Args:
        values, fixed: [K, J, I].
        spacing: mm along K, J, I.
    """
    inside = intensity.headMask(fixed, (spacing[0], spacing[1], spacing[2]))
    return np.where(inside, values, OUTSIDE).astype(np.float32)


def known(values: np.ndarray) -> np.ndarray:
    """Predicted errors with `OUTSIDE` where nothing is known: where they are no numbers, or 0; float32.

    A volume that was saved as NIfTI comes back with 0 there.
    """
    return np.where(values > 0, values, OUTSIDE).astype(np.float32)


def squares(shape: Sequence[int], spacing: Sequence[float], millimetres: float) -> np.ndarray:
    """[K, J, I], 0 in the squares of one image and 1 in those of the other.

    Args:
        spacing: mm along K, J, I.
        millimetres: side of a square.
    """
    number = np.zeros(tuple(shape), dtype=int)
    for axis, position in enumerate(_positions(shape, spacing)):
        number = number + (position // millimetres).astype(int).reshape(_along(axis))
    return number % 2


def cornerMarks(shape: Sequence[int], spacing: Sequence[float], millimetres: float) -> np.ndarray:
    """[K, J, I]: 1 in the corners of one image's squares, 2 in those of the other's, 0 elsewhere; see `squares`."""
    near = np.zeros(tuple(shape), dtype=int)
    for axis, (position, step) in enumerate(zip(_positions(shape, spacing), spacing, strict=True)):
        within, reach = position % millimetres, max(_MARK * millimetres, step)
        near = near + ((within < reach) | (within >= millimetres - reach - 1e-6)).reshape(_along(axis))
    return np.where(near >= 2, squares(shape, spacing, millimetres) + 1, 0)


def _positions(shape: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    return [np.arange(size) * step for size, step in zip(shape, spacing, strict=True)]


def _along(axis: int) -> list[int]:
    return [-1 if n == axis else 1 for n in range(3)]
