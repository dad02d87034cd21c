"""Segmentations, label maps and boxes of the scene as label values on a voxel grid."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from . import grids

BINARY = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def segmentsOf(segmentation) -> dict[str, slicer.vtkSegment]:
    """Segment ID -> segment, in the order of the node."""
    container = segmentation.GetSegmentation()
    ids = [container.GetNthSegmentID(n) for n in range(container.GetNumberOfSegments())]
    return {identifier: container.GetSegment(identifier) for identifier in ids}


def sharedNames(fixed, moving) -> dict[int, str]:
    """Label value -> name, one numbering for both nodes, so that segments of the same name get the same value.

    A label map keeps its own values, named by its colour table; names it does not have get values after its largest.

    Args:
        fixed, moving: vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode or None.
    """
    names: dict[int, str] = {}
    nodes = [node for node in (fixed, moving) if node is not None]
    for node in nodes:
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            colours = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None
            for value in np.unique(grids.arrayOf(node.GetImageData())).astype(int).tolist():
                if value > 0 and value not in names:
                    name = (colours.GetColorName(value) if colours else "") or str(value)
                    names[value] = f"{name} {value}" if name in names.values() else name
    for node in nodes:
        if not node.IsA("vtkMRMLLabelMapVolumeNode"):
            for segment in segmentsOf(node).values():
                if segment.GetName() not in names.values():
                    names[max(names, default=0) + 1] = segment.GetName()
    return names


def labelArray(
    node,
    grid: grids.Grid,
    gridToWorld: np.ndarray,
    names: dict[int, str] | None = None,
    placement: np.ndarray | None = None,
) -> np.ndarray:
    """[K, J, I] label values of a segmentation or label map on a grid, nearest voxel; parent transforms are linear.

    Args:
        grid: in its own coordinates.
        gridToWorld: 4x4 from those coordinates to the world.
        names: values of the segments, from `sharedNames`; None gives 1 to every segment and every label above 0.
        placement: 4x4 from the node's own coordinates to the world; default: what its parent transforms say.
    """
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        image, own = node.GetImageData(), grids.ownGrid(node).matrix
    else:
        image, own = _merged(node, names)
    if image is None:
        return np.zeros(grid.size[::-1], np.uint8)
    toWorld = (grids.nodeToWorld(node) if placement is None else placement) @ own
    values = _onGrid(image, toWorld, grids.Grid(gridToWorld @ grid.matrix, grid.size))
    return (values > 0).astype(np.uint8) if names is None else values


def regionMask(roi, grid: grids.Grid) -> np.ndarray:
    """[K, J, I] uint8: 1 at the voxel centres that lie in the box `roi`; `grid` is in the world."""
    objectToWorld = grids.toArray(roi.GetObjectToWorldMatrix())
    toBox = np.linalg.inv(objectToWorld) @ grid.matrix
    half = np.array(roi.GetSize()) / 2
    inside = np.ones(grid.size[::-1], bool)
    i, j, k = (np.arange(n) for n in grid.size)
    for axis in range(3):
        a, b, c, d = toBox[axis]
        position = (c * k + d)[:, None, None] + (b * j)[:, None] + a * i
        inside &= np.abs(position) <= half[axis]
    return inside.astype(np.uint8)


def addSegments(segmentation, labels: np.ndarray, matrix: np.ndarray, names: dict[int, str]) -> list[str]:
    """Add one segment per value of `names` that `labels` holds; returns the IDs of the new segments.

    Args:
        labels: [K, J, I] label values.
        matrix: 4x4, voxel to RAS mm in the segmentation's own coordinates.
    """
    shared = sharedImage(labels, matrix)
    if shared is None:
        return []
    added = []
    for value in np.unique(grids.arrayOf(shared)).tolist():
        if value in names:
            segment = slicer.vtkSegment()
            segment.SetName(names[value])
            showLabel(segment, shared, value)
            segmentation.GetSegmentation().AddSegment(segment)
            added.append(segmentation.GetSegmentation().GetSegmentIdBySegment(segment))
    return added


def sharedImage(labels: np.ndarray, matrix: np.ndarray):
    """The label values, as far as they reach, as an image that several segments can share; None where all are 0.

    Args:
        labels, matrix: see `addSegments`.
    """
    if not (labels > 0).any():
        return None
    index = [np.flatnonzero((labels > 0).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    low, high = [int(i[0]) for i in index], [int(i[-1]) + 1 for i in index]
    cropped = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    shared = slicer.vtkOrientedImageData()
    shared.ShallowCopy(grids.imageOf(cropped.astype(np.int16)))
    shift = np.eye(4)
    shift[:3, 3] = low[::-1]
    shared.SetImageToWorldMatrix(grids.toMatrix(matrix @ shift))
    return shared


def showLabel(segment, shared, value: int) -> None:
    """Have a segment be where an image has this value."""
    segment.SetLabelValue(value)
    segment.AddRepresentation(BINARY, shared)


def isBinary(segmentation) -> bool:
    """Whether the segments are kept as voxels."""
    return segmentation.GetSegmentation().GetSourceRepresentationName() == BINARY


def resampleSegments(segmentation, placement: np.ndarray, grid: grids.Grid, transform) -> None:
    """Resample a binary segmentation on a grid, once and to the nearest voxel; overlapping segments stay so.

    Args:
        placement: 4x4 from the segmentation's own coordinates to those that `transform` maps to.
        grid: the result's, in what are the segmentation's own coordinates afterwards.
        transform: from points of `grid`.
    """
    layers: dict[str, slicer.vtkOrientedImageData] = {}  # segments that do not overlap share one image
    for segment in segmentsOf(segmentation).values():
        shared = segment.GetRepresentation(BINARY)
        key = shared.GetAddressAsString("")
        if key not in layers:
            image, matrix = _plainImage(shared)
            layers[key] = slicer.vtkOrientedImageData()
            if image.GetNumberOfPoints():
                layers[key].ShallowCopy(grids.resample(image, placement @ matrix, grid, transform, labels=True))
                layers[key].SetImageToWorldMatrix(grids.toMatrix(grid.matrix))
        segment.AddRepresentation(BINARY, layers[key])
    segmentation.GetSegmentation().InvalidateNonSourceRepresentations()


def _merged(segmentation, names: dict[int, str] | None):
    """All segments in one image, with its 4x4 voxel to own coordinates; (None, None) where there is nothing."""
    values = {name: value for value, name in (names or {}).items()}
    ids, labels = vtk.vtkStringArray(), vtk.vtkIntArray()
    for identifier, segment in segmentsOf(segmentation).items():
        ids.InsertNextValue(identifier)
        labels.InsertNextValue(values.get(segment.GetName(), 1))
    merged = slicer.vtkOrientedImageData()
    union = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
    if not ids.GetNumberOfValues() or not segmentation.GenerateMergedLabelmapForAllSegments(
        merged, union, None, ids, labels
    ):
        return None, None
    return _plainImage(merged)


def _plainImage(oriented) -> tuple[vtk.vtkImageData, np.ndarray]:
    """A segment's image as volumes have theirs, from voxel 0 with unit spacing, and its 4x4 to own coordinates."""
    matrix = vtk.vtkMatrix4x4()
    oriented.GetImageToWorldMatrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = oriented.GetExtent()[::2]
    image = vtk.vtkImageData()
    image.SetDimensions(oriented.GetDimensions())
    image.GetPointData().SetScalars(oriented.GetPointData().GetScalars())
    return image, grids.toArray(matrix) @ shift


def _onGrid(image, toWorld: np.ndarray, grid: grids.Grid) -> np.ndarray:
    if tuple(image.GetDimensions()) == grid.size and np.allclose(toWorld, grid.matrix, rtol=0, atol=1e-6):
        return grids.arrayOf(image)
    return grids.arrayOf(grids.resample(image, toWorld, grid, labels=True)).copy()
