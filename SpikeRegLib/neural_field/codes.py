"""The codes of a deformation: one for the whole pair and a grid of local ones, sampled between its nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from SpikeRegLib.space.fields import values_at
from SpikeRegLib.space.grids import Grid, resample


@dataclass(frozen=True)
class Codes:
    """What a decoder turns into a displacement.

    Positions are in mm along (x, y, z) from the first voxel of the working frame, whose axes are the world's.

    Attributes:
        overall: [global_size] code of the whole pair.
        local: [local_size, d, h, w] codes on `grid`; trilinear between its nodes, constant beyond them.
        grid: where the local codes are.
        centre_mm: (x, y, z) of the centre of the field, from which positions are measured for the decoder.
    """

    overall: torch.Tensor
    local: torch.Tensor
    grid: Grid
    centre_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if tuple(self.local.shape[1:]) != tuple(self.grid.shape):
            raise ValueError(f"local codes {list(self.local.shape)} do not fit their grid {self.grid.shape}")

    def to(self, device: str) -> Codes:
        """The same codes on another device."""
        return replace(self, overall=self.overall.to(device), local=self.local.to(device))

    def cells(self, position: torch.Tensor) -> torch.Tensor:
        """[N, 3] positions in cells from the first local code, of [N, 3] positions in mm."""
        return self.grid.to_index(position)

    def relative(self, position: torch.Tensor) -> torch.Tensor:
        """[N, 3] positions in mm from the centre of the field."""
        return position - position.new_tensor(self.centre_mm)

    def at(self, position: torch.Tensor) -> torch.Tensor:
        """[N, code_size]: the local code at [N, 3] positions in mm, and the global one."""
        return self._with_overall(values_at(self.local, self.cells(position)))

    def on(self, grid: Grid) -> torch.Tensor:
        """[N, code_size] as `at`, of all nodes of a grid in the order of its memory; faster than point by point."""
        return self._with_overall(resample(self.local, self.grid, grid).flatten(1).t())

    def _with_overall(self, local: torch.Tensor) -> torch.Tensor:
        return torch.cat((local, self.overall.expand(len(local), -1)), 1)


def positions_on(grid: Grid) -> torch.Tensor:
    """[N, 3] positions (x, y, z) in mm of the nodes of a grid, in the order of its memory."""
    axes = [torch.arange(n) * grid.spacing_mm + o for n, o in zip(grid.shape, grid.offset_mm, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y, z), -1).reshape(-1, 3)


def slabs_of(grid: Grid, most: int) -> list[Grid]:
    """Parts of a grid along its first axis with at most `most` nodes each (at least one plane)."""
    depth, height, width = grid.shape
    planes = max(1, most // (height * width))
    return [
        grid.cropped((start, 0, 0), (min(depth, start + planes), height, width)) for start in range(0, depth, planes)
    ]
