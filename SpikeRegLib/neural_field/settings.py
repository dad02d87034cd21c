"""What a preset says about a neural deformation field; checked without torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from SpikeRegLib.text.ranges import check_numbers


@dataclass(frozen=True)
class FieldSettings:
    """The neural deformation field of a preset.

    Where a preset lets the working grid follow the image (`working_voxels`), lengths are in its voxels instead of mm.

    Attributes:
        stages_mm: distances of neighbouring codes, coarse to fine. Of an encoder's field its own codes are optimised,
            and the stages finer than they are added.
        iterations: of the instance optimisation of the codes, at the coarsest level; 0 takes the encoder's codes as
            they are.
        seconds: the most the optimisation may take; 0 for no limit.
        decoder: optimise the weights of the decoders, too; the code file then holds them.
        grid_mm: voxel size at which the continuous field is sampled for the resulting transform.
    """

    stages_mm: tuple[float, ...] = (32.0, 16.0, 8.0)
    iterations: int = 0
    seconds: float = 0.0
    decoder: bool = False
    grid_mm: float = 2.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.stages_mm or any(a <= b for a, b in itertools.pairwise(self.stages_mm)):
            raise ValueError(f"stages_mm: must go from coarse to fine, got {list(self.stages_mm)}")
