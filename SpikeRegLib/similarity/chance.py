"""How much better the aligned images agree than images that have nothing in common but their look.

A local correlation alone says little: blobs agree with other blobs, and an optimisation raises it for noise as well. So
it is compared with what the same two images reach when the moving one is turned over, front to back, upside down, or
both: the contrast, the fineness of the detail and the amount of it are the same, but nothing of the anatomy fits. Left
and right are not exchanged, for a mirrored brain looks much like a brain. Measured before the deformation, which would
fit both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch

from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.similarity.losses import lncc
from SpikeRegLib.similarity.pair import Pair

# Voxels across the anatomy, about, and the window in them: 4 mm and 20 mm for an adult brain.
_ACROSS, _WINDOW = 36, 5
_TURNS = ((0,), (1,), (0, 1))
# Similarity of the fixed image to itself turned over, as a part of what it could be, from which it counts as symmetric.
_SYMMETRIC = 0.6
# What is known of both, in parts of what is known when nothing is turned, below which a comparison says nothing.
_LEAST_KNOWN = 0.3


def above_chance(aligned: Pair) -> float | None:
    """How many times better the pair agrees than with the moving image turned over.

    Args:
        aligned: the pair before deformation.

    Returns:
        About 1 where nothing fits, 2 and more for two brains; None where the anatomy is symmetric in every direction,
        so that turning it over is no change.
    """
    whole = bounding_box(aligned.mask)
    if whole is None:
        return None
    across = math.prod(last - first + 1 for first, last in zip(*whole, strict=True)) ** (1 / 3)
    seen = aligned.coarser(aligned.frame.spacing[0] * max(1.0, across / _ACROSS))
    box = bounding_box(seen.mask)
    if box is None:
        return None
    middle = [first + last for first, last in zip(*box, strict=True)]
    fixed, moving = seen.comparison.of_fixed(seen.fixed), seen.comparison.of_moving(seen.moving)
    known = None if seen.known is None else seen.known.counts
    itself = _similarity(fixed, fixed, seen.mask, known)
    chances = []
    for axes in _TURNS:
        counts = None
        if seen.known is not None:
            counts = replace(seen.known, moving=_turned(seen.known.moving, axes, middle)).counts
            if known is not None and float(counts[seen.mask].sum()) < _LEAST_KNOWN * float(known[seen.mask].sum()):
                continue
        if _similarity(fixed, _turned(fixed, axes, middle), seen.mask, known) < _SYMMETRIC * itself:
            chances.append(_similarity(fixed, _turned(moving, axes, middle), seen.mask, counts))
    if not chances:
        return None
    return _similarity(fixed, moving, seen.mask, known) / max(*chances, 1e-6)


def _similarity(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, known: torch.Tensor | None) -> float:
    values = (lncc(f, m, window=_WINDOW, mask=mask, known=known) for f, m in zip(fixed, moving, strict=True))
    return fmean(float(value) for value in values)


def _turned(image: torch.Tensor, axes: tuple[int, ...], middle: Sequence[int]) -> torch.Tensor:
    """[C, D, H, W] reversed along `axes` of its three about `middle` (twice its index); empty beyond the grid."""
    for axis in axes:
        # Voxel i shows what was at `middle - i`.
        index = middle[axis] - torch.arange(image.shape[axis + 1])
        within = (index >= 0) & (index < image.shape[axis + 1])
        image = image.index_select(axis + 1, index.clamp(0, image.shape[axis + 1] - 1))
        image = image * within.view([-1 if n == axis + 1 else 1 for n in range(4)])
    return image
