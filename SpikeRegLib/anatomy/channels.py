"""Many maps in few channels: every structure gets a word of bits; a channel is the share of those that have its bit.

Any two words differ in a third of their bits at least, as those of an error-correcting code, so the squared difference
of the channels tells any two structures apart about as well as that of all maps does, at a third of the cost.
"""

from __future__ import annotations

import torch

from SpikeRegLib.anatomy.structures import CLASSES

CHANNELS = 12
_LEAST_DIFFERENCE = 4


def _words() -> list[int]:
    """The first words, in the order of numbers, that differ from all before them in enough bits (a lexicographic code,
    Conway and Sloane 1986); the background's is 0."""
    words: list[int] = []
    for word in range(1 << CHANNELS):
        if all((word ^ other).bit_count() >= _LEAST_DIFFERENCE for other in words):
            words.append(word)
        if len(words) == CLASSES:
            return words
    raise AssertionError("too few words")


def channels_of(probabilities: torch.Tensor) -> torch.Tensor:
    """[12, D, H, W] of [classes, D, H, W].

    The squared difference of two voxels of one structure each, summed over the channels, is 4/3 to 8/3: about the 2 of
    the maps themselves.
    """
    bits = torch.tensor([[word >> bit & 1 for word in _words()] for bit in range(CHANNELS)])
    mix = bits.to(probabilities) * (4 / CHANNELS) ** 0.5
    return torch.einsum("kc,cdhw->kdhw", mix, probabilities)
