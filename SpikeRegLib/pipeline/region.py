"""The region that limits a refinement: read, checked, and brought onto the working grid."""

from __future__ import annotations

import math

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.given import Source
from SpikeRegLib.images.volumes import Volume, read_labels
from SpikeRegLib.pipeline.inputs import lengths_scale, same_grid
from SpikeRegLib.pipeline.stage import Chosen, Stage, Tracked, Work
from SpikeRegLib.progress import tell_reading
from SpikeRegLib.refinement.region import TAPER_MM, Region
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, warp_image


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
    inside = warp_image(Volume(1 - outside[0], region.frame), AffineTransform.identity(), frame).data > 0.999
    return Region(inside, Grid(frame.shape, frame.spacing[0]), taper_mm=TAPER_MM * scale)


def _image(work: Work, settings: dict[str, Tracked]) -> Volume | None:
    given, side = settings["region"].given, work["fixed input"]
    if given is None:
        return None
    tell_reading(work.listener, given, fraction=1.0)
    return read_region(given, side.image)


def _settings(chosen: Chosen, work: Work) -> tuple[Tracked, int]:
    return Tracked(work["region image"], chosen.region.key), chosen.preset.working_voxels


def _region(work: Work, settings: tuple[Tracked, int]) -> Region | None:
    """Where the deformation may change; None for everywhere."""
    (region, working_voxels), pair = settings, work["working pair"]
    if region.given is None:
        return None
    return region_on(pair.working.frame, region.given, scale=lengths_scale(working_voxels, pair.working.frame))


REGION_IMAGE = Stage("region image", "prepare", _image, reads=("region",), follows=("fixed input",), kept=False)
REGION = Stage(
    "region", "refine", _region, reads=("region", "preset.working_voxels"), follows=("region image", "working pair"),
    settings=_settings,
)  # fmt: skip
