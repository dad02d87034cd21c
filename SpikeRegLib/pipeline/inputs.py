"""Everything a registration is given, read and checked before any work is spent."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.given import Source, load_image
from SpikeRegLib.images.points import check_inside, read_points
from SpikeRegLib.images.volumes import (
    Volume,
    foreground_mask,
    normalise_intensity,
    read_labels,
)
from SpikeRegLib.space.field_of_view import Faces, cut_faces
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image
from SpikeRegLib.text.ranges import GRID_VOXELS, within

MARGIN_MM = 12.0
# Keeps the grids of the coarser levels whole; deeper ones are cropped where they do not fit.
MULTIPLE = 8


@dataclass(frozen=True)
class Side:
    """One of the two images with what belongs to it.

    Attributes:
        image: in its own intensities.
        scaled: the same in [0, 1], robustly scaled inside the mask.
        mask: [D, H, W] bool on the image's grid, given or found; the region that counts.
        mask_given: whether the caller gave the mask.
        left_out: [D, H, W] bool, the part of the anatomy that does not count; None for nothing.
        cut: the faces of the grid that cut through the anatomy.
        labels: segmentation on the image's grid.
        points: [N, 3] landmarks, LPS mm.
        brain_only: whether the mask is that of the brain that was found in a whole head.
    """

    image: Volume
    scaled: Volume
    mask: torch.Tensor
    mask_given: bool
    labels: Volume | None
    points: torch.Tensor | None
    left_out: torch.Tensor | None = None
    cut: Faces = ((False, False), (False, False), (False, False))
    brain_only: bool = False


def load_side(
    source: Source,
    *,
    mask: Source | None = None,
    leave_out: Source | None = None,
    labels: Source | None = None,
    points: torch.Tensor | str | os.PathLike[str] | None = None,
    allow_nonfinite: bool = False,
    allow_few_values: bool = False,
    role: str = "image",
) -> Side:
    """Read one image and what belongs to it.

    Args:
        source, mask, leave_out, labels, points: files, or what was read from them.
        allow_nonfinite: take NaN and infinite voxels as background.
        allow_few_values: take a file of few grey values for an image, see `images.read_image`.
        role: what a message calls an image that came from no file.

    Raises:
        InputError: any of it is unusable; the message names the file.
    """
    image = load_image(source, allow_nonfinite=allow_nonfinite, allow_few_values=allow_few_values, role=role)
    side = bare_side(image, mask, leave_out, role=role)
    return with_points(replace(side, labels=load_labels(labels, side.image)), points, role=role)


def bare_side(
    image: Volume, mask: Source | None = None, leave_out: Source | None = None, *, role: str = "image"
) -> Side:
    """A side without labels and points; arguments and errors as in `load_side`."""
    anatomy = foreground_mask(image)
    region = anatomy if mask is None else _labels_on(mask, image, "mask").data > 0
    if not bool(region.any()):
        raise InputError(f"{_name(mask) or image.name or role}: the mask is empty; give one that covers the anatomy")
    # Background outside a mask is what it seems; the rest of the anatomy there is not to be looked at.
    left_out = None if mask is None else anatomy & ~region
    if leave_out is not None:
        given = _labels_on(leave_out, image, "mask of what is left out").data > 0
        left_out = given if left_out is None else left_out | given
        region = region & ~given
        if not bool(region.any()):
            raise InputError(
                f"{_name(leave_out) or role}: it leaves out all of the anatomy; mark only what shall not count"
            )
    return Side(
        image=image,
        scaled=normalise_intensity(image, region),
        mask=region,
        mask_given=mask is not None,
        labels=None,
        points=None,
        left_out=left_out if left_out is not None and bool(left_out.any()) else None,
        cut=cut_faces(anatomy),
    )


def load_labels(source: Source | None, image: Volume) -> Volume | None:
    """The segmentation of a side, if there is one; errors as in `load_side`."""
    return None if source is None else _labels_on(source, image, "segmentation")


def with_points(side: Side, points: torch.Tensor | str | os.PathLike[str] | None, *, role: str = "image") -> Side:
    """The side with landmarks; arguments and errors as in `load_side`."""
    if points is None:
        return side
    if isinstance(points, torch.Tensor):
        coordinates, where = points.double(), f"points of the {role}"
        if coordinates.ndim != 2 or coordinates.shape[1] != 3 or not bool(torch.isfinite(coordinates).all()):
            raise InputError(
                f"{where}: shape {list(points.shape)} or a value is unusable; give finite [N, 3] in LPS mm"
            )
    else:
        coordinates, where = read_points(points), str(points)
    check_inside(coordinates, side.image.frame, where)
    return replace(side, points=coordinates)


def check_pair(fixed: Side, moving: Side) -> None:
    """What can only be checked with both sides at hand.

    Raises:
        InputError: landmark lists of different length.
    """
    if fixed.points is not None and moving.points is not None and len(fixed.points) != len(moving.points):
        raise InputError(
            f"landmarks: {len(fixed.points)} fixed but {len(moving.points)} moving points; give pairs in the same order"
        )


def working_frame(fixed: Side, spacing_mm: float, voxels: int = 0) -> Frame:
    """The world-aligned isotropic grid on which network and refinement work: the fixed mask and a margin around it.

    Args:
        fixed: the fixed side.
        spacing_mm: voxel size of the grid.
        voxels: where positive, the voxel size is chosen instead so that the mask spans about this many voxels.
    """
    box = bounding_box(_extent(fixed))
    assert box is not None  # `bare_side` refuses an empty mask
    corners = np.array([[i, j, k] for k, j, i in itertools.product(*zip(*box, strict=True))], dtype=float)
    matrix = fixed.image.frame.matrix
    points = corners @ matrix[:3, :3].T + matrix[:3, 3]
    first, last = points.min(0), points.max(0)
    margin = MARGIN_MM
    if voxels:
        spacing_mm = float(np.prod(last - first + 1e-6) / voxels) ** (1 / 3)
        margin = MARGIN_MM * spacing_mm
    frame = world_aligned(first - margin, last + margin, spacing_mm, MULTIPLE)
    check_size(frame, f"{fixed.image.name or 'fixed image'}: working spacing of {spacing_mm:g} mm")
    return frame


def lengths_scale(working_voxels: int, frame: Frame) -> float:
    """What lengths in mm are multiplied with: where a preset's working grid follows the image, they are in its voxels.

    Args:
        working_voxels: of the preset; positive where the grid follows the image.
        frame: of the working grid.
    """
    return frame.spacing[0] if working_voxels else 1.0


def check_size(frame: Frame, asked: str) -> None:
    """Refuse a grid that no memory holds, before any is taken.

    Args:
        frame: the grid.
        asked: what asked for it, for the message.

    Raises:
        InputError: the grid has more voxels than `ranges.GRID_VOXELS`.
    """
    try:
        within("voxels of the grid", math.prod(frame.shape), *GRID_VOXELS)
    except ValueError as error:
        raise InputError(f"{asked}: {error}; take a larger spacing") from error


def _extent(side: Side) -> torch.Tensor:
    """[D, H, W] bool: the mask, and what was taken out of it."""
    if side.left_out is None or side.mask_given:
        return side.mask
    return side.mask | (side.left_out & foreground_mask(side.image))


def on_working_frame(side: Side, frame: Frame, transform: Transform | None) -> torch.Tensor:
    """[D, H, W] in [0, 1]: the scaled image on the working frame, through `transform` (working -> image points)."""
    return on_frame(side.scaled, frame, AffineTransform.identity() if transform is None else transform)


def on_frame(image: Volume, frame: Frame, transform: Transform) -> torch.Tensor:
    """[D, H, W]: an image on an isotropic frame through `transform` (frame -> image points), without aliasing."""
    return warp_image(_smooth_for(image, frame), transform, frame).data


def _smooth_for(volume: Volume, frame: Frame) -> Volume:
    """Average away what the working frame cannot hold: a box over the voxels that fall into one of its voxels."""
    factors = [max(1, round(frame.spacing[0] / s * 0.99)) for s in reversed(volume.frame.spacing)]
    if max(factors) == 1:
        return volume
    kernel = [f + 1 - f % 2 if f > 1 else 1 for f in factors]
    data = volume.data[None, None]
    for axis, width in enumerate(kernel):
        if width > 1:
            data = _triangle(data, axis + 2, width)
    return Volume(data[0, 0], volume.frame, volume.name)


def _triangle(data: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """Weights 1, 2, ..., 2, 1 of odd `width` along one axis, borders repeated."""
    half = width // 2
    weights = [half + 1 - abs(offset) for offset in range(-half, half + 1)]
    length = data.shape[axis]
    index = torch.arange(length)
    total = torch.zeros_like(data)
    for offset, weight in zip(range(-half, half + 1), weights, strict=True):
        total += data.index_select(axis, (index + offset).clamp(0, length - 1)) * (weight / sum(weights))
    return total


def _labels_on(source: Source, image: Volume, what: str) -> Volume:
    labels = source if isinstance(source, Volume) else read_labels(source)
    if not same_grid(labels.frame, image.frame):
        raise InputError(
            f"{_name(source) or what}: the {what} is on another grid than {image.name or 'its image'}; "
            "resample it onto that image"
        )
    if what == "segmentation" and not bool((labels.data > 0).any()):
        raise InputError(f"{_name(source) or what}: no label above 0; check that it is the right one")
    return labels


def same_grid(first: Frame, second: Frame) -> bool:
    """Whether two grids have the same shape and their corners lie within a twentieth of a voxel of each other."""
    if first.shape != second.shape:
        return False
    return bool(np.abs(first.corners() - second.corners()).max() < 0.05 * min(first.spacing))


def _name(source: Source | None) -> str:
    if source is None:
        return ""
    return source.name if isinstance(source, Volume) else str(Path(source))
