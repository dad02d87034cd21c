"""What an instance optimisation does: its levels from coarse to fine. All lengths in mm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from SpikeRegLib.text.ranges import check_numbers

if TYPE_CHECKING:
    from SpikeRegLib.space.grids import Grid


@dataclass(frozen=True)
class Level:
    """One resolution of the coarse-to-fine schedule.

    Attributes:
        spacing_mm: of the images.
        iterations: at most so many.
        field_mm: spacing of the displacement field; at least `spacing_mm`.
        velocity_sigma_mm: Gaussian smoothing of each update (fluid regularisation).
        field_sigma_mm: Gaussian smoothing of the whole field after each update (diffusion regularisation).
        step: largest displacement of one update, in voxels of the field.
        maps: what a mean squared difference of 1 of the maps counts against the images' correlation, where there are
            maps (`feature_maps`).
    """

    spacing_mm: float
    iterations: int
    field_mm: float
    velocity_sigma_mm: float
    field_sigma_mm: float
    step: float = 0.5
    maps: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.field_mm < self.spacing_mm:
            raise ValueError(f"field_mm: must be at least spacing_mm, {self.spacing_mm:g}, got {self.field_mm:g}")

    @classmethod
    def usual(cls, spacing_mm: float, iterations: int) -> Level:
        """The level that did best on inter-subject brains, for any spacing: lengths in proportion to it."""
        field_mm = max(spacing_mm, min(2 * spacing_mm, 4.0))
        return cls(spacing_mm, iterations, field_mm, 1.73 * spacing_mm, 0.5 * spacing_mm)

    def on(self, frame: Grid) -> Level:
        """This level, no finer than the images that are there."""
        return replace(
            self, spacing_mm=max(self.spacing_mm, frame.spacing_mm), field_mm=max(self.field_mm, frame.spacing_mm)
        )


@dataclass(frozen=True)
class RefinementSchedule:
    """Levels from coarse to fine, and what they share.

    Attributes:
        levels: those finer than the input images are taken at the spacing of the input.
        window: edge of the correlation window, in voxels of each level, odd.
        momentum: share of the last update that is kept in the next, in [0, 1).
        both_ways: how many of the first levels are optimised both ways (`both_ways.refine_both_ways`); `refine` itself
            knows one way.
    """

    levels: tuple[Level, ...]
    window: int = 5
    momentum: float = 0.5
    both_ways: int = 0

    def maps_weight(self, spacing_mm: float) -> float:
        """`Level.maps` of the level whose images are nearest in spacing; of equals the finer one."""
        nearest = min(reversed(self.levels), key=lambda level: abs(level.spacing_mm - spacing_mm), default=None)
        return 0.0 if nearest is None else nearest.maps


_COARSE = (Level.usual(4.0, 20), Level.usual(2.0, 10))
# At 1 mm a little more diffusion costs no overlap and leaves a field that inverts better and folds less.
DEFAULT = RefinementSchedule((*_COARSE, Level(1.0, 5, 2.0, 1.73, 0.8)))
THOROUGH = RefinementSchedule((*_COARSE, Level(1.0, 10, 2.0, 1.73, 0.9)))
