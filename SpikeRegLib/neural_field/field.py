"""A deformation as a function: decoders and codes, evaluated at any point, composed from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from SpikeRegLib.neural_field.codes import Codes, positions_on, slabs_of
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.space.grids import Grid

# Points decoded at once: few enough for what they need to stay in the processor's cache, which is a third faster.
POINTS_AT_ONCE = 4_096


class Decoders(nn.Module):
    """The decoder of the map fixed -> moving and that of its inverse.

    Args:
        options: sizes, of both.
    """

    def __init__(self, options: FieldSizes) -> None:
        super().__init__()
        self.options = options
        self.forward_map, self.inverse_map = Decoder(options), Decoder(options)

    def displacement(self, codes: Codes, position: torch.Tensor, *, inverse: bool = False) -> torch.Tensor:
        """[N, 3] displacement in mm (x, y, z) at [N, 3] positions in mm.

        Args:
            codes: of one stage.
            position: from the first voxel of the working frame.
            inverse: of the map moving -> fixed.
        """
        decoder = self.inverse_map if inverse else self.forward_map
        found = decoder(codes.at(position), codes.relative(position), codes.cells(position))
        return codes.grid.to_mm(found)

    def on(self, codes: Codes, grid: Grid, *, inverse: bool = False) -> torch.Tensor:
        """[3, D, H, W] displacement in mm at the nodes of a grid."""
        decoder = self.inverse_map if inverse else self.forward_map
        position = positions_on(grid).to(codes.local.device)
        found = decoder(codes.on(grid), codes.relative(position), codes.cells(position))
        return codes.grid.to_mm(found).t().reshape(3, *grid.shape)


class NeuralField:
    """phi = phi_1 o phi_2 o ...: stages from coarse to fine that share their decoders.

    A fixed point goes through the finest stage first: every stage sees the moving image as the coarser ones warped it.

    Args:
        decoders: of all stages.
        stages: codes from coarse to fine, on the same device.
    """

    def __init__(self, decoders: Decoders, stages: Sequence[Codes]) -> None:
        if not stages:
            raise ValueError("a neural field needs at least one stage of codes")
        self.decoders, self.stages = decoders, tuple(stages)

    def points(self, position: torch.Tensor, *, inverse: bool = False) -> torch.Tensor:
        """[N, 3] positions in mm where [N, 3] positions are mapped to; `inverse`: from moving to fixed points."""
        parts = []
        for part in position.split(POINTS_AT_ONCE):
            for codes in self.stages if inverse else reversed(self.stages):
                part = part + self.decoders.displacement(codes, part, inverse=inverse)
            parts.append(part)
        return torch.cat(parts) if parts else position

    @torch.no_grad()
    def displacement_on(self, grid: Grid, *, inverse: bool = False, tick: Tick = unheard) -> torch.Tensor:
        """[3, D, H, W] displacement in mm at the nodes of any grid, exact, in slabs of limited memory.

        Args:
            grid: its positions count from the first voxel of the working frame.
            inverse: of the map moving -> fixed.
            tick: called before every slab.
        """
        out = torch.empty(3, *grid.shape)
        first = self.stages[0 if inverse else -1]
        rest = self.stages[1:] if inverse else self.stages[-2::-1]
        row = 0
        for slab in slabs_of(grid, POINTS_AT_ONCE):
            tick(row / grid.shape[0])
            start = positions_on(slab).to(first.local.device)
            position = start + self.decoders.on(first, slab, inverse=inverse).flatten(1).t()
            for codes in rest:
                position = position + self.decoders.displacement(codes, position, inverse=inverse)
            out[:, row : row + slab.shape[0]] = (position - start).t().reshape(3, *slab.shape).cpu()
            row += slab.shape[0]
        return out
