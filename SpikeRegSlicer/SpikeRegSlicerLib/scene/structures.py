"""The structures of one volume as a segmentation node: made from what the worker wrote, or brought up to date by it."""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.outputs.accounts import SEGMENTATION
from SpikeRegLib.outputs.publishing import settle

from . import files, grids, hierarchy
from .labelmaps import BINARY, segmentsOf, sharedImage, showLabel
from .structure_figures import StructureFigures

VOLUME, TABLE = "spikeRegVolume", "spikeRegTable"  # references of the segmentation node
LABEL, CONTENT = "SpikeReg.Label", "SpikeReg.Content"  # tag of a segment, attribute of the node
BRAIN = "brain"  # tag of the segment of the brain mask
BRAIN_COLOUR = (0.90, 0.78, 0.68)
ACCOUNT = SEGMENTATION.account
_NUMBERS = {BRAIN: 1, **{str(label): label for label in STRUCTURES}}  # by tag; 1 is none of FreeSurfer's here
_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def loadStructures(folder: str, volume: Any, figures: StructureFigures) -> Any:
    """Bring what the worker wrote into `folder` into the scene; the folder can be deleted afterwards.

    The node that an earlier search of this volume made is brought up to date: names, colours and what is shown stay as
    the person has them, and so do segments of the person's own. One whose structures were edited stays as it is, and a
    new one is made.

    Args:
        folder: holds label map and brain mask.
        volume: what was segmented.
        figures: of the same folder.

    Returns:
        vtkMRMLSegmentationNode, under the volume's transform.

    Raises:
        InputError: a file is missing or unreadable; the scene is as it was before.
    """
    settle(folder)  # who wrote it may have been killed
    labels, matrix = _read(os.path.join(folder, "labels.nii.gz"), volume)
    mask, maskMatrix = _read(os.path.join(folder, "brain_mask.nii.gz"), volume)
    node = structuresOf(volume)
    isNew = node is None or contentOf(node) != node.GetAttribute(CONTENT)
    if isNew:
        name = slicer.mrmlScene.GenerateUniqueName(_("{volume} structures").format(volume=volume.GetName()))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        hierarchy.placeBeside(node, volume)
    with slicer.util.NodeModify(node):
        node.SetNodeReferenceID(VOLUME, volume.GetID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        _fill(node, sharedImage(labels, matrix), sharedImage((mask > 0).astype(np.int16), maskMatrix))
        node.SetDescription(figures.summary)
        node.SetAttribute(CONTENT, contentOf(node))
    return node


def structuresOf(volume: Any) -> Any:
    """The segmentation node of the volume's structures, the last one made; None where there is none."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", volume.GetScene())
    found = [node for node in nodes if node.GetNodeReference(VOLUME) is volume and node.GetAttribute(CONTENT)]
    return found[-1] if found else None


def contentOf(node: Any) -> str:
    """A checksum of where the structures are: of their voxels alone, not of names, colours or other segments.

    Label values do not count either: Slicer counts them anew when it saves a segmentation.
    """
    layers: dict[str, dict[int, int]] = {}  # address of an image -> its values, and what is at them
    images = {}
    for key, segment in _ownSegments(node).items():
        image = segment.GetRepresentation(BINARY)
        if image is not None and image.GetNumberOfPoints():
            address = image.GetAddressAsString("")
            images[address] = image
            layers.setdefault(address, {})[segment.GetLabelValue()] = _NUMBERS[key]
    sums = []
    for address, numbers in layers.items():
        values = grids.arrayOf(images[address])
        known = np.zeros(int(max(values.max(), *numbers)) + 1, np.int16)
        known[list(numbers)] = list(numbers.values())
        kept = known[np.maximum(values, 0)]
        index = [np.flatnonzero(kept.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        cropped = kept[tuple(slice(i[0], i[-1] + 1) if i.size else slice(0) for i in index)]
        sums.append(f"{zlib.crc32(np.ascontiguousarray(cropped).tobytes()):08x} {cropped.shape}")
    return "; ".join(sorted(sums))


def _fill(node: Any, structures: Any, brain: Any) -> None:
    """Have the node's own segments show these images; those that are in neither any more are removed."""
    segmentation, own = node.GetSegmentation(), _ownSegments(node)
    isSolid = segmentation.ContainsRepresentation(_SURFACE)
    if brain is not None:  # first, since of segments that overlap the later ones count in a label map
        isThere = BRAIN in own
        segment = own.pop(BRAIN, None) or _newSegment(node, BRAIN, _("brain"), BRAIN_COLOUR)
        showLabel(segment, brain, 1)
        if not isThere and node.GetDisplayNode() is not None:  # it would hide all the others
            node.GetDisplayNode().SetSegmentVisibility(segmentation.GetSegmentIdBySegment(segment), False)
    present = np.unique(grids.arrayOf(structures)).tolist() if structures is not None else []
    for label in STRUCTURES:
        if label in present:
            segment = own.pop(str(label), None) or _newSegment(
                node, str(label), STRUCTURES[label].name, np.array(STRUCTURES[label].colour) / 255
            )
            showLabel(segment, structures, label)
    for segment in own.values():
        segmentation.RemoveSegment(segmentation.GetSegmentIdBySegment(segment))
    segmentation.InvalidateNonSourceRepresentations()
    if isSolid:
        node.CreateClosedSurfaceRepresentation()


def _newSegment(node: Any, key: str, name: str, colour: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetColor(*colour)
    segment.SetTag(LABEL, key)
    node.GetSegmentation().AddSegment(segment)
    return segment


def _ownSegments(node: Any) -> dict[str, Any]:
    """Tag -> segment of those that a search made."""
    found = {}
    for segment in segmentsOf(node).values():
        key = vtk.reference("")
        if segment.GetTag(LABEL, key) and str(key) in _NUMBERS:
            found[str(key)] = segment
    return found


def _read(path: str, volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """[K, J, I] values and their 4x4 to the volume's own RAS; exactly the volume's where they lie on its grid."""
    node = slicer.vtkMRMLScalarVolumeNode()
    files.readInto(node, slicer.vtkMRMLVolumeArchetypeStorageNode(), path)
    read, own = grids.ownGrid(node), grids.ownGrid(volume)
    values = grids.arrayOf(node.GetImageData())
    onOwn = grids.reordered(values, read, own)
    return (values.copy(), read.matrix) if onOwn is None else (onOwn, own.matrix)
