"""Lines of equal value over the slice views: the outlines of where a volume exceeds a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.scene import grids
from SpikeRegSlicerLib.scene.labelmaps import addSegments

COLOURS = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))  # of the first level and of the second, seen on every colour


def levelLines(scene: Any, volume: Any, values: np.ndarray, levels: Sequence[float]) -> Any:
    """A segmentation node whose outlines are the lines at two levels; None where no value is above the first.

    Args:
        volume: node on whose grid the values lie.
        values: [K, J, I] in mm.
        levels: mm, rising.
    """
    if not (values > levels[0]).any():
        return None
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(_("Lines of predicted error"))
    node.SetHideFromEditors(1)
    node.SetSaveWithScene(0)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(0)
    for level, colour in zip(levels, COLOURS, strict=True):
        above = values > level
        if above.any():
            matrix = grids.ownGrid(volume).matrix
            (identifier,) = addSegments(node, above.astype(np.uint8), matrix, {1: f"> {level:g} mm"})
            node.GetSegmentation().GetSegment(identifier).SetColor(*colour)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetVisibility3D(False)
    display.SetSliceIntersectionThickness(2)
    return node
