"""4x4 matrices of linear maps: made, compared and handed to ITK."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk


def to_itk(matrix: np.ndarray) -> sitk.AffineTransform:
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def unit_map(centre: np.ndarray, radius: float) -> np.ndarray:
    """LPS mm to radii from the centre."""
    return homogeneous(np.eye(3) / radius, -centre / radius)


def homogeneous(linear: np.ndarray, translation: np.ndarray | None = None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    if translation is not None:
        matrix[:3, 3] = translation
    return matrix


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
