"""What a run reads from the scene, and every reason why it could not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import slicer

from . import grids, transforms
from .hierarchy import RUN
from .labelmaps import regionMask, segmentsOf

MINIMUM_AXIS = 16  # voxels; the library refuses thinner volumes


@dataclass
class Inputs:
    """The nodes a run reads, by the names that `SpikeRegLib.register` has for them; None where not given.

    A run maps fixed points in the world (linear parents of the fixed side applied) to the moving volume's own
    coordinates, in which the moving volume stays when it is put under the result instead of its present parent.
    Linear parents of the moving volume are where the alignment starts, unless there is an initial transform. The result
    of an earlier run of the same pair above a node is no part of the input.
    """

    fixed: Any = None  # vtkMRMLScalarVolumeNode
    moving: Any = None
    fixed_mask: Any = None  # vtkMRMLSegmentationNode or vtkMRMLLabelMapVolumeNode
    moving_mask: Any = None
    fixed_leave_out: Any = None  # what of a volume does not count; kinds of node as for masks
    moving_leave_out: Any = None
    fixed_labels: Any = None
    moving_labels: Any = None
    initial_transform: Any = None  # vtkMRMLTransformNode
    fixed_points: Any = None  # vtkMRMLMarkupsFiducialNode
    moving_points: Any = None
    region: Any = None  # vtkMRMLMarkupsROINode

    @property
    def pair(self) -> tuple[Any, Any]:
        return self.fixed, self.moving

    def standing(self, node: Any) -> np.ndarray | None:
        """4x4 from the own coordinates of one of these nodes to the world; see `transforms.standing`."""
        drawn = (self.fixed_mask, self.fixed_leave_out, self.fixed_labels, self.fixed_points)
        onFixed = (self.fixed, *drawn, self.region)
        return transforms.standing(node, self.pair, "fixed" if node in onFixed else "moving")


def problems(inputs: Inputs) -> list[str]:
    """Every reason why the run cannot start, each a sentence that names the node and says what to do; [] = it can."""
    removed = list(_removed(inputs))
    if removed:
        return removed
    found = [*_imageProblems(inputs, "fixed"), *_imageProblems(inputs, "moving")]
    if inputs.fixed is not None and inputs.fixed is inputs.moving:
        found = [f'"{inputs.fixed.GetName()}" is both fixed and moving; choose another volume as one of the two.']
    if found:
        return found
    return [
        *_labelProblems(inputs, inputs.fixed_mask, inputs.fixed, "mask"),
        *_labelProblems(inputs, inputs.moving_mask, inputs.moving, "mask"),
        *_labelProblems(inputs, inputs.fixed_leave_out, inputs.fixed, "mask"),
        *_labelProblems(inputs, inputs.moving_leave_out, inputs.moving, "mask"),
        *_labelProblems(inputs, inputs.fixed_labels, inputs.fixed, "segmentation"),
        *_labelProblems(inputs, inputs.moving_labels, inputs.moving, "segmentation"),
        *_pairProblems(inputs),
        *_initialTransformProblems(inputs.initial_transform),
        *_landmarkProblems(inputs),
        *_regionProblems(inputs),
    ]


def outputProblems(inputs: Inputs, transform, warped) -> list[str]:
    """Reasons why chosen output nodes cannot take the result: writing them would change what the run reads."""
    found = []
    read = (inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask)
    if warped is not None and warped in (*read, inputs.fixed_leave_out, inputs.moving_leave_out):
        found.append(f'The warped volume would overwrite the input "{warped.GetName()}"; choose another output.')
    if warped is not None and (warped.IsA("vtkMRMLLabelMapVolumeNode") or warped.IsA("vtkMRMLTensorVolumeNode")):
        found.append(f'"{warped.GetName()}" cannot hold the warped volume; choose a scalar volume.')
    if transform is None:
        return found
    name = transform.GetName()
    if transform is inputs.initial_transform:
        found.append(f'"{name}" is both initial transform and output; choose another output.')
    for field in fields(inputs):
        node = getattr(inputs, field.name)
        if node is not None and transform in _parents(node) and not transforms.isOwn(transform, inputs.pair):
            found.append(f'"{node.GetName()}" is under the output transform "{name}"; take it out, or choose another.')
    return found


def outsideWorldBox(points: np.ndarray, volume, placement: np.ndarray | None = None) -> np.ndarray:
    """[N] bool: which RAS points of the world lie more than half a voxel beyond the voxel centres of `volume`."""
    grid = grids.worldGrid(volume, placement)
    inverse = np.linalg.inv(grid.matrix)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    return ((index < -0.5) | (index > np.array(grid.size) - 0.5)).any(axis=1)


def _removed(inputs: Inputs) -> Iterator[str]:
    for field in fields(inputs):
        node = getattr(inputs, field.name)
        if node is not None and node.GetScene() is None:
            yield f'"{node.GetName()}" is no longer in the scene; choose another node.'


def _imageProblems(inputs: Inputs, role: str) -> Iterator[str]:
    volume = inputs.fixed if role == "fixed" else inputs.moving
    if volume is None:
        meaning = "the image that stays" if role == "fixed" else "the image to bring onto the fixed one"
        yield f"No {role} volume is chosen; choose {meaning}."
        return
    name, image = volume.GetName(), volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        yield f'Volume "{name}" has no data; load its image, or choose another volume.'
        return
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        yield f'"{name}" is a label map; choose the image it was drawn on, and give it as segmentation or mask.'
    if volume.IsA("vtkMRMLTensorVolumeNode") or image.GetNumberOfScalarComponents() != 1:
        yield (
            f'Volume "{name}" has {image.GetNumberOfScalarComponents()} components (colour or vector); '
            "extract one with the module Vector to Scalar Volume and choose that."
        )
        return
    sequence = _sequenceOf(volume)
    if sequence is not None:
        yield (
            f'Volume "{name}" is the current frame of the sequence "{sequence.GetName()}" and changes with it; '
            "clone it in the module Data and choose the clone."
        )
    size = image.GetDimensions()
    if min(size) < MINIMUM_AXIS:
        shape = " x ".join(map(str, size))
        yield f'Volume "{name}" has {shape} voxels; choose one with at least {MINIMUM_AXIS} along every axis.'
    elif image.GetScalarRange()[0] == image.GetScalarRange()[1]:
        yield f'Volume "{name}" has the same value everywhere; choose another volume.'
    nonLinear = list(_nonLinearParent(volume, inputs))
    yield from nonLinear
    placement = inputs.standing(volume)
    if not nonLinear and role == "fixed" and not grids.worldGrid(volume, placement).isRectangular():
        yield (
            f'Volume "{name}" is sheared by its transform "{volume.GetParentTransformNode().GetName()}"; '
            "resample it on a rectangular grid with the module Resample Scalar/Vector/DWI Volume and choose the result."
            if volume.GetParentTransformNode()
            else _sheared(name)
        )
    if not nonLinear and role == "moving" and not grids.ownGrid(volume).isRectangular():
        yield _sheared(name)


def _sheared(name: str) -> str:
    return (
        f'The axes of volume "{name}" are not perpendicular (gantry tilt?); resample it on a rectangular grid '
        "with the module Resample Scalar/Vector/DWI Volume and choose the result."
    )


def _nonLinearParent(node, inputs: Inputs) -> Iterator[str]:
    if inputs.standing(node) is None:
        yield _underNonLinear(node)


def _underNonLinear(node) -> str:
    return (
        f'"{node.GetName()}" is under the non-linear transform "{node.GetParentTransformNode().GetName()}"; '
        "harden it, or take it out of the transform (module Data)."
    )


def _sequenceOf(volume):
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", volume.GetScene()):
        sequence = browser.GetSequenceNode(volume)
        if sequence is not None:
            return sequence
    return None


def _labelProblems(inputs: Inputs, node, volume, what: str) -> Iterator[str]:
    if node is None:
        return
    name = node.GetName()
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        image = node.GetImageData()
        empty = image is None or image.GetNumberOfPoints() == 0 or image.GetScalarRange()[1] <= 0
    else:
        empty = node.GetSegmentation().GetNumberOfSegments() == 0 or _bounds(node) is None
    if empty:
        yield f'The {what} "{name}" is empty; paint the anatomy in it, or clear the choice.'
        return
    if inputs.standing(node) is None:
        yield from _nonLinearParent(node, inputs)
        return
    mine, other = _standingBounds(node, inputs), _standingBounds(volume, inputs)
    if mine is None or other is None or (mine[1::2] < other[::2]).any() or (mine[::2] > other[1::2]).any():
        yield (
            f'The {what} "{name}" lies outside volume "{volume.GetName()}"; '
            f"choose the one drawn on it, or put both under the same transform."
        )


def _bounds(node) -> np.ndarray | None:
    """(xmin, xmax, ymin, ymax, zmin, zmax) in the world, RAS mm; None for nothing."""
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    return None if (bounds[::2] > bounds[1::2]).any() else bounds


def _standingBounds(node, inputs: Inputs) -> np.ndarray | None:
    """As `_bounds`, but where the node stands for this run."""
    if all(link.IsLinear() and not link.GetAttribute(RUN) for link in _parents(node)):
        return _bounds(node)
    if node.IsA("vtkMRMLVolumeNode"):
        own = grids.ownGrid(node).corners()
    else:
        bounds = np.zeros(6)
        node.GetSegmentation().GetBounds(bounds)
        own = np.stack(np.meshgrid(*bounds.reshape(3, 2), indexing="ij"), -1).reshape(-1, 3)
    placement = inputs.standing(node)
    placed = own @ placement[:3, :3].T + placement[:3, 3]
    return np.stack([placed.min(axis=0), placed.max(axis=0)], axis=1).ravel()


def _pairProblems(inputs: Inputs) -> Iterator[str]:
    fixed, moving = inputs.fixed_labels, inputs.moving_labels
    if fixed is not None and moving is None:
        yield f'"{fixed.GetName()}" has no counterpart; choose the moving segmentation too, or clear the choice.'
    if fixed is None or moving is None:
        return
    if fixed.IsA("vtkMRMLSegmentationNode") and moving.IsA("vtkMRMLSegmentationNode"):
        names = [{s.GetName() for s in segmentsOf(node).values()} for node in (fixed, moving)]
        if all(names) and not names[0] & names[1]:
            yield (
                f'"{fixed.GetName()}" and "{moving.GetName()}" have no segment of the same name; '
                "give matching segments the same name."
            )


def _parents(node) -> Iterator:
    parent = node.GetParentTransformNode()
    while parent is not None:
        yield parent
        parent = parent.GetParentTransformNode()


def _initialTransformProblems(node) -> Iterator[str]:
    if node is None:
        return
    for link in (node, *_parents(node)):
        if not link.IsLinear() and link.IsAbstractTransformComputedFromInverse(link.GetTransformFromParent()):
            yield (
                f'The initial transform "{link.GetName()}" is the inverse of a non-linear one and has no exact file; '
                "convert it to a displacement field in the module Transforms and choose that."
            )


def _landmarkProblems(inputs: Inputs) -> Iterator[str]:
    fixed, moving = inputs.fixed_points, inputs.moving_points
    if fixed is None and moving is None:
        return
    if fixed is None or moving is None:
        given, missing = (fixed, "moving") if moving is None else (moving, "fixed")
        yield f'"{given.GetName()}" has no counterpart; choose the {missing} landmarks too, or clear the choice.'
        return
    if fixed is moving:
        yield f'"{fixed.GetName()}" is both fixed and moving landmarks; choose another list as one of the two.'
        return
    for node, volume in ((fixed, inputs.fixed), (moving, inputs.moving)):
        yield from _listProblems(node, volume, inputs)
    counts = fixed.GetNumberOfControlPoints(), moving.GetNumberOfControlPoints()
    if counts[0] != counts[1] and all(counts):
        yield (
            f'"{fixed.GetName()}" has {counts[0]} points but "{moving.GetName()}" has {counts[1]}; '
            "place or delete points until they pair up in order."
        )


def _listProblems(node, volume, inputs: Inputs) -> Iterator[str]:
    count = node.GetNumberOfControlPoints()
    if count == 0:
        yield f'"{node.GetName()}" has no points; place some, or clear the choice.'
        return
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    for number in range(count):
        if node.GetNthControlPointPositionStatus(number) != defined:
            yield f'Point {number + 1} of "{node.GetName()}" is not placed; place or delete it.'
            return
    placement = inputs.standing(node)
    if placement is None:
        yield from _nonLinearParent(node, inputs)
        return
    points = np.array([node.GetNthControlPointPosition(n) for n in range(count)]) @ placement[:3, :3].T
    outside = outsideWorldBox(points + placement[:3, 3], volume, inputs.standing(volume))
    if outside.any():
        yield (
            f'Point {int(outside.argmax()) + 1} of "{node.GetName()}" lies outside volume "{volume.GetName()}"; '
            "move or delete it, or choose the list placed on that volume."
        )


def _regionProblems(inputs: Inputs) -> Iterator[str]:
    roi, fixed = inputs.region, inputs.fixed
    if roi is None:
        return
    name = roi.GetName()
    if roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        yield f'The region "{name}" has no size; draw it around the part to register, or clear the choice.'
        return
    if grids.nodeToWorld(roi) is None:
        yield _underNonLinear(roi)
        return
    if not regionMask(roi, grids.worldGrid(fixed, inputs.standing(fixed))).any():
        yield f'The region "{name}" holds no voxel of volume "{fixed.GetName()}"; move it over the part to register.'
