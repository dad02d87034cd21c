"""What a user adds to a refinement beyond its preset: landmarks that pull, a region, another smoothness."""

from __future__ import annotations

import math
from dataclasses import dataclass

from SpikeRegLib.configuration import REGULARISATION
from SpikeRegLib.errors import InputError
from SpikeRegLib.images import Volume, read_labels
from SpikeRegLib.inputs import Source, same_grid


@dataclass(frozen=True)
class RefinementOptions:
    """How this one run refines.

    Attributes:
        landmark_weight: what 1 mm of mean landmark error counts, in units of similarity; 0 leaves landmarks out.
        regularisation: factor on the smoothing lengths of every level.
        iterations: per level instead of the preset's; 0 leaves the levels out, None takes the preset's.
        region: on the grid of the fixed image; outside of it (0) the deformation stays what it was.
    """

    landmark_weight: float = 0.0
    regularisation: float = 1.0
    iterations: int | None = None
    region: Volume | None = None

    def check(self, *, points_given: bool) -> None:
        """Refuse what no run can use.

        Raises:
            InputError: a value out of range, or a weight without landmarks.
        """
        low, high = REGULARISATION
        if not low <= self.regularisation <= high:
            raise InputError(f"--regularisation: must be between {low:g} and {high:g}, got {self.regularisation:g}")
        if not (math.isfinite(self.landmark_weight) and self.landmark_weight >= 0):
            raise InputError(f"--landmark-weight: must be 0 or more, got {self.landmark_weight:g}")
        if self.landmark_weight > 0 and not points_given:
            raise InputError(
                "--landmark-weight: needs landmarks; give --fixed-points and --moving-points, or leave it out"
            )


def read_region(source: Source, fixed: Volume) -> Volume:
    """The mask that limits a refinement.

    Raises:
        InputError: unreadable, empty, or on another grid than the fixed image.
    """
    region = source if isinstance(source, Volume) else read_labels(source)
    name = region.name or "region"
    if not same_grid(region.frame, fixed.frame):
        raise InputError(f"{name}: the region is on another grid than the fixed image; resample it onto that image")
    if not bool((region.data > 0).any()):
        raise InputError(f"{name}: the region is empty; mark where to refine, or leave out --region")
    return region
