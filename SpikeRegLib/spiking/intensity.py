"""What a network reads: images brought to one mean and spread inside their foreground, as numbers or as levels.

A volume is gone through in slabs that stay in the processor's cache and one small buffer that is used again: touching
fresh memory for every step of the arithmetic costs more than all convolutions of a narrow network.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from SpikeRegLib.space.filters import FOREGROUND

# What `standardise` gives the foreground.
MEAN, SPREAD = 0.5, 0.2
_SLAB_VOXELS = 1 << 17


def standardise(image: torch.Tensor) -> torch.Tensor:
    """Mean 1/2 and standard deviation 1/5 inside the foreground, clipped to [0, 1]; background stays 0.

    Args:
        image: [B, C, D, H, W] in [0, 1]; every channel on its own.
    """
    result = torch.empty_like(image)
    for volume, place in _volumes(image):
        written = result[place]
        for planes, values in _standardised_slabs(volume):
            written[planes] = values
    return result


def to_levels(image: torch.Tensor, levels: int, *, standardised: bool) -> torch.Tensor:
    """The image rounded to 0 .. levels, [B, C, D, H, W] uint8 in channels-last order.

    Args:
        image: [B, C, D, H, W]; what lies outside [0, 1] is clipped.
        levels: at most 255.
        standardised: `standardise` it first.
    """
    batch, channels, *grid = image.shape
    encoded = torch.empty(batch, *grid, channels, dtype=torch.uint8, device=image.device).permute(0, 4, 1, 2, 3)
    half = image.new_tensor(0.5)
    for volume, place in _volumes(image):
        written = encoded[place]
        slabs = _standardised_slabs(volume) if standardised else _clipped_slabs(volume)
        for planes, values in slabs:
            # Converting to integers cuts off.
            written[planes] = torch.add(half, values, alpha=levels)
    return encoded


def _volumes(image: torch.Tensor) -> Iterator[tuple[torch.Tensor, tuple[int, int]]]:
    for item in range(image.shape[0]):
        for channel in range(image.shape[1]):
            yield image[item, channel], (item, channel)


def _slabs(volume: torch.Tensor) -> Iterator[slice]:
    depth = max(1, _SLAB_VOXELS // max(1, volume.shape[1] * volume.shape[2]))
    for begin in range(0, len(volume), depth):
        yield slice(begin, min(begin + depth, len(volume)))


def _clipped_slabs(volume: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    for planes in _slabs(volume):
        yield planes, volume[planes].clamp(0, 1)


def _standardised_slabs(volume: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Planes of a volume [D, H, W] and what `standardise` makes of them; valid until the next."""
    # The difference of large sums; MPS has no double precision.
    exact = torch.float32 if volume.device.type == "mps" else torch.float64
    count = total = squares = torch.zeros((), dtype=exact, device=volume.device)
    slabs = list(_slabs(volume))
    buffer = torch.empty_like(volume[slabs[0]])
    for planes in slabs:
        kept = torch.nn.functional.threshold(volume[planes], FOREGROUND, 0.0).flatten().to(exact)
        count = count + torch.count_nonzero(kept)
        total = total + kept.sum()
        squares = squares + torch.dot(kept, kept)
    count = count.clamp_min(1)
    mean = total / count
    spread = (squares / count - mean * mean).clamp_min(0).sqrt().clamp_min(1e-3)
    gain = (SPREAD / spread).to(volume.dtype)
    offset = (MEAN - mean * SPREAD / spread).to(volume.dtype)
    for planes in slabs:
        values = buffer[: planes.stop - planes.start]
        torch.mul(volume[planes], gain, out=values)
        yield planes, values.add_(offset).clamp_(0, 1).mul_(volume[planes] > FOREGROUND)
