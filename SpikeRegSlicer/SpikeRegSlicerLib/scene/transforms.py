"""Registration results as transform nodes: the map of the library's file, exactly, on a plain vtkMRMLTransformNode."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from . import files, grids, hierarchy

INVERSE = "spikeRegInverse"  # reference from a transform node to the node of its inverse
_MOVING_TO_WORLD = "SpikeReg.MovingToWorld"
_INVERSE_TOLERANCE_MM = 1e-4  # readers leave 0.01, which is what landmarks are allowed in all


def readTransform(path: str) -> vtk.vtkAbstractTransform:
    """The map of an ITK transform file, fixed to moving points in RAS; a vtkTransform where it is linear.

    Raises:
        InputError: missing or unreadable file.
    """
    read = slicer.vtkMRMLTransformNode()
    files.readInto(read, slicer.vtkMRMLTransformStorageNode(), path)
    _interpolateAsItk(read.GetTransformFromParent())
    return grids.linearized(_withoutIdleGrids(read.GetTransformFromParent()))


def setTransform(node, fromParent: vtk.vtkAbstractTransform) -> None:
    """Have a transform node hold a map of fixed to moving points, as `readTransform` gives it.

    It becomes the node's transform FROM its parent, so that a node in moving coordinates that is put under it appears
    in fixed coordinates; the inverse is computed by VTK on demand. A linear map becomes a plain matrix. The node keeps
    its ID, and loses a parent, since the map starts in the world.
    """
    node.SetAndObserveTransformNodeID(None)
    if fromParent.IsA("vtkTransform"):
        inverse = vtk.vtkTransform()
        inverse.SetMatrix(grids.toMatrix(np.linalg.inv(grids.toArray(fromParent.GetMatrix()))))
        node.SetAndObserveTransformToParent(inverse)  # so that the module Transforms shows and edits its matrix
    else:
        node.SetAndObserveTransformFromParent(fromParent)


def inverseNode(node):
    """The transform node that takes fixed-space nodes to where the moving volume stands in the world.

    Made on the first call, in the folder of the transform node's run; `updateInverse` keeps it in step.
    """
    if node.GetNodeReference(INVERSE) is None:
        made = node.GetScene().AddNewNodeByClass("vtkMRMLTransformNode", f"{node.GetName()} inverse")
        node.SetNodeReferenceID(INVERSE, made.GetID())
        folder = hierarchy.folderOf(node)
        if folder is not None:
            folder.add(made, "inverse")
    updateInverse(node)
    return node.GetNodeReference(INVERSE)


def updateInverse(node) -> None:
    """Give the node of the inverse, where there is one, the map that the transform node holds now."""
    inverse = node.GetNodeReference(INVERSE)
    if inverse is None:
        return
    toMoving, standing = node.GetTransformFromParent(), movingToWorld(node)
    if not np.array_equal(standing, np.eye(4)):
        chain = vtk.vtkGeneralTransform()
        chain.PostMultiply()
        chain.Concatenate(toMoving)
        chain.Concatenate(grids.toMatrix(standing))
        toMoving = chain
    inverse.SetAndObserveTransformToParent(toMoving)


def restoreInterpolation(node) -> None:
    """Make the displacement grids of a node linear between voxels again, as ITK has them.

    Reading a scene leaves them cubic, which moves points by up to 0.2 mm against the file.
    """
    for transform in (node.GetTransformFromParent(), node.GetTransformToParent()):
        if transform is not None and not node.IsLinear():
            _interpolateAsItk(transform)


def setPair(node, fixed, moving) -> None:
    """Record on the transform node which volumes it maps between, and where the moving volume stands now."""
    for role, volume in ((node.GetFixedNodeReferenceRole(), fixed), (node.GetMovingNodeReferenceRole(), moving)):
        node.SetNodeReferenceID(role, volume.GetID() if volume is not None else None)
    placed = standing(moving, (fixed, moving), "moving") if moving is not None else None
    text = None if placed is None or np.array_equal(placed, np.eye(4)) else " ".join(map(repr, placed.ravel().tolist()))
    node.SetAttribute(_MOVING_TO_WORLD, text)
    updateInverse(node)


def movingToWorld(node) -> np.ndarray:
    """4x4 from the moving volume's own coordinates to where it stood in the world when the result was loaded."""
    text = node.GetAttribute(_MOVING_TO_WORLD)
    return np.array(text.split(), dtype=float).reshape(4, 4) if text else np.eye(4)


