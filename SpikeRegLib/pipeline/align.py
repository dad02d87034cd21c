"""Align: the map before deformation, and the pair on the working grid through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from SpikeRegLib.affine.given import align_pair
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.anatomy import both_heads, similarity_of, start_of
from SpikeRegLib.pipeline.inputs import Side, lengths_scale, on_working_frame, working_frame
from SpikeRegLib.pipeline.known import known_pair
from SpikeRegLib.pipeline.linear import check_linear
from SpikeRegLib.pipeline.stage import Stage, Work
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.similarity.chance import above_chance
from SpikeRegLib.similarity.contrast import compare_by
from SpikeRegLib.similarity.pair import Pair, itk_reading
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.space.known import FADE_MM, extrapolated
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image

JUDGED_VOXELS = 2.0


@dataclass(frozen=True)
class BaseMap:
    """The map fixed -> moving before deformation, and whether it comes from structures found in both images."""

    transform: Transform
    warnings: tuple[str, ...] = ()
    by_structures: bool = False


def _base_map(work: Work, settings: dict[str, Any]) -> BaseMap:
    """The given map, none, the one between structures, or the alignment of the images, from their headers or from the
    given map on."""
    given: Transform | None = work["initial transform"]
    type_ = settings["transform_type"]
    if given is not None:
        check_linear(given, type_)
    if given is not None and not settings["align"]:
        return BaseMap(given)
    if settings["skip_affine"]:
        return BaseMap(AffineTransform.identity())
    heads = both_heads(work["fixed anatomy"], work["moving anatomy"])
    if given is None and heads is not None and type_ != "rigid" and "start" in settings["structures_for"]:
        between = start_of(*heads)
        if between is not None:
            return BaseMap(between, by_structures=True)
    sides: tuple[Side, Side] = work["fixed mask"], work["moving mask"]
    masks = [
        Volume(side.mask.to(torch.int16), side.image.frame, side.image.name) if side.mask_given else None
        for side in sides
    ]
    # Of a given mask the alignment finds the holes itself, and takes what lies around it for background.
    left_out = [
        None if side.left_out is None or side.mask_given else Volume(side.left_out.to(torch.int16), side.image.frame)
        for side in sides
    ]
    transform, alignment = align_pair(
        sides[0].image,
        sides[1].image,
        given=given,
        model="rigid" if type_ == "rigid" else "affine",
        fixed_mask=masks[0],
        moving_mask=masks[1],
        fixed_left_out=left_out[0],
        moving_left_out=left_out[1],
        seed=settings["seed"],
        listener=work.listener,
    )
    return BaseMap(transform, tuple(alignment.warnings))


@dataclass(frozen=True)
class TwoScalePair:
    """The pair to be deformed, on two grids, and what follows from both images and the alignment.

    Attributes:
        working: on the working frame, where deformations are sought.
        judged: the same with twice the voxel size (2 mm for a brain), where their similarity is measured.
        itk_jacobian: see `itk_reading`.
        above_chance: see there.
    """

    working: Pair
    judged: Pair
    itk_jacobian: torch.Tensor | None
    above_chance: float | None


def make_pair(
    fixed: Side, moving: Side, base: Transform, *, spacing_mm: float, voxels: int, similarity: str, listener: Listener
) -> TwoScalePair:
    """The pair through `base` (fixed -> moving), on the grid that the preset's `working_...` and `similarity` ask for.

    Raises:
        InputError: the mask holds nothing there, or the images do not overlap.
    """
    working = _working(fixed, moving, base, spacing_mm, voxels, similarity, listener)
    judged = working.coarser(JUDGED_VOXELS * working.frame.spacing[0])
    if not bool(judged.mask.any()):
        raise InputError(
            f"{fixed.image.name or 'fixed image'}: its mask is too small to register by; "
            "give one that covers the anatomy"
        )
    return TwoScalePair(working, judged, itk_reading(fixed.image.frame, base), above_chance(judged))


def _working(
    fixed_side: Side, moving_side: Side, base: Transform, spacing_mm: float, voxels: int, similarity: str,
    listener: Listener,
) -> Pair:  # fmt: skip
    frame = working_frame(fixed_side, spacing_mm, voxels)
    listener(Progress("align", 1.0, "resampling the pair"))
    fixed = on_working_frame(fixed_side, frame, None)
    listener(Progress("align", 1.0, "resampling the pair"))
    moving = on_working_frame(moving_side, frame, base)
    listener(Progress("align", 1.0, "resampling the pair"))
    if fixed_side.mask_given:
        covered = Volume(fixed_side.mask.float(), fixed_side.image.frame)
        mask = warp_image(covered, AffineTransform.identity(), frame).data > 0.5
    else:
        mask = fixed > FOREGROUND
    known = known_pair(fixed_side, moving_side, frame, base)
    if known is not None:
        mask &= known.fixed[0] > 0.5
        fixed, moving = extrapolated(fixed, known.fixed[0]), extrapolated(moving, known.moving[0])
    if not bool((moving > 0).any()):
        raise InputError(
            f"{moving_side.image.name or 'moving image'}: does not overlap the fixed image after alignment; "
            "check the initial transform or leave out --skip-affine"
        )
    there = mask if known is None else mask & (known.counts > 0.5)
    comparison = compare_by(similarity, fixed, moving, there)
    return Pair(frame, fixed, moving, mask, comparison, known, fade_mm=FADE_MM * lengths_scale(voxels, frame))


def _working_pair(work: Work, settings: dict[str, Any]) -> TwoScalePair:
    sides: tuple[Side, Side] = work["fixed mask"], work["moving mask"]
    both = both_heads(work["fixed anatomy"], work["moving anatomy"])
    return make_pair(
        *sides, work["alignment"].transform,
        spacing_mm=settings["preset.working_spacing_mm"], voxels=settings["preset.working_voxels"],
        similarity=similarity_of(settings["preset.similarity"], *sides, both), listener=work.listener,
    )  # fmt: skip


ALIGNMENT = Stage(
    "alignment", "align", _base_map, reads=("align", "skip_affine", "seed", "structures_for", "transform_type"),
    follows=("fixed mask", "moving mask", "fixed anatomy", "moving anatomy", "initial transform"),
)  # fmt: skip
WORKING_PAIR = Stage(
    "working pair", "align", _working_pair,
    reads=("preset.working_spacing_mm", "preset.working_voxels", "preset.similarity"),
    follows=("fixed mask", "moving mask", "fixed anatomy", "moving anatomy", "alignment"),
)  # fmt: skip
