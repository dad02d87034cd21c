"""What is wrong with what was drawn on the volumes of a run: masks, segmentations, landmarks and the region."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import grids, transforms
from .hierarchy import RUN
from .inputs import Inputs
from .labelmaps import regionMask, segmentsOf


def labelProblems(inputs: Inputs, node, volume, what: str) -> Iterator[str]:
    if node is None:
        return
    name = node.GetName()
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        image = node.GetImageData()
        empty = image is None or image.GetNumberOfPoints() == 0 or image.GetScalarRange()[1] <= 0
    else:
        empty = node.GetSegmentation().GetNumberOfSegments() == 0 or _bounds(node) is None
    if empty:
        yield _('The {what} "{name}" is empty; paint the anatomy in it, or clear the choice.').format(
            what=what, name=name
        )
        return
    if inputs.standing(node) is None:
        yield from nonLinearParent(node, inputs)
        return
    mine, other = _standingBounds(node, inputs), _standingBounds(volume, inputs)
    if mine is None or other is None or (mine[1::2] < other[::2]).any() or (mine[::2] > other[1::2]).any():
        yield (
            _(
                'The {what} "{name}" lies outside volume "{volume}"; choose the one drawn on it, or put both '
                "under the same transform."
            ).format(what=what, name=name, volume=volume.GetName())
        )


def pairProblems(inputs: Inputs) -> Iterator[str]:
    fixed, moving = inputs.fixed_labels, inputs.moving_labels
    if fixed is not None and moving is None:
        yield _('"{fixed}" has no counterpart; choose the moving segmentation too, or clear the choice.').format(
            fixed=fixed.GetName()
        )
    if fixed is None or moving is None:
        return
    if fixed.IsA("vtkMRMLSegmentationNode") and moving.IsA("vtkMRMLSegmentationNode"):
        names = [{s.GetName() for s in segmentsOf(node).values()} for node in (fixed, moving)]
        if all(names) and not names[0] & names[1]:
            yield (
                _(
                    '"{fixed}" and "{moving}" have no segment of the same name; give matching segments the same name.'
                ).format(fixed=fixed.GetName(), moving=moving.GetName())
            )


def landmarkProblems(inputs: Inputs) -> Iterator[str]:
    fixed, moving = inputs.fixed_points, inputs.moving_points
    if fixed is None and moving is None:
        return
    if fixed is None or moving is None:
        given, sentence = (
            (fixed, _('"{name}" has no counterpart; choose the moving landmarks too, or clear the choice.'))
            if moving is None
            else (moving, _('"{name}" has no counterpart; choose the fixed landmarks too, or clear the choice.'))
        )
        yield sentence.format(name=given.GetName())
        return
    if fixed is moving:
        yield _('"{fixed}" is both fixed and moving landmarks; choose another list as one of the two.').format(
            fixed=fixed.GetName()
        )
        return
    for node, volume in ((fixed, inputs.fixed), (moving, inputs.moving)):
        yield from _listProblems(node, volume, inputs)
    counts = fixed.GetNumberOfControlPoints(), moving.GetNumberOfControlPoints()
    if counts[0] != counts[1] and all(counts):
        yield (
            _(
                '"{fixed}" has {count} points but "{moving}" has {other_count}; place or delete points until '
                "they pair up in order."
            ).format(fixed=fixed.GetName(), count=counts[0], moving=moving.GetName(), other_count=counts[1])
        )


def regionProblems(inputs: Inputs) -> Iterator[str]:
    roi, fixed = inputs.region, inputs.fixed
    if roi is None:
        return
    name = roi.GetName()
    if roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        yield _('The region "{name}" has no size; draw it around the part to register, or clear the choice.').format(
            name=name
        )
        return
    if grids.nodeToWorld(roi) is None:
        yield _underNonLinear(roi)
        return
    if not regionMask(roi, grids.worldGrid(fixed, inputs.standing(fixed))).any():
        yield _('The region "{name}" holds no voxel of volume "{fixed}"; move it over the part to register.').format(
            name=name, fixed=fixed.GetName()
        )


def nonLinearParent(node, inputs: Inputs) -> Iterator[str]:
    if inputs.standing(node) is None:
        yield _underNonLinear(node)


def _underNonLinear(node) -> str:
    return _(
        '"{node}" is under the non-linear transform "{transform}"; harden it, or take it out of the '
        "transform (module Data)."
    ).format(node=node.GetName(), transform=node.GetParentTransformNode().GetName())


def _bounds(node) -> np.ndarray | None:
    """(xmin, xmax, ymin, ymax, zmin, zmax) in the world, RAS mm; None for nothing."""
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    return None if (bounds[::2] > bounds[1::2]).any() else bounds


def _standingBounds(node, inputs: Inputs) -> np.ndarray | None:
    """As `_bounds`, but where the node stands for this run."""
    if all(link.IsLinear() and not link.GetAttribute(RUN) for link in transforms.parents(node)):
        return _bounds(node)
    if node.IsA("vtkMRMLVolumeNode"):
        own = grids.ownGrid(node).corners()
    else:
        bounds = np.zeros(6)
        node.GetSegmentation().GetBounds(bounds)
        own = np.stack(np.meshgrid(*bounds.reshape(3, 2), indexing="ij"), -1).reshape(-1, 3)
    placement = inputs.standing(node)
    assert placement is not None  # a node that stands nowhere is a problem of its own
    placed = own @ placement[:3, :3].T + placement[:3, 3]
    return np.stack([placed.min(axis=0), placed.max(axis=0)], axis=1).ravel()


def _listProblems(node, volume, inputs: Inputs) -> Iterator[str]:
    count = node.GetNumberOfControlPoints()
    if count == 0:
        yield _('"{node}" has no points; place some, or clear the choice.').format(node=node.GetName())
        return
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    for number in range(count):
        if node.GetNthControlPointPositionStatus(number) != defined:
            yield _('Point {number} of "{node}" is not placed; place or delete it.').format(
                number=number + 1, node=node.GetName()
            )
            return
    placement = inputs.standing(node)
    if placement is None:
        yield from nonLinearParent(node, inputs)
        return
    points = np.array([node.GetNthControlPointPosition(n) for n in range(count)]) @ placement[:3, :3].T
    outside = outsideWorldBox(points + placement[:3, 3], volume, inputs.standing(volume))
    if outside.any():
        yield (
            _(
                'Point {number} of "{node}" lies outside volume "{volume}"; move or delete it, or choose the '
                "list placed on that volume."
            ).format(number=int(outside.argmax()) + 1, node=node.GetName(), volume=volume.GetName())
        )


def outsideWorldBox(points: np.ndarray, volume, placement: np.ndarray | None = None) -> np.ndarray:
    """[N] bool: which RAS points of the world lie more than half a voxel beyond the voxel centres of `volume`."""
    grid = grids.worldGrid(volume, placement)
    inverse = np.linalg.inv(grid.matrix)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    return ((index < -0.5) | (index > np.array(grid.size) - 0.5)).any(axis=1)
