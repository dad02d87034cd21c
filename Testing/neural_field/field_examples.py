"""Small neural fields with known properties, for the tests of this folder."""

from __future__ import annotations

import torch

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.space.grids import Grid

FRAME = Grid((40, 36, 32), 1.0)
SMALL = FieldSizes(global_size=4, local_size=6, frequencies=8, width=16)


def centre_of(frame: Grid) -> tuple[float, float, float]:
    """(x, y, z) mm."""
    x, y, z = ((n - 1) * frame.spacing_mm / 2 for n in reversed(frame.shape))
    return (x, y, z)


def random_codes(spacing_mm: float, *, seed: int, options: FieldSizes = SMALL, frame: Grid = FRAME) -> Codes:
    random = torch.Generator().manual_seed(seed)
    grid = frame.coarser(spacing_mm)
    local = torch.randn(options.local_size, *grid.shape, generator=random)
    return Codes(torch.randn(options.global_size, generator=random), local, grid, centre_of(frame))


def moving_decoders(*, largest: float = 0.05, options: FieldSizes = SMALL) -> Decoders:
    """Decoders whose last layers are no longer zero, so that codes move points."""
    decoders = Decoders(options)
    random = torch.Generator().manual_seed(7)
    for decoder in (decoders.forward_map, decoders.inverse_map):
        torch.nn.init.uniform_(decoder.last.weight, -largest, largest, generator=random)
    return decoders


def random_points(count: int, *, seed: int, frame: Grid = FRAME) -> torch.Tensor:
    """[N, 3] positions (x, y, z) mm, some of them outside the frame."""
    random = torch.Generator().manual_seed(seed)
    size = torch.tensor([float(n) * frame.spacing_mm for n in reversed(frame.shape)])
    return (torch.rand(count, 3, generator=random) * 1.2 - 0.1) * size
