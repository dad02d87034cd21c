"""Volume and confidence of each structure of one volume, as a table node that goes with the segmentation node."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegSlicerLib.scene.structure_figures import StructureFigures


def fillStructuresTable(node: Any, figures: StructureFigures) -> None:
    """Write the figures into a table node as numbers: the brain as a whole first, then the structures by their label.

    Args:
        node: vtkMRMLTableNode; what it held before is replaced.
        figures: of one volume; what has no number is nan.
    """
    names, volumes, confidences = vtk.vtkStringArray(), vtk.vtkDoubleArray(), vtk.vtkDoubleArray()
    names.SetName(_("Structure"))
    volumes.SetName(_("Volume (ml)"))
    confidences.SetName(_("Confidence"))
    rows = [(_("brain with CSF"), figures.brainMl, figures.confidence)]
    rows += [(STRUCTURES[label].name, *values) for label, values in sorted(figures.structures.items())]
    for name, ml, confidence in rows:
        names.InsertNextValue(name)
        volumes.InsertNextValue(_rounded(ml, 2))
        confidences.InsertNextValue(_rounded(confidence, 3))
    with slicer.util.NodeModify(node):
        node.SetLocked(False)
        node.RemoveAllColumns()
        for column in (names, volumes, confidences):
            node.AddColumn(column)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)


def _rounded(value: float | None, digits: int) -> float:
    return float("nan") if value is None else round(value, digits)
