"""The pictures of the report as arrays ready for PNG: slices, differences, checkerboard, grid, Jacobian, rates."""

from __future__ import annotations

import numpy as np

from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.report.colours import DIVERGING, FOLD, OUTSIDE, SEQUENTIAL

JACOBIAN_LIMIT = 3.0  # the scale runs from 1/3 to 3
GRID_STEP_MM = 10.0
CHECK_STEP_MM = 25.0
_GRID_COLOUR = np.array([255, 196, 61], float)
_FIXED_OUTLINE = np.array([64, 224, 208], float)
_WARPED_OUTLINE = np.array([255, 140, 60], float)


def intensity_window(volume: Volume) -> tuple[float, float]:
    """Intensities drawn black and white: the 0.5th and 99.8th percentile of what is not the lowest value."""
    sample = volume.data.flatten()[:: max(1, volume.data.numel() // 100_000)].float().numpy()
    anatomy = sample[sample > sample.min()]
    low, high = np.percentile(anatomy if anatomy.size else sample, [0.5, 99.8])
    return min(float(low), 0.0) if sample.min() >= 0 else float(low), float(high)


def unit(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Values scaled so that the window becomes [0, 1], clipped."""
    low, high = window
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


def grey(image: np.ndarray) -> np.ndarray:
    """uint8 of an image in [0, 1]; also the index into a colour scale."""
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def checkerboard(first: np.ndarray, second: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Squares of two images by turns, [H, W] in [0, 1]."""
    size = max(2, round(CHECK_STEP_MM / pixel_mm))
    j, i = np.indices(first.shape)
    return np.where((i // size + j // size) % 2 == 0, first, second)


def grid_over(image: np.ndarray, coordinates: np.ndarray, pixel_mm: float) -> np.ndarray:
    """[H, W, 3] uint8: the moving image's regular grid as it lies on the warped image.

    A line is where a deformed coordinate is a multiple of the step, so it goes exactly where the warp takes it.

    Args:
        image: [H, W] in [0, 1].
        coordinates: [2, H, W] mm, from `planes.deformed_coordinates`; no line where NaN.
        pixel_mm: size of a pixel.
    """
    line = np.zeros_like(image)
    for coordinate in coordinates:
        offset = np.abs(coordinate / GRID_STEP_MM - np.round(coordinate / GRID_STEP_MM)) * GRID_STEP_MM
        slope = np.hypot(*np.gradient(coordinate, pixel_mm)) * pixel_mm  # mm a pixel; small where the map is stretched
        line = np.maximum(line, np.nan_to_num(np.clip(1.1 - offset / np.maximum(slope, 1e-6), 0, 1)))
    return _paint(0.6 * image, line * 0.9, _GRID_COLOUR)


def outlines_over(image: np.ndarray, fixed_labels: np.ndarray, warped_labels: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8: borders of the fixed labels (turquoise) and of the warped labels (orange) on the image."""
    picture = _paint(0.75 * image, _border(fixed_labels).astype(float), _FIXED_OUTLINE)
    return _blend(picture.astype(float), _border(warped_labels) * 0.85, _WARPED_OUTLINE)


def jacobian_picture(determinant: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8: blue shrinks, red grows, logarithmic and centred at 1; folds (<= 0) magenta, NaN grey."""
    known = np.nan_to_num(determinant, nan=1.0)
    exponent = np.log(np.maximum(known, 1e-6)) / np.log(JACOBIAN_LIMIT)
    picture = DIVERGING[grey((exponent + 1) / 2)]
    picture[known <= 0] = FOLD
    picture[np.isnan(determinant)] = OUTSIDE
    return picture


def rate_picture(rate: np.ndarray, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices and palette of a spike-rate map; `highest` is the rate drawn lightest."""
    return grey(rate / max(highest, 1e-12)), SEQUENTIAL


def _border(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour carries another label."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def _paint(image: np.ndarray, weight: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return _blend(np.repeat(image[..., None] * 255, 3, axis=2), weight, colour)


def _blend(picture: np.ndarray, weight: np.ndarray, colour: np.ndarray) -> np.ndarray:
    mixed = picture * (1 - weight[..., None]) + colour * weight[..., None]
    return np.clip(mixed, 0, 255).round().astype(np.uint8)
