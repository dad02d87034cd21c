"""How sure the network is of what it says."""

from __future__ import annotations

import torch

from SpikeRegLib.anatomy.brain import BrainMask
from SpikeRegLib.anatomy.reading import StructureMaps
from SpikeRegLib.anatomy.structures import CLASSES


def confidences(maps: StructureMaps, brain: BrainMask) -> list[float]:
    """[classes] the mean probability of the likeliest class where it is that class; of class 0, in all of the brain.

    0 for a class that is nowhere likeliest.
    """
    probability, classes = maps.logits[:, brain.inside].softmax(0).max(0)
    sums = torch.zeros(CLASSES, dtype=torch.float64).index_add_(0, classes, probability.double())
    counts = torch.bincount(classes, minlength=CLASSES)
    whole = float(probability.double().mean()) if len(probability) else 0.0
    return [whole, *(sums / counts.clamp_min(1)).tolist()[1:]]
