"""One pair of a study measured: read its files, carry labels and landmarks through the transform, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import read_array
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_labels
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.quality import metrics
from SpikeRegLib.quality.learn2reg import learn2reg_hd95_voxels, learn2reg_sdlogj, learn2reg_tre_mm
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, read_transform, warp_image
from SpikeRegLib.studies.landmarks import read_landmarks
from SpikeRegLib.studies.pairs import StudyPair
from SpikeRegLib.studies.results import is_voxel_field
from SpikeRegLib.studies.voxel_fields import in_mm, in_voxels, read_voxel_field

Row = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """The figures of one pair; names, units and definitions are those of `studies.figures`.

    Attributes:
        figures: name -> value, of the whole pair. Figures without their files are left out.
        labels: label or group -> name -> value.
    """

    figures: Row
    labels: dict[int, Row]


def measure(
    pair: StudyPair,
    path: Path,
    *,
    labels: Sequence[int] | None = None,
    groups: Mapping[int, int] | None = None,
) -> Measured:
    """Measure the transform of one pair.

    A field in voxels leads from an index of the fixed image to one of the moving image; as in Learn2Reg, the header of
    the moving image then does not count, but for the spacing of its landmarks. A moving image that is not named is
    taken to lie on the grid of the fixed one.

    Args:
        pair: which files belong to it.
        path: of its transform, fixed to moving; see `results.transform_of`.
        labels: those that are measured; all that both maps have by default.
        groups: label -> group, to merge labels first; labels missing from it are background.

    Raises:
        InputError: a file that is missing, unreadable or of another grid, or label maps without a common label.
    """
    fixed, moving = (
        None if file is None else _merged(read_labels(file), groups) for file in (pair.fixed_seg, pair.moving_seg)
    )
    frame = _frame(pair.fixed_frame, fixed, pair.fixed)
    if frame is None:
        raise InputError(f"{pair.id}: the grid of the fixed image is unknown; name the fixed image in the manifest")
    moving_frame = _frame(pair.moving_frame, moving, pair.moving) or frame
    by_index = frame, moving_frame
    if is_voxel_field(path):
        voxels = read_voxel_field(path, frame)
        moving_frame = replace(frame, shape=moving_frame.shape)
        moving = None if moving is None else replace(moving, frame=moving_frame)
        displacement = in_mm(voxels, frame)
        transform: Transform = DisplacementTransform(displacement, frame)
    else:
        settle(path.parent)  # a run into that folder may have been killed
        transform = read_transform(path)
        displacement = transform.displacement_on(frame)
        voxels = in_voxels(displacement, frame, moving_frame)
    figures: Row = {}
    per_label: dict[int, Row] = {}
    if fixed is not None and moving is not None:
        per_label = _overlap(fixed, moving, transform, labels)
        figures.update(_means(per_label))
    if pair.fixed_points is not None and pair.moving_points is not None:
        points = pair.fixed_points, pair.moving_points
        figures.update(_landmarks(points, pair.first_voxel, by_index, moving_frame, transform, voxels))
    inside = None if fixed is None else fixed.data > 0
    summary = metrics.deformation_summary(displacement, frame, inside)
    figures.update({name: summary[name] for name in ("folding_percent", "sdlogj")})
    figures["learn2reg_sdlogj"] = learn2reg_sdlogj(voxels, _mask(pair.fixed_mask, frame))
    return Measured(figures, per_label)


def _frame(given: Frame | None, labels: Volume | None, image: Path | None) -> Frame | None:
    if given is not None or labels is not None or image is None:
        return given if labels is None else labels.frame
    return read_array(image)[1]


def _merged(labels: Volume, groups: Mapping[int, int] | None) -> Volume:
    """The map with groups in place of labels."""
    if groups is None:
        return labels
    present, places = np.unique(labels.data.numpy(), return_inverse=True)
    table = np.array([groups.get(int(label), 0) for label in present], np.int32)
    return replace(labels, data=torch.from_numpy(table[places].reshape(labels.frame.shape)))


def _overlap(fixed: Volume, moving: Volume, transform: Transform, labels: Sequence[int] | None) -> dict[int, Row]:
    common = sorted(metrics.dice(fixed, fixed).keys() & metrics.dice(moving, moving).keys())
    if labels is not None:
        common = [label for label in common if label in labels]
    if not common:
        raise InputError(
            f"{moving.name}: shares no label to be measured with {fixed.name}; check the files or --groups"
        )
    before = metrics.dice(fixed, warp_image(moving, Transform.identity(), fixed.frame, interpolation="nearest"))
    warped = warp_image(moving, transform, fixed.frame, interpolation="nearest")
    after, distance = metrics.dice(fixed, warped), metrics.hd95_mm(fixed, warped)
    in_voxels_of_fixed = learn2reg_hd95_voxels(fixed.data, warped.data, common)
    rows = {}
    for label in common:
        rows[label] = {"dice": after.get(label, 0.0), "dice_before": before.get(label, 0.0)}
        if label in distance:
            rows[label]["hd95_mm"] = distance[label]
        rows[label]["learn2reg_hd95_voxels"] = in_voxels_of_fixed[label]
    return rows


def _means(per_label: dict[int, Row]) -> Row:
    names = dict.fromkeys(name for row in per_label.values() for name in row)
    return {name: float(np.mean([row[name] for row in per_label.values() if name in row])) for name in names}


def _landmarks(
    files: tuple[Path, Path],
    first_voxel: int | None,
    by_index: tuple[Frame, Frame],
    moving_frame: Frame,
    transform: Transform,
    voxels: torch.Tensor,
) -> Row:
    """The errors of landmarks; `by_index` are the frames as the headers say, `moving_frame` the one that is used."""
    fixed, moving = (
        read_landmarks(path, frame, first_voxel) for path, frame in zip(files, (by_index[0], moving_frame), strict=True)
    )
    try:
        error = metrics.target_registration_error_mm(fixed, moving, transform)
    except InputError as problem:
        raise InputError(f"{files[1]}: {problem}") from problem
    index = by_index[0].to_index(fixed.numpy()), moving_frame.to_index(moving.numpy())
    return {
        "tre_mm": float(error.mean()),
        "tre_before_mm": float((fixed - moving).norm(dim=1).mean()),
        "learn2reg_tre_mm": float(learn2reg_tre_mm(*index, voxels, by_index[1].spacing).mean()),
    }


def _mask(path: Path | None, frame: Frame) -> torch.Tensor | None:
    if path is None:
        return None
    mask = read_labels(path)
    if mask.frame.shape != frame.shape:
        raise InputError(f"{path}: the mask is on another grid than the fixed image; give one on its grid")
    return mask.data > 0
