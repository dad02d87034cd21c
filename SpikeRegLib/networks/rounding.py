"""Weights of convolutions as 8-bit integers whose drive is exact: the same to the last bit in any arithmetic.

A channel computes y = scale * sum(weight * count) + bias with integer weights. Its scale is an even, its bias an odd
multiple of one power of two, the unit, and every value that can occur is below 2^24 units. So

- float32 holds every drive and every partial sum exactly: the order of summation, tiles and processors do not matter;
- no drive lies half-way between two integers, so rounding to nearest, whatever it does with ties, is the count
  floor(y + 1/2) of an integrate-and-fire neuron (see neurons.py), and the simulation of its events agrees.

Neighbouring voxels have nearly the same counts, so what matters most is the sum of a kernel: each is rounded so that
its sum is off by half a unit of its scale at most, which halves the error of the drive on brains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

LEVELS = 127  # weights are -127..127
EXACT = 2.0**24  # integers up to here are exact in float32
# Bits of a channel's finest scale: as many as fit. Below 1 the finest of several scales is coarser than it could be.
SCALE_BITS = range(8, -17, -1)


class NotRepresentable(ValueError):
    """A channel's weights or bias are too large for exact sums; use another arithmetic."""


@dataclass(frozen=True)
class RoundedWeights:
    """Integer weights [out, variants, ...] (int8) and their scale [out, variants] (float32)."""

    weight: torch.Tensor
    scale: torch.Tensor


def round_weights(
    parts: Sequence[torch.Tensor], bias: torch.Tensor, *, largest_inputs: Sequence[int]
) -> tuple[list[RoundedWeights], torch.Tensor]:
    """Integers for the weights of convolutions that add up to one drive, and its bias [out] (float32).

    Args:
        parts: [out, variants, in, ...] each, in drive per input count. A drive is the sum of one variant of each part.
        bias: [out], in units of the drive.
        largest_inputs: of each part: T, or the levels of a quantised image.

    Raises:
        NotRepresentable: see there.
    """
    parts = [part.detach().cpu().float() for part in parts]
    exact_bias = bias.detach().cpu().double()
    scales = [torch.zeros(part.shape[:2], dtype=torch.float64) for part in parts]
    biases = torch.zeros_like(exact_bias)
    missing = torch.ones(len(bias), dtype=torch.bool)
    sizes = [part.flatten(2).abs() for part in parts]
    sums = [size.sum(2).double() for size in sizes]
    taps = [part[0, 0].numel() for part in parts]  # rounding adds less than 1 to each
    wanted = [size.amax(2).double() / LEVELS for size in sizes]
    everything = torch.cat(wanted, 1)
    finest = torch.where(everything > 0, everything, torch.inf).amin(1)
    finest = torch.where(finest.isinf(), 1 / LEVELS, finest)  # a channel that reads nothing
    wanted = [torch.maximum(scale, finest[:, None]) for scale in wanted]
    exponent = torch.frexp(finest)[1].double()
    for bits in SCALE_BITS:
        # Half of the last bit of the finest scale; never above 1/4, so that one half is an even multiple of it.
        unit = torch.exp2(exponent - bits - 1).clamp_max(0.25)
        tried = [2 * torch.ceil(scale / unit[:, None] / 2) * unit[:, None] for scale in wanted]
        odd = 2 * torch.round((exact_bias / unit - 1) / 2) + 1
        reach = odd.abs() + 0.5 / unit
        for absolute, count, scale, largest in zip(sums, taps, tried, largest_inputs, strict=True):
            reach += largest * (absolute + count * scale).amax(1) / unit
        found = missing & (reach < EXACT)
        for kept, scale in zip(scales, tried, strict=True):
            kept[found] = scale[found]
        biases[found] = (odd * unit)[found]
        missing &= ~found
        if not missing.any():
            rounded = [
                RoundedWeights(_integers(part, scale.float()), scale.float())
                for part, scale in zip(parts, scales, strict=True)
            ]
            return rounded, biases.float()
    raise NotRepresentable(f"{int(missing.sum())} channels sum beyond 2^24 units")


def _integers(part: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Nearest integers, but for the taps that were cut most: they are moved until the sum of each kernel is nearest."""
    exact = part.reshape(*part.shape[:3], -1) / scale[..., None, None]
    rounded = exact.round()
    missing = (exact - rounded).sum(-1).round()
    while bool(missing.any()):
        for sign in (1.0, -1.0):
            short = sign * missing > 0
            kernels = rounded[short]
            tap = (sign * (exact[short] - kernels)).argmax(-1, keepdim=True)
            rounded[short] = kernels.scatter_add(-1, tap, torch.full(tap.shape, sign))
            missing[short] -= sign
    return rounded.clamp_(-LEVELS, LEVELS).to(torch.int8).view_as(part)
