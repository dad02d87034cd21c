"""Tables and charts shown beside the slice views, in the layouts that Slicer has for them."""

from __future__ import annotations

from typing import Any

import slicer

TABLE = "SlicerLayoutFourUpTableView"
PLOT = "SlicerLayoutFourUpPlotView"


def showTable(node: Any) -> bool:
    """Show a table node; False where there is no window to show it in."""
    if not _open(TABLE):
        return False
    slicer.app.applicationLogic().GetSelectionNode().SetActiveTableID(node.GetID())
    slicer.app.applicationLogic().PropagateTableSelection()
    return True


def showChart(node: Any) -> bool:
    """Show a chart node; False where there is no window to show it in."""
    if not _open(PLOT):
        return False
    slicer.app.applicationLogic().GetSelectionNode().SetActivePlotChartID(node.GetID())
    slicer.app.applicationLogic().PropagatePlotChartSelection()
    return True


def _open(layout: str) -> bool:
    manager = slicer.app.layoutManager()
    if manager is None:
        return False
    manager.setLayout(getattr(slicer.vtkMRMLLayoutNode, layout))
    return True
