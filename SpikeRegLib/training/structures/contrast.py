"""How bright every tissue of a whole head is: T1-like, by a signal equation, or any; left and right alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from SpikeRegLib.anatomy.structures import CLASS_OF, CLASSES, FLUID, LABELS, MIRRORED, WHITE_MATTER
from SpikeRegLib.training.appearance import contrast
from SpikeRegLib.training.relaxation import weighted_contrast
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.structures.heads import CODES

_RIGHT = set(MIRRORED.values())
_WHITE_LIKE = (*WHITE_MATTER, 7, 46, 16, 28, 60)
_NUCLEI = (10, 49, 13, 52)
# Intensity of white matter, of which the other images are made: what is brighter, such as fat, still has room.
_WHITE = 0.6


@dataclass(frozen=True)
class TissueContrast:
    """Intensities of one image.

    Attributes:
        means, spreads: [CODES] of every code, the air 0.
    """

    means: torch.Tensor
    spreads: torch.Tensor


def tissue_contrast(stream: Stream, *, t1: float, weighted: float) -> TissueContrast:
    """A contrast.

    Args:
        stream: what is drawn from.
        t1: share of images that are T1-like, a few of them turned round.
        weighted: share that are T2-weighted, FLAIR or proton density; the rest are of any contrast.
    """
    kind = stream.uniform()
    means = torch.zeros(CODES, device=stream.device)
    around = torch.stack([torch.tensor(stream.uniform(), device=stream.device) for _ in range(CODES - CLASSES)])
    if kind < t1:
        brain = contrast(stream, 0.0) * _WHITE
        if stream.happens(0.15):
            brain = 1.05 * brain.max() - brain
    elif kind < t1 + weighted:
        brain = weighted_contrast(stream) * 2 * stream.uniform(0.35, 0.6)
        # Muscle, bone and air are dark; one level of fat.
        fat = stream.uniform(0.2, 1.2)
        dark = torch.stack([torch.tensor(stream.happens(0.7), device=stream.device) for _ in range(len(around))])
        around = torch.where(dark, around / 2, torch.full_like(around, fat))
    else:
        brain = _any_contrast(stream)
    means[1:CLASSES] = brain
    means[CLASSES:] = around
    if stream.happens(0.3):
        means[CLASSES + stream.integer(CODES - CLASSES)] = stream.uniform(0.8, 2.0)
    spreads = torch.full((CODES,), stream.uniform(0.01, 0.06 if kind < t1 + weighted else 0.1), device=stream.device)
    spreads[0] = 0
    return TissueContrast(means.clamp(0, 2), spreads)


def _any_contrast(stream: Stream) -> torch.Tensor:
    """[labels]: every structure for itself, or in the three classes that hang together in most images."""
    values = {label: stream.uniform(0.02, 1.0) for label in LABELS if label not in _RIGHT}
    if stream.happens(0.5):
        white, grey, fluid = (stream.uniform(0.05, 1.0) for _ in range(3))
        mixed = grey + 0.5 * stream.uniform() * (white - grey)
        for label in values:
            kind = white if label in _WHITE_LIKE else fluid if label in FLUID else mixed if label in _NUCLEI else grey
            values[label] = max(0.02, kind + 0.03 * float(stream.normal(1)))
    values |= {right: values[left] for left, right in MIRRORED.items()}
    means = [values[label] for label in LABELS]
    if stream.happens(0.2):  # a gamma that no scanner has, for images that were processed
        means = [value ** math.exp(0.3 * float(stream.normal(1))) for value in means]
    assert len(means) == len(CLASS_OF)
    return torch.tensor(means, device=stream.device)
