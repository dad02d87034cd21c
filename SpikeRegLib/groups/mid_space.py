"""The space in the middle of a person's visits: where each lies in it, and whether they are of one person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from SpikeRegLib.anatomy.layout import Places, fit_affine
from SpikeRegLib.anatomy.model import StructureModel
from SpikeRegLib.anatomy.pose import find_head
from SpikeRegLib.anatomy.reading import VIEWS
from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.motion import Reference
from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import MARGIN_MM, MULTIPLE, bare_side, check_size, load_side
from SpikeRegLib.progress import Listener, Progress, Tick, part_of_stage
from SpikeRegLib.space.matrix_logarithms import affine_exp, affine_log, nearest_rigid, without_mean

# No finer than this, whatever the voxels of the images: memory, and nothing that a change would need.
_FINEST_MM = 0.8
# Around the brain, what is kept of an image.
_SHOWN_MM = 25.0
# A brain that fills less of what stands out from the background lies in a whole head.
_WHOLE_HEAD = 0.75
# Correlation of both images after a rigid motion: below the first number two people, below the second a doubt. Three
# pairs of development brains have .58 to .59; visits made of one brain, with noise of a fortieth of white matter, .99.
_ONE_PERSON, _SURELY_ONE = 0.75, 0.90


@dataclass(frozen=True)
class Visit:
    """One visit as it was read.

    Attributes:
        name: its id.
        image: in its own intensities.
        scaled: the same in [0, 1]; of a whole head the brain alone.
        mask: [D, H, W] bool, the brain.
        places: of its structures.
        warnings: what a person should know.
    """

    name: str
    image: Volume
    scaled: Volume
    mask: torch.Tensor
    places: Places
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class MidSpace:
    """Where visits lie.

    Attributes:
        frame: isotropic with the axes of the patient, around all brains.
        matrices: [4, 4] mid-space -> visit, LPS mm, whose logarithms add to zero.
        correlations: of each visit with the one that all were aligned with, after that.
        warnings: what is doubtful.
    """

    frame: Frame
    matrices: list[np.ndarray]
    correlations: list[float]
    warnings: list[str]


def read_visit(name: str, path: Path, model: StructureModel, listener: Listener) -> Visit:
    """Read an image of a head and the structures in it.

    Raises:
        InputError: it cannot be used, or is no head.
    """
    listener(Progress("prepare", 0.0, f"reading {path}"))
    side = load_side(path)

    def heard(progress: Progress) -> None:
        listener(Progress("prepare", progress.fraction, f"structures of {name}"))

    found = find_head(model.network, model.layout, side.image, views=len(VIEWS), listener=heard)
    if not found.check.head:
        raise InputError(
            f"{path}: does not look like a human head ({found.check.reason}); give images of a whole head or brain"
        )
    brain = found.brain.on(side.image.frame)
    if float((brain & side.mask).sum()) <= _WHOLE_HEAD * float(side.mask.sum()):
        side = bare_side(side.image, Volume(brain.to(torch.int16), side.image.frame))
    part, frame = _around(side.mask, side.image.frame)
    image, mask = replace(side.image, data=side.image.data[part].clone(), frame=frame), side.mask[part].clone()
    scaled = Volume(torch.where(mask, side.scaled.data[part], 0.0), frame, image.name)
    warnings = (*side.image.warnings, *(() if found.warning is None else (f"{path}: {found.warning}",)))
    return Visit(name, image, scaled, mask, found.places, warnings)


def mid_space(visits: Sequence[Visit], digests: Sequence[str], *, affine: bool, listener: Listener) -> MidSpace:
    """The space in the middle of all visits; the same whatever their order.

    Args:
        visits: of one person.
        digests: one for each visit; the smallest says which one the others are aligned with on the way.
        affine: let sizes and shears differ as well.
        listener: hears the progress as step "align".

    Raises:
        InputError: two visits do not look like one person.
    """
    order = sorted(range(len(visits)), key=lambda number: digests[number])
    first = visits[order[0]]
    reference = Reference(first.scaled, first.mask, affine=affine)
    matrices = {order[0]: np.eye(4)}
    correlations, warnings = {order[0]: 1.0}, []
    for count, number in enumerate(order[1:]):
        visit = visits[number]
        share = (count / (len(visits) - 1), (count + 1) / (len(visits) - 1))
        heard = part_of_stage(listener, *share)
        fit = fit_affine(first.places, visit.places, rigid=True)
        if fit is None:
            raise InputError(f"{visit.image.name}: too few structures were found to align it; leave it out")
        there, agreement = reference.find(visit.scaled, nearest_rigid(fit.matrix), tick=_tick(heard, visit.name, 0.0))
        back, _ = Reference(visit.scaled, visit.mask, affine=affine).find(
            first.scaled, np.linalg.inv(there), tick=_tick(heard, visit.name, 0.5)
        )
        if agreement < _ONE_PERSON:
            raise InputError(
                f"{visit.image.name}: does not look like the person of {first.image.name} (correlation {agreement:.2f} "
                f"after a rigid motion, {_ONE_PERSON:g} needed); give visits of one person in one contrast"
            )
        if agreement < _SURELY_ONE:
            warnings.append(
                f"{visit.name} AND {first.name} AGREE POORLY after a rigid motion (correlation {agreement:.2f}): "
                "make sure that they are of one person and one contrast"
            )
        matrices[number] = there @ affine_exp(affine_log(np.linalg.inv(there) @ np.linalg.inv(back)) / 2)
        correlations[number] = agreement
    try:
        centred = without_mean([matrices[number] for number in order])
    except ValueError as error:
        raise InputError(f"visits: {error} against each other; check the orientation of the files") from error
    found = dict(zip(order, centred, strict=True))
    ordered = [found[number] for number in range(len(visits))]
    numbers = [correlations[number] for number in range(len(visits))]
    return MidSpace(_frame_around(visits, ordered), ordered, numbers, warnings)


def _around(mask: torch.Tensor, frame: Frame) -> tuple[tuple[slice, slice, slice], Frame]:
    """The part of a grid around a brain that the mid-space may show."""
    box = bounding_box(mask)
    assert box is not None  # a brain was found
    margins = [math.ceil(_SHOWN_MM / spacing) for spacing in reversed(frame.spacing)]
    low = [max(0, a - margin) for a, margin in zip(box[0], margins, strict=True)]
    high = [min(n - 1, b + margin) for b, margin, n in zip(box[1], margins, mask.shape, strict=True)]
    depth, height, width = (b - a + 1 for a, b in zip(low, high, strict=True))
    return slices_of(low, high), frame.part(low[::-1], (depth, height, width))


def _frame_around(visits: Sequence[Visit], matrices: Sequence[np.ndarray]) -> Frame:
    corners = []
    for visit, matrix in zip(visits, matrices, strict=True):
        box = bounding_box(visit.mask)
        assert box is not None  # a brain was found
        (k, j, i), part = box[0], visit.mask[slices_of(*box)]
        depth, height, width = part.shape
        back = np.linalg.inv(matrix)
        corners.append(
            visit.image.frame.part((i, j, k), (depth, height, width)).corners() @ back[:3, :3].T + back[:3, 3]
        )
    spacing_mm = max(_FINEST_MM, min(float(np.prod(visit.image.frame.spacing)) ** (1 / 3) for visit in visits))
    spacing_mm = round(spacing_mm, 3)
    first, last = np.min([each.min(0) for each in corners], 0), np.max([each.max(0) for each in corners], 0)
    frame = world_aligned(first - MARGIN_MM, last + MARGIN_MM, spacing_mm, MULTIPLE)
    check_size(frame, f"mid-space: spacing of {spacing_mm:g} mm")
    return frame


def _tick(listener: Listener, name: str, begin: float) -> Tick:
    """Hears half of the work on one visit."""
    return lambda done: listener(Progress("align", begin + 0.5 * done, f"aligning {name}"))
