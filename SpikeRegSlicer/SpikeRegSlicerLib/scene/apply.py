"""Take other nodes along: under the transform of a registration, or hardened by it, in either direction."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import grids, hierarchy, transforms
from .labelmaps import isBinary, resampleSegments

_IDENTITY_TOLERANCE = 1e-9


def applyTo(transformNode, nodes, inverse: bool = False, harden: bool = False, reference=None) -> list[str]:
    """Bring nodes from the moving to the fixed space, or back.

    A node goes along as it is seen: one that lies on the moving volume lies on the fixed volume afterwards, whatever
    linear transforms the two were under. What the node was under before is replaced.

    Args:
        transformNode: of a registration, fixed to moving points.
        nodes: volumes, segmentations, markups and models.
        inverse: take nodes of the fixed space to the moving space.
        harden: change the nodes themselves. Volumes and binary segmentations are resampled in place, once (labels to
            the nearest voxel, others linearly); other nodes get new coordinates.
        reference: the volume on whose grid they are resampled; default: the fixed volume, with `inverse` the moving
            one. Without either, and for a linear transform without `reference`, nothing is resampled.

    Returns:
        A sentence for each node that was left as it is; [] = all done.
    """
    left = []
    for node in nodes:
        reason = _reasonAgainst(transformNode, node, inverse)
        if reason:
            left.append(reason)
            continue
        placement = _standing(transformNode, node, inverse)
        assert placement is not None  # or there were a reason against it
        if not inverse:
            placement = np.linalg.inv(transforms.movingToWorld(transformNode)) @ placement
        grid = _targetGrid(transformNode, inverse, reference) if harden and _hasVoxels(node) else None
        if grid is None:
            _place(node, transformNode, placement, inverse, harden)
        else:
            _resampleInPlace(node, transformNode, placement, inverse, grid)
    return left


def _reasonAgainst(transformNode, node, inverse: bool) -> str | None:
    name = node.GetName()
    if node is transformNode or not node.IsA("vtkMRMLTransformableNode"):
        return _('"{name}" cannot be transformed; take it out of the list.').format(name=name)
    if transformNode in transforms.parents(node):
        return _('"{name}" is under "{transform}" already; take it out of that transform to apply it again.').format(
            name=name, transform=transformNode.GetName()
        )
    if _standing(transformNode, node, inverse) is None:
        return _(
            '"{name}" is under the non-linear transform "{transform}"; harden it, or take it out of that '
            "transform first."
        ).format(name=name, transform=node.GetParentTransformNode().GetName())
    if node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is None:
        return _('"{name}" has no data; load its image, or take it out of the list.').format(name=name)
    return None


def _standing(transformNode, node, inverse: bool) -> np.ndarray | None:
    pair = transforms.fixedOf(transformNode), transforms.movingOf(transformNode)
    return transforms.standing(node, pair, "fixed" if inverse else "moving")


def _targetGrid(transformNode, inverse: bool, reference) -> grids.Grid | None:
    """The grid to resample on, in the coordinates of the side the nodes go to; None = move without resampling."""
    if reference is None and transformNode.IsLinear():
        return None
    moving = transforms.movingOf(transformNode)
    volume = reference or (moving if inverse else transforms.fixedOf(transformNode))
    if volume is None or volume.GetImageData() is None:
        return None
    if not inverse:
        return grids.worldGrid(volume) if grids.nodeToWorld(volume) is not None else None
    if volume is moving:  # which may be under the result by now
        return grids.ownGrid(volume)
    if grids.nodeToWorld(volume) is None:
        return None
    world = grids.worldGrid(volume)
    return grids.Grid(np.linalg.inv(transforms.movingToWorld(transformNode)) @ world.matrix, world.size)


def _hasVoxels(node) -> bool:
    return node.IsA("vtkMRMLVolumeNode") or (node.IsA("vtkMRMLSegmentationNode") and isBinary(node))


def _resampleInPlace(node, transformNode, placement: np.ndarray, inverse: bool, grid: grids.Grid) -> None:
    # Resampling asks where a point of the result comes from: the other direction than that of the nodes.
    transform = transformNode.GetTransformToParent() if inverse else transformNode.GetTransformFromParent()
    standing = transforms.movingToWorld(transformNode) if inverse else np.eye(4)
    if node.IsA("vtkMRMLSegmentationNode"):
        resampleSegments(node, placement, grid, transform)
        node.SetAndObserveTransformNodeID(None)
        if not np.array_equal(standing, np.eye(4)):
            node.ApplyTransformMatrix(grids.toMatrix(standing))
        return
    labels = node.IsA("vtkMRMLLabelMapVolumeNode")
    background = 0.0 if labels else node.GetImageBackgroundScalarComponentAsDouble(0)
    own = grids.ownGrid(node).matrix
    image = grids.resample(node.GetImageData(), placement @ own, grid, transform, labels, background)
    node.SetAndObserveTransformNodeID(None)
    node.SetIJKToRASMatrix(grids.toMatrix(standing @ grid.matrix))
    node.SetAndObserveImageData(image)


def _place(node, transformNode, placement: np.ndarray, inverse: bool, harden: bool) -> None:
    """Put a node under the transform, by way of a linear one where it is not placed as the transform expects."""
    parent = transforms.inverseNode(transformNode) if inverse else transformNode
    helper = None
    if np.abs(placement - np.eye(4)).max() > _IDENTITY_TOLERANCE:
        helper = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", f"{node.GetName()} placement")
        helper.SetMatrixTransformToParent(grids.toMatrix(placement))
        helper.SetAndObserveTransformNodeID(parent.GetID())
    node.SetAndObserveTransformNodeID((helper or parent).GetID())
    folder = hierarchy.folderOf(transformNode)
    if harden:
        node.HardenTransform()
        if helper is not None:
            slicer.mrmlScene.RemoveNode(helper)
    elif helper is not None and folder is not None:
        folder.add(helper, "placement")
