"""The map before deformation: an alignment from the headers, or one that goes on from a given transform of any kind."""

from __future__ import annotations

import math

import numpy as np
import torch

from SpikeRegLib.affine import Alignment, align
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume, background_value
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.space.transforms import AffineTransform, Transform, compose, warp_image

# Points along each axis of the box in which the moving image is looked for.
_PROBES = 48
# The resampled moving image has at most so many voxels: an alignment needs no more.
_MOST_VOXELS = 6_000_000


def align_pair(
    fixed: Volume,
    moving: Volume,
    *,
    given: Transform | None = None,
    model: str = "affine",
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_left_out: Volume | None = None,
    moving_left_out: Volume | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> tuple[Transform, Alignment]:
    """Align a pair, from its headers or from where a `given` T0 (fixed -> moving) takes it.

    Without T0 every orientation is searched; with one, nothing far from it is. An affine T0 is the start of the
    alignment. Through any other one the moving image is resampled once, and what the alignment A of that image finds
    comes first: T(x) = T0(A(x)).

    Args:
        model: of the motion to find, as `affine.align` takes it.
        fixed, moving, fixed_mask, moving_mask, fixed_left_out, moving_left_out, seed, listener: as `affine.align` takes
            them.

    Returns:
        T, fixed -> moving, and what the alignment says about itself.

    Raises:
        InputError: T0 takes no point near the fixed image into the moving one.
    """
    if given is None:
        found = align(
            fixed, moving, model=model, fixed_mask=fixed_mask, moving_mask=moving_mask, fixed_left_out=fixed_left_out,
            moving_left_out=moving_left_out, seed=seed, listener=listener,
        )  # fmt: skip
        return found.transform, found
    if isinstance(given, AffineTransform):
        found = align(
            fixed, moving, model=model, fixed_mask=fixed_mask, moving_mask=moving_mask, fixed_left_out=fixed_left_out,
            moving_left_out=moving_left_out, initial=given, seed=seed, listener=listener,
        )  # fmt: skip
        return found.transform, found
    frame = frame_seen_through(given, fixed.frame, moving)
    listener(Progress("align", 0.0, "resampling through the initial transform"))
    seen = warp_image(moving, given, frame, outside=background_value(moving))
    seen_mask, seen_left_out = (
        None if part is None else warp_image(part, given, frame, interpolation="nearest")
        for part in (moving_mask, moving_left_out)
    )
    found = align(
        fixed, seen, model=model, fixed_mask=fixed_mask, moving_mask=seen_mask, fixed_left_out=fixed_left_out,
        moving_left_out=seen_left_out, initial=Transform.identity(), seed=seed, listener=listener,
    )  # fmt: skip
    return compose(found.transform, given), found


def frame_seen_through(given: Transform, fixed: Frame, moving: Volume) -> Frame:
    """A grid in fixed space that holds what `given` takes into the moving image, also beyond the fixed image.

    Its axes are the patient's; its voxels are as fine as the moving image's finest side, within reason.

    Raises:
        InputError: `given` takes no point of the fixed image or its surroundings into the moving image.
    """
    corners = fixed.corners()
    lower, upper = corners.min(0), corners.max(0)
    around = float(np.linalg.norm(upper - lower)) / 2
    axes = [np.linspace(a - around, b + around, _PROBES) for a, b in zip(lower, upper, strict=True)]
    probes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    reached = given.map_points(torch.from_numpy(probes)).numpy()
    index = moving.frame.to_index(reached)
    inside = ((index > -1) & (index < np.asarray(moving.frame.size))).all(1)
    if not inside.any():
        raise InputError(
            f"{moving.name or 'moving image'}: the initial transform takes no part of the fixed image into it; "
            "check its direction (fixed to moving), or leave it out"
        )
    step = np.array([axis[1] - axis[0] for axis in axes])
    lower, upper = probes[inside].min(0) - step, probes[inside].max(0) + step
    spacing = max(min(moving.frame.spacing), float(math.prod(upper - lower) / _MOST_VOXELS) ** (1 / 3))
    return world_aligned(lower, upper, spacing)
