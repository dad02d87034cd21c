"""Align: the map before deformation, and the pair on the working grid through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from SpikeRegLib.affine.given import align_pair
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import on_working_frame, working_frame
from SpikeRegLib.pipeline.run import Run
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.guidance import lengths_scale
from SpikeRegLib.similarity.chance import above_chance
from SpikeRegLib.similarity.contrast import compare_by
from SpikeRegLib.similarity.pair import Working, itk_reading
from SpikeRegLib.space.field_of_view import known_of
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.space.known import FADE_MM, Known, extrapolated
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image

JUDGED_VOXELS = 2.0


@dataclass(frozen=True)
class Aligned:
    """The map fixed -> moving before deformation."""

    transform: Transform
    warnings: tuple[str, ...] = ()


def align_sides(run: Run, given: Transform | None, go_on: bool, skip: bool) -> Aligned:
    """Of a pair that is not aligned yet, or goes on from a given map."""
    if given is not None and not go_on:
        return Aligned(given)
    if skip:
        return Aligned(AffineTransform(np.eye(4)))
    masks = [
        Volume(side.mask.to(torch.int16), side.image.frame, side.image.name) if side.mask_given else None
        for side in (run.fixed, run.moving)
    ]
    # Of a given mask the alignment finds the holes itself, and takes what lies around it for background.
    left_out = [
        None if side.left_out is None or side.mask_given else Volume(side.left_out.to(torch.int16), side.image.frame)
        for side in (run.fixed, run.moving)
    ]
    transform, alignment = align_pair(
        run.fixed.image,
        run.moving.image,
        given=given,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        fixed_left_out=left_out[0],
        moving_left_out=left_out[1],
        seed=run.seed,
        listener=run.listener,
    )
    return Aligned(transform, tuple(alignment.warnings))


@dataclass(frozen=True)
class Pair:
    """The pair to be deformed.

    Attributes:
        working: on the working frame.
        judged: where the eye judges: on voxels of 2 mm at brain scale.
        itk_jacobian: see `itk_reading`.
        above_chance: see there.
    """

    working: Working
    judged: Working
    itk_jacobian: torch.Tensor | None
    above_chance: float | None


def make_pair(run: Run, base: Transform) -> Pair:
    working = _working(run, base)
    judged = working.coarser(JUDGED_VOXELS * working.frame.spacing[0])
    if not bool(judged.mask.any()):
        raise InputError(
            f"{run.fixed.image.name or 'fixed image'}: its mask is too small to register by; "
            "give one that covers the anatomy"
        )
    return Pair(working, judged, itk_reading(run.fixed.image.frame, base), above_chance(judged))


def _working(run: Run, base: Transform) -> Working:
    frame = working_frame(run.fixed, run.preset.working_spacing_mm, run.preset.working_voxels)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    fixed = on_working_frame(run.fixed, frame, None)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    moving = on_working_frame(run.moving, frame, base)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    if run.fixed.mask_given:
        covered = Volume(run.fixed.mask.float(), run.fixed.image.frame)
        mask = warp_image(covered, AffineTransform(np.eye(4)), frame).data > 0.5
    else:
        mask = fixed > FOREGROUND
    known = known_pair(run, frame, base)
    if known is not None:
        mask &= known.fixed[0] > 0.5
        fixed, moving = extrapolated(fixed, known.fixed[0]), extrapolated(moving, known.moving[0])
    if not bool((moving > 0).any()):
        raise InputError(
            f"{run.moving.image.name or 'moving image'}: does not overlap the fixed image after alignment; "
            "check the initial transform or leave out --skip-affine"
        )
    there = mask if known is None else mask & (known.counts > 0.5)
    comparison = compare_by(run.preset.similarity, fixed, moving, there)
    return Working(frame, fixed, moving, mask, comparison, known, fade_mm=FADE_MM * lengths_scale(run.preset, frame))


def known_pair(run: Run, frame: Frame, base: Transform | None) -> Known | None:
    """Where both images are known on the working frame, the moving one seen through `base`; None for everywhere."""
    identity = AffineTransform(np.eye(4))
    parts = known_of(run.fixed, frame, identity), known_of(run.moving, frame, base or identity)
    if parts[0] is None and parts[1] is None:
        return None
    whole = torch.ones(2, *frame.shape)
    return Known(whole if parts[0] is None else parts[0], whole if parts[1] is None else parts[1])
