"""Whether one pose explains two images clearly better than another: by a measure that no search has maximised.

A search that tries every orientation finds a high similarity in any two images; on thin, sparse structures the highest
one is often wrong. So poses are compared by something else: how well the directions of the intensity gradients agree,
whatever their signs and sizes (Haber and Modersitzki, 2006), over the whole of both images and in both directions, so
that a pose is not rewarded for leaving out what does not fit. Averages over blocks give as many nearly independent
votes, and with them the uncertainty of the difference.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.affine.reduced import ReducedImage
from SpikeRegLib.images.files import frame_of
from SpikeRegLib.space.fields import values_at
from SpikeRegLib.space.filters import gaussian

# Smoothing before the gradients, and edge of a block, in radii of the anatomy: 3 mm and 25 mm for an adult brain.
_SMOOTHING, _BLOCK = 0.055, 0.45
_POINTS = 8_000  # of each image
_FAINT = 0.3  # of the root mean square gradient: below it, a direction counts little
# Standard errors of the mean difference between blocks.
_CLEARLY = 4.0


class Evidence:
    """How well two images agree under a pose, block by block.

    Args:
        fixed, moving: found in the images as they are.
        radius: of the anatomy, mm.
        nested: the fixed one is a part of the moving one, which then shows much that has no counterpart.
        seed: of the points at which the images are compared.
    """

    def __init__(self, fixed: ReducedImage, moving: ReducedImage, radius: float, seed: int, *, nested: bool) -> None:
        self._fixed, self._moving = _Gradients(fixed, radius, seed), _Gradients(moving, radius, seed)
        self._nested = nested

    def clearly_better(self, matrix: np.ndarray, other: np.ndarray) -> bool:
        """Whether the first pose agrees better than the second, far beyond what differs from block to block.

        Args:
            matrix, other: 4x4, fixed -> moving, LPS mm.
        """
        return self.difference(matrix, other) > _CLEARLY

    def difference(self, matrix: np.ndarray, other: np.ndarray) -> float:
        """By how many standard errors the first pose agrees better than the second."""
        gain = self.agreement(matrix) - self.agreement(other)
        error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
        return float(gain.mean()) / error if error > 0 else 0.0

    def agreement(self, matrix: np.ndarray) -> np.ndarray:
        """[blocks] mean squared cosine between the gradients, in the fixed image and, unless nested, in the moving."""
        blocks = [self._fixed.agreement(self._moving, matrix)]
        if not self._nested:
            blocks.append(self._moving.agreement(self._fixed, np.linalg.inv(matrix)))
        return np.concatenate(blocks)


class _Gradients:
    """The gradients of one image and the points at which they are looked at."""

    def __init__(self, anatomy: ReducedImage, radius: float, seed: int) -> None:
        frame = frame_of(anatomy.intensity)
        spacing = frame.spacing[::-1]
        image = torch.from_numpy(sitk.GetArrayFromImage(anatomy.intensity))
        image = gaussian(image, _SMOOTHING * radius / float(np.prod(spacing)) ** (1 / 3))
        slopes = torch.gradient(image, spacing=[float(s) for s in spacing])
        direction = torch.from_numpy(np.reshape(frame.direction, (3, 3))).float()
        along = torch.stack(slopes[::-1])  # x, y, z of the grid
        self._field = torch.einsum("ij,jdhw->idhw", direction, along)
        inside = np.argwhere(sitk.GetArrayViewFromImage(anatomy.foreground) > 0.5)
        chosen = np.random.default_rng(seed).permutation(len(inside))[:_POINTS]
        index = inside[chosen][:, ::-1]
        self._frame, self._size = frame, np.asarray(frame.size)
        self._points = frame.to_mm(index)
        self._own = self._at(self._points)
        self._faint = _FAINT * float(np.sqrt((self._own**2).sum(1).mean())) + 1e-12
        cell = np.floor((self._points - self._points.min(0)) / (_BLOCK * radius)).astype(np.int64)
        self._block = np.unique(cell, axis=0, return_inverse=True)[1].ravel()

    def _at(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] gradients at [N, 3] LPS mm; 0 outside the image."""
        index = self._frame.to_index(points)
        values = values_at(self._field, torch.from_numpy(index)).double().numpy()
        return values * ((index >= -0.5) & (index <= self._size - 0.5)).all(1, keepdims=True)

    def agreement(self, other: _Gradients, matrix: np.ndarray) -> np.ndarray:
        """[blocks] of this image, under the pose from it to the other one."""
        seen = other._at(self._points @ matrix[:3, :3].T + matrix[:3, 3]) @ matrix[:3, :3]
        dot = (self._own * seen).sum(1)
        share = dot**2 / (((self._own**2).sum(1) + self._faint**2) * ((seen**2).sum(1) + other._faint**2))
        count = np.bincount(self._block)
        mean = np.bincount(self._block, share) / count
        return mean[count >= 0.25 * count.mean()]
