"""The two images of an alignment, the domain on which they are compared, and the measures of their agreement."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.affine.matrices import to_itk
from SpikeRegLib.affine.reduced import Prepared
from SpikeRegLib.images.files import frame_of, set_frame

_RIM = 3  # voxels around the fixed foreground that take part
_INNER = 4  # voxels from the outline of an image cut by its field of view, inside of which alone a part is compared
_LEAST_DOMAIN = 2_000  # voxels
_LEAST_KNOWN = 0.4  # of the domain, to be compared alone
SEARCH_SAMPLES = 3_000
BINS = 24


class AlignmentImages:
    """Both images as `prepare` makes them, the domain on which they are compared, and the measures on it.

    Matrices are 4x4, fixed -> moving, in the units of `Prepared`.
    """

    def __init__(self, fixed: Prepared, moving: Prepared, seed: int, *, nested: bool = False) -> None:
        self.fixed, self.moving, self.seed, self.nested = fixed, moving, seed, nested
        foreground = sitk.GetImageFromArray(fixed.foreground.astype(np.uint8))
        rim = sitk.GetArrayFromImage(sitk.BinaryDilate(foreground, [_RIM] * 3)).astype(bool)
        self.domain = fixed.foreground if nested else rim
        if fixed.known is not None:
            inner = self.domain & fixed.known
            if nested:
                # A part of the other image, or stripped, or both: its outline may be that of the brain or of the head.
                inner &= sitk.GetArrayFromImage(sitk.BinaryErode(foreground, [_INNER] * 3)).astype(bool)
            if inner.sum() > _LEAST_DOMAIN:
                self.domain = inner
        self.moving_mask: sitk.Image | None = None
        if moving.known is not None:
            self.moving_mask = set_frame(
                sitk.GetImageFromArray(moving.known.astype(np.uint8)), frame_of(moving.contrast)
            )
        self.interior = sitk.GetArrayFromImage(sitk.BinaryErode(foreground, [2] * 3)).astype(bool)
        frame = frame_of(fixed.contrast)
        self.masks = {
            "blurred": set_frame(sitk.GetImageFromArray(rim.astype(np.uint8)), frame),
            "contrast": set_frame(sitk.GetImageFromArray(self.domain.astype(np.uint8)), frame),
        }
        index = np.argwhere(rim)  # the search needs the outline, which a skull-stripped brain shares with the skull
        chosen = np.random.default_rng(seed).permutation(len(index))[:SEARCH_SAMPLES]
        self._points = frame.to_mm(index[chosen][:, ::-1])
        blurred = sitk.GetArrayViewFromImage(fixed.blurred)
        self._codes = _bin(blurred[tuple(index[chosen].T)], 0, 1) * BINS
        target = frame_of(moving.blurred)
        self._to_index = target.inverse_matrix
        self._size = np.asarray(target.size)
        padded = np.pad(_bin(sitk.GetArrayFromImage(moving.blurred), 0, 1), 1)  # a rim of background catches the rest
        self._moving_codes = np.ascontiguousarray(padded.transpose(2, 1, 0))

    def quick_similarity(self, matrix: np.ndarray) -> float:
        """Mutual information of the blurred intensities at a few points, nats."""
        to_index = self._to_index @ matrix
        index = np.rint(self._points @ to_index[:3, :3].T + (to_index[:3, 3] + 1)).astype(np.intp)
        np.clip(index, 0, self._size + 1, out=index)
        values = self._moving_codes[index[:, 0], index[:, 1], index[:, 2]]
        return _mutual_information(np.bincount(self._codes + values, minlength=BINS * BINS))

    def similarity(self, matrix: np.ndarray, measure: str) -> float:
        """The measure that decides: on every voxel of the domain."""
        fixed, moving = self._sampled(matrix, self.domain)
        if measure == "correlation":
            return _correlation(fixed, moving)
        return _mutual_information(np.bincount(_bin(fixed, -2, 2) * BINS + _bin(moving, -2, 2), minlength=BINS * BINS))

    def interior_correlation(self, matrix: np.ndarray) -> float:
        """Correlation of the local contrast away from the outline, which every contrast shares."""
        return _correlation(*self._sampled(matrix, self.interior)) if self.interior.any() else 0.0

    def _sampled(self, matrix: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = to_itk(matrix)
        warped = sitk.Resample(self.moving.contrast, self.fixed.contrast, place, sitk.sitkLinear, 0.0)
        if self.moving_mask is not None:
            known = sitk.Resample(self.moving_mask, self.fixed.contrast, place, sitk.sitkNearestNeighbor, 0.0)
            both = where & (sitk.GetArrayViewFromImage(known) > 0)
            # What is not known counts as background if there is much of it: leaving the field of view is no gain.
            if both.sum() > _LEAST_KNOWN * where.sum():
                where = both
        return sitk.GetArrayViewFromImage(self.fixed.contrast)[where], sitk.GetArrayViewFromImage(warped)[where]


def _bin(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.intp)


def _mutual_information(joint: np.ndarray) -> float:
    share = joint.reshape(BINS, BINS) / joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return -float((p * np.log(p)).sum())

    return entropy(share.sum(0)) + entropy(share.sum(1)) - entropy(share.ravel())


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