def standing(node, pair: tuple, side: str) -> np.ndarray | None:
    """4x4 from a node's own coordinates to where it stands in the world for a run of this pair.

    What earlier runs of the same pair made of it does not count: a node of the moving side that was put under one's
    result, or one of the fixed side under its inverse, stands where it stood before. None where a transform that counts
    is not linear.

    Args:
        pair: fixed and moving volume.
        side: "fixed" or "moving".
    """
    own = _ownTransforms(pair)
    if side == "fixed":
        own = [transform.GetNodeReference(INVERSE) for transform in own]
    matrix, parent = np.eye(4), node.GetParentTransformNode()
    while parent is not None:
        if parent in own:
            return matrix if side == "fixed" else movingToWorld(parent) @ matrix
        step = vtk.vtkMatrix4x4()
        if not parent.IsLinear() or not parent.GetMatrixTransformToParent(step):
            return None
        matrix, parent = grids.toArray(step) @ matrix, parent.GetParentTransformNode()
    return matrix


def parents(node) -> list[slicer.vtkMRMLTransformNode]:
    """The transforms that a node is under, the nearest first."""
    parent = node.GetParentTransformNode()
    return [] if parent is None else [parent, *parents(parent)]


def isOwn(transformNode, pair: tuple) -> bool:
    """Whether this is the result of a run of the pair (fixed, moving)."""
    return bool(transformNode.GetAttribute(hierarchy.RUN)) and (fixedOf(transformNode), movingOf(transformNode)) == pair


def _ownTransforms(pair: tuple) -> list:
    found = slicer.util.getNodesByClass("vtkMRMLTransformNode")
    return [transform for transform in found if isOwn(transform, pair)]


def fixedOf(node):
    """The fixed volume of a transform node, or None."""
    return node.GetNodeReference(node.GetFixedNodeReferenceRole())


def movingOf(node):
    """The moving volume of a transform node, or None."""
    return node.GetNodeReference(node.GetMovingNodeReferenceRole())


def _interpolateAsItk(transform: vtk.vtkAbstractTransform) -> None:
    for part in _parts(transform):
        if part.IsA("vtkGridTransform") and part.GetInterpolationModeAsString() != "Linear":
            part.SetInterpolationModeToLinear()
            part.SetInverseTolerance(_INVERSE_TOLERANCE_MM)


def _withoutIdleGrids(transform: vtk.vtkAbstractTransform) -> vtk.vtkAbstractTransform:
    """The same map without displacement grids of zeros, which an alignment without refinement leaves."""
    parts = list(_parts(transform))
    busy = [part for part in parts if not (part.IsA("vtkGridTransform") and _isIdle(part))]
    if len(busy) == len(parts):
        return transform
    rest = vtk.vtkGeneralTransform()
    rest.PostMultiply()
    for part in busy:
        rest.Concatenate(part)
    return rest


def _isIdle(part) -> bool:
    values = part.GetDisplacementGrid().GetPointData().GetScalars()
    return all(values.GetRange(axis) == (0.0, 0.0) for axis in range(3))


def _parts(transform: vtk.vtkAbstractTransform):
    if transform.IsA("vtkGeneralTransform"):
        for number in range(transform.GetNumberOfConcatenatedTransforms()):
            yield from _parts(transform.GetConcatenatedTransform(number))
    else:
        yield transform
