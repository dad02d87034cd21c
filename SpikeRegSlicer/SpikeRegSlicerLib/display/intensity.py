"""Intensities of two images made comparable, and what in an image is head: numpy and scipy on [K, J, I] arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

_SAMPLES = 200_000
_ROUNDS = 5


def pairOfArrays(fixed: Any, warped: Any) -> tuple[np.ndarray, np.ndarray]:
    """The [K, J, I] values of two volume nodes on one grid.

    Raises:
        ValueError: if their sizes differ; a warped volume of a run lies on its fixed volume's grid.
    """
    arrays = slicer.util.arrayFromVolume(fixed), slicer.util.arrayFromVolume(warped)
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(
            f"{warped.GetName()} has not the grid of {fixed.GetName()}: compare a warped volume with its own fixed one"
        )
    return arrays


def window(values: np.ndarray) -> tuple[float, float]:
    """Intensities to draw black and white: the 0.5th and 99.8th percentile of what is not background."""
    sample = _sample(values)
    anatomy = sample[sample > _background(sample)]
    low, high = np.percentile(anatomy if anatomy.size else sample, [0.5, 99.8])
    return (min(float(low), 0.0) if sample.min() >= 0 else float(low)), float(high)


def unit(values: np.ndarray) -> np.ndarray:
    """Values scaled so that their `window` becomes [0, 1], clipped; float32."""
    low, high = window(values)
    return np.clip((values.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1)


def difference(fixed: np.ndarray, warped: np.ndarray) -> np.ndarray:
    """Warped minus fixed after intensity matching, as a share of the fixed image's intensity window; float32.

    The warped intensities are matched by the straight line through the background of both that fits best where either
    shows anatomy, refitted without the voxels that lie furthest off it, so that the difference to be found does not
    pull the fit.
    """
    low, high = window(fixed)
    slope, offset = _line(_sample(fixed), _sample(warped))
    return ((slope * warped.astype(np.float32) + offset) - fixed.astype(np.float32)) / max(high - low, 1e-12)


def headMask(fixed: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Where the head is: brighter than a tenth of the window once smoothed over 2 mm, holes closed slice by slice.

    Args:
        fixed: [K, J, I].
        spacing: mm along K, J, I.
    """
    from scipy.ndimage import binary_fill_holes

    low, high = window(fixed)
    mask = smoothed(fixed, spacing, 2.0) > low + 0.1 * (high - low)
    return np.stack([binary_fill_holes(layer) for layer in mask])


def smoothed(values: np.ndarray, spacing: tuple[float, float, float], millimetres: float) -> np.ndarray:
    """Gaussian smoothing with a standard deviation in mm; float32."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values.astype(np.float32), [millimetres / step for step in spacing], truncate=3)


def _sample(values: np.ndarray) -> np.ndarray:
    """At most 200,000 values, evenly spread; the same places for arrays of one shape."""
    return values.ravel()[:: max(1, values.size // _SAMPLES)].astype(np.float64)


def _background(sample: np.ndarray) -> float:
    """The 1st percentile; the lowest value itself may be a single voxel's overshoot of an interpolation."""
    return float(np.percentile(sample, 1))


def _line(fixed: np.ndarray, warped: np.ndarray) -> tuple[float, float]:
    """Slope and offset that take warped intensities to fixed ones; (1, 0) where nothing can be fitted."""
    backgrounds = _background(fixed), _background(warped)
    x, y = warped - backgrounds[1], fixed - backgrounds[0]
    kept = (x > 0) | (y > 0)
    slope = 1.0
    for _ in range(_ROUNDS):
        if not (x[kept] > 0).any() or not (y[kept] > 0).any():
            return 1.0, 0.0
        slope = float((x[kept] * y[kept]).sum() / (x[kept] ** 2).sum())
        residual = np.abs(slope * x - y)
        kept &= residual <= 3 * max(float(np.median(residual[kept])), 1e-6 * float(y.max()))
    return slope, backgrounds[0] - slope * backgrounds[1]
