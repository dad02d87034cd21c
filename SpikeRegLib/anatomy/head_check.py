"""Whether what a network has named is a head at all: enough structures, where they belong, in a brain of usual size.

Measured on 13 OASIS brains, 5 other subjects or templates (some in several contrasts), a PD-weighted head, an EPI and
one with contrast agent; against noise, smooth noise, phantoms, drawings of a knee and an abdomen, and heads and brains
turned by 90 or 180 degrees against their header:

                                heads         cut to 60 %   no heads       turned
structures there                32            24-32         30-32          32
off where they belong, mm       1.1 to 2.1    2.3 to 2.7    6.1 to 12.5    4.2 to 11.8    (median)
smallest scale                  .88 to 1.04   .88 to .99    0 to .39       .02 to .84
largest scale                   .97 to 1.19   1.03 to 1.13  .37 to 1.29    .86 to 1.24
brain, ml                       1212 to 1916  823 to 1367   10 to 1734     1427 to 2323
mean confidence                 .730 to .795  .763 to .769  .456 to .647   .621 to .721

A micro-CT of an iguana has 4 structures. A head mirrored against its header is like any other: nothing tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SpikeRegLib.anatomy.layout import Fit, Layout, Places, fit_affine

LEAST_STRUCTURES = 20
MOST_OFF_MM = 3.5
SCALE = 0.75, 1.4
BRAIN_ML = 600.0, 2300.0
# With the released weights heads have .70 (an EPI) to .76.
LEAST_CONFIDENCE = 0.67


@dataclass(frozen=True)
class HeadCheck:
    """Whether an image shows a head, and the figures that say so.

    Attributes:
        head: whether it does.
        reason: in a few words, what speaks against it, or for it.
        structures: how many were found.
        off_mm: median distance of a structure from where the usual layout of heads, fitted to all, puts it; NaN where
            too few were found.
        scale: smallest and largest size of the head relative to that layout, along any direction; NaN likewise.
        brain_ml: volume of the brain, with its ventricles and the CSF around it.
        confidence: mean probability of the likeliest class in the brain.
    """

    head: bool
    reason: str
    structures: int
    off_mm: float
    scale: tuple[float, float]
    brain_ml: float
    confidence: float


def check_head(found: Places, layout: Layout, *, brain_ml: float, confidence: float) -> HeadCheck:
    """Judge what was found in an image.

    Args:
        found: its structures.
        layout: of heads as they usually are.
        brain_ml, confidence: see `HeadCheck`.
    """
    structures = int(found.there.sum())
    fit = fit_affine(layout.places, found)
    off, scale = _fitted(fit)
    checks = (
        (structures >= LEAST_STRUCTURES, f"{structures} of {len(found.there) - 1} structures are there"),
        (BRAIN_ML[0] <= brain_ml <= BRAIN_ML[1], f"the brain would have {brain_ml:.0f} ml"),
        (
            confidence >= LEAST_CONFIDENCE,
            f"the network is unsure ({confidence:.2f}, not {LEAST_CONFIDENCE:g})",
        ),
        (off <= MOST_OFF_MM, f"the structures lie {off:.1f} mm off where they belong"),
        (
            SCALE[0] <= scale[0] and scale[1] <= SCALE[1],
            f"it would be {scale[0]:.2f} to {scale[1]:.2f} times as large as usual",
        ),
    )
    against = [reason for passed, reason in checks if not passed]
    reason = f"{structures} structures, {off:.1f} mm off where they belong" if not against else against[0]
    return HeadCheck(not against, reason, structures, off, scale, brain_ml, confidence)


def _fitted(fit: Fit | None) -> tuple[float, tuple[float, float]]:
    if fit is None:
        return float("nan"), (float("nan"), float("nan"))
    scale = np.linalg.svd(fit.matrix[:3, :3], compute_uv=False)
    return float(np.nanmedian(fit.off_mm)), (float(scale[-1]), float(scale[0]))
