"""Whether what the network found in an image is a head: structures in their places, of the size of a head's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SpikeRegLib.anatomy.layout import Layout, Places, fit_affine

# Real heads: 32 structures, 1.4 to 2.4 mm off on average, size .93 to 1.03 of the layout's.
_LEAST_STRUCTURES, _MOST_OFF_MM, _SIZES = 20, 6.0, (0.7, 1.4)


@dataclass(frozen=True)
class Recognition:
    """What is said of one image.

    Attributes:
        head: whether it looks like one that lies about as its header says.
        reason: why not; empty for a head.
        off_mm: how far structures lie from where heads have them, as a root mean square; NaN where there are too few.
    """

    head: bool
    reason: str
    off_mm: float


def recognise(found: Places, layout: Layout) -> Recognition:
    """Judge the places of structures by those of the heads that the network was trained on."""
    there = int(found.there.sum())
    fit = fit_affine(layout.places, found)
    if fit is None or there < _LEAST_STRUCTURES:
        return Recognition(False, f"only {there} structures of a brain were found", float("nan"))
    off = fit.off_mm[np.isfinite(fit.off_mm)]
    off_mm = float(np.sqrt(np.mean(off**2)))
    if off_mm > _MOST_OFF_MM:
        return Recognition(False, f"structures lie {off_mm:.0f} mm from where a head has them", off_mm)
    size = float(np.cbrt(max(0.0, np.linalg.det(fit.matrix[:3, :3]))))
    if not _SIZES[0] <= size <= _SIZES[1]:
        return Recognition(False, f"it has {size:.2f} times the size of a head", off_mm)
    return Recognition(True, "", off_mm)
