"""What a user adds to a refinement beyond its preset: landmarks that pull, a region, another smoothness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_labels
from SpikeRegLib.pipeline.inputs import Source, same_grid
from SpikeRegLib.presets.preset import Preset
from SpikeRegLib.refinement.landmarks import REACH_MM, Landmarks, displacement_at, preimage
from SpikeRegLib.refinement.region import TAPER_MM, Region
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image
from SpikeRegLib.text.ranges import check_option

# Landmarks further apart than this at the end are named; so are neighbours closer than this that are pulled apart.
UNMET_MM = 2.0
_NAMED = 8


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
        check_option("regularisation", self.regularisation)
        check_option("landmark_weight", self.landmark_weight)
        if self.landmark_weight > 0 and not points_given:
            raise InputError(
                "--landmark-weight: needs landmarks; give --fixed-points and --moving-points, or leave it out"
            )

    @property
    def guided(self) -> bool:
        """Whether a region or another smoothness is asked for, which need a refinement to matter."""
        return self.region is not None or self.regularisation != 1

    def as_result(self) -> dict[str, Any]:
        """What result.json says about it."""
        return {
            "landmark_weight": self.landmark_weight,
            "regularisation": self.regularisation,
            "region": None if self.region is None else self.region.name or "given",
        }


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


def lengths_scale(preset: Preset, frame: Frame) -> float:
    """What lengths in mm are multiplied with: where the working grid follows the image, they are in its voxels."""
    return frame.spacing[0] if preset.working_voxels else 1.0


def region_on(frame: Frame, region: Volume, *, scale: float = 1.0) -> Region:
    """The region on a working frame.

    Args:
        frame: isotropic, with the axes of the patient.
        region: > 0 inside, on any grid.
        scale: factor on the width over which changes fade in.
    """
    # A voxel of the frame is inside if nothing near it is outside: thin gaps in the region are kept.
    reach = [math.ceil(frame.spacing[0] / spacing) for spacing in reversed(region.frame.spacing)]
    outside = (region.data <= 0).float()[None]
    for axis, n in enumerate(reach):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * n + 1, n
        outside = torch.nn.functional.max_pool3d(outside, kernel, stride=1, padding=padding)
    inside = warp_image(Volume(1 - outside[0], region.frame), AffineTransform(np.eye(4)), frame).data > 0.999
    return Region(inside, Grid(frame.shape, frame.spacing[0]), taper_mm=TAPER_MM * scale)


def landmarks_on(
    frame: Frame, fixed: torch.Tensor, moving: torch.Tensor, base: Transform, *, weight: float,
    region: Region | None = None, reach: float = 1.0,
) -> tuple[Landmarks | None, list[str]]:  # fmt: skip
    """The landmarks that can pull, seen in the working frame, and warnings about the others.

    Args:
        frame: isotropic, with the axes of the patient.
        fixed, moving: [N, 3] LPS mm.
        base: fixed -> moving, what follows the deformation.
        weight: see `Landmarks`.
        region: outside of which nothing moves.
        reach: factor on how far a landmark is felt.
    """
    origin = torch.tensor(frame.origin, dtype=torch.float64)
    start = fixed.double()
    if isinstance(base, AffineTransform):
        goals = base.inverse().map_points(moving)
    else:
        goals = preimage(base.map_points, moving.double(), start, step_mm=0.5 * frame.spacing[0])
    points, goals = start - origin, goals - origin
    last = torch.tensor(frame.size, dtype=torch.float64) * frame.spacing[0] - 2 * frame.spacing[0]
    pulling = ((points > frame.spacing[0]) & (points < last)).all(1)
    warnings = []
    if not bool(pulling.all()):
        warnings.append(f"{_numbers(~pulling)} too far from the anatomy to pull; only measured")
    if region is not None:
        grid = Grid(frame.shape, frame.spacing[0])
        reached = displacement_at(region.weight_on(grid)[None].expand(3, -1, -1, -1), grid, points)[:, 0] > 0
        if bool((pulling & ~reached).any()):
            warnings.append(f"{_numbers(pulling & ~reached)} outside the region or at its edge; only measured")
        pulling &= reached
    if not bool(pulling.any()):
        return None, warnings
    warnings += _contradictions(points, goals, pulling)
    return Landmarks(points[pulling], goals[pulling], weight, REACH_MM * reach), warnings


def _contradictions(points: torch.Tensor, goals: torch.Tensor, pulling: torch.Tensor) -> list[str]:
    """Pairs of landmarks that lie together in one image and apart in the other: no smooth map does that."""
    apart = [(p[:, None] - p[None]).double() for p in (points, goals)]
    torn = (apart[0] - apart[1]).norm(dim=2) > UNMET_MM
    close = torch.minimum(apart[0].norm(dim=2), apart[1].norm(dim=2)) < UNMET_MM
    pairs = (torn & close & pulling[:, None] & pulling[None]).triu(1).nonzero().tolist()
    if not pairs:
        return []
    named = ", ".join(f"{a + 1} and {b + 1}" for a, b in pairs[:_NAMED])
    more = f" and {len(pairs) - _NAMED} more pairs" if len(pairs) > _NAMED else ""
    return [
        f"landmarks {named}{more} contradict each other: they lie together in one image and apart in the other; "
        "check both, or remove one"
    ]


def unmet(distances_mm: list[float]) -> list[str]:
    """A warning that names the landmarks which are still far apart at the end.

    Args:
        distances_mm: of each landmark, in their order.
    """
    far = [(number, value) for number, value in enumerate(distances_mm, 1) if value > UNMET_MM]
    if not far:
        return []
    named = ", ".join(f"{number} ({value:.1f} mm)" for number, value in far[:_NAMED])
    more = f" and {len(far) - _NAMED} more" if len(far) > _NAMED else ""
    word = "landmark" if len(far) == 1 else "landmarks"
    return [f"{word} {named}{more} could not be brought together; check both points, or raise --landmark-weight"]


def _numbers(which: torch.Tensor) -> str:
    """ "landmark 3 lies" or "landmarks 3, 5 lie", counted from 1."""
    numbers = [n + 1 for n in which.nonzero()[:, 0].tolist()]
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    text = ", ".join(str(n) for n in numbers[:_NAMED]) + more
    return f"landmark {text} lies" if len(numbers) == 1 else f"landmarks {text} lie"
