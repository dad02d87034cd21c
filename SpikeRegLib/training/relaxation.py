"""Tissue means of T2-weighted, FLAIR and proton-density images, from the signal equation of a spin echo.

In such images fluid lies far above or below everything else, and the tissues fill a narrow part of the range: a T1-like
contrast turned round has other proportions, and a network that learned from it does not know real ones.
"""

from __future__ import annotations

import math

import torch

from SpikeRegLib.anatomy.structures import FLUID, LABELS, MIRRORED
from SpikeRegLib.training.stream import Stream

# T1 (ms), T2 (ms) and proton density of tissues at 3 T, rounded from Wansapura et al. 1999 and Stanisz et al. 2005; of
# the deep nuclei, shortened by iron, between those and the white matter.
_WHITE, _CORTEX, _FLUID = (900.0, 72.0, 0.70), (1400.0, 96.0, 0.82), (4000.0, 1500.0, 1.0)
_TISSUES = {label: _CORTEX for label in (3, 8, 17, 18)} | {label: _WHITE for label in (2, 7)}
_TISSUES |= {label: _FLUID for label in FLUID}
_TISSUES |= {10: (1150.0, 78.0, 0.78), 11: (1350.0, 82.0, 0.82), 12: (1250.0, 76.0, 0.80), 13: (1000.0, 58.0, 0.75)}
_TISSUES |= {16: (1000.0, 76.0, 0.73), 26: (1350.0, 84.0, 0.82), 28: (1000.0, 72.0, 0.73)}
_TISSUES |= {right: _TISSUES[left] for left, right in MIRRORED.items()}
KINDS = ("T2", "FLAIR", "PD")


def weighted_contrast(stream: Stream, kind: str | None = None) -> torch.Tensor:
    """[labels] mean intensity of every label, left and right alike, white matter 0.5.

    The signal of an inversion recovery spin echo of density rho is
    rho exp(-TE/T2) |1 - 2 exp(-TI/T1) + exp(-TR/T1)|, without inversion rho exp(-TE/T2) (1 - exp(-TR/T1)); times of the
    sequence are random, those of the tissues vary by five percent.

    Args:
        stream: what is drawn from.
        kind: one of `KINDS`; a random one if not given, half of the time T2.
    """
    draw, echo, repetition, inversion = (stream.uniform() for _ in range(4))
    if kind is None:
        kind = KINDS[0] if draw < 0.5 else KINDS[1] if draw < 0.9 else KINDS[2]
    echo_ms = 10 + 25 * echo if kind == "PD" else 75 + 60 * echo
    repetition_ms = (4800 if kind == "FLAIR" else 2500) + 4500 * repetition
    fluid_t1 = _FLUID[0]
    # Fluid is to have no signal; it is missed by a little.
    null_ms = fluid_t1 * math.log(2 / (1 + math.exp(-repetition_ms / fluid_t1))) * (0.92 + 0.12 * inversion)
    jitter = {label: 1 + 0.05 * stream.normal(3) for label in LABELS}
    jitter |= {right: jitter[left] for left, right in MIRRORED.items()}
    signal = []
    for label in LABELS:
        t1, t2, density = (value * float(factor) for value, factor in zip(_TISSUES[label], jitter[label], strict=True))
        recovered = 1 - math.exp(-repetition_ms / t1)
        if kind == "FLAIR":
            recovered = abs(1 - 2 * math.exp(-null_ms / t1) + math.exp(-repetition_ms / t1))
        signal.append(density * math.exp(-echo_ms / t2) * recovered)
    means = torch.tensor(signal, device=stream.device)
    return (0.5 / means[LABELS.index(2)] * means).clamp_min(0.02)
