"""The chart of spike rates: one bar per layer."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

_BAR_COLOUR = (0.184, 0.435, 0.624)  # the accent of the library's report


def ratesChart(scene: Any, ratesTable: Any) -> Any:
    """A bar chart of the rates in a table made by `tables.ratesTable`, in the table's order.

    Slicer numbers the bars of a chart; a bar's layer is named when the mouse is over it, and in the table.
    """
    columns = ratesTable.GetTable()
    layer, rate = columns.GetColumnName(0), columns.GetColumnName(1)  # in whatever language the table was made
    series = slicer.vtkMRMLPlotSeriesNode()
    series.SetName(_("Mean spike rate"))
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetColor(*_BAR_COLOUR)
    scene.AddNode(series)
    series.SetAndObserveTableNodeID(ratesTable.GetID())
    series.SetYColumnName(rate)
    series.SetLabelColumnName(layer)
    names = columns.GetColumnByName(layer)
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName(_("Spike rates"))
    chart.SetTitle(_("Mean spike rate of each layer"))
    chart.SetXAxisTitle(
        _("Layer, from {first} (0) to {last}").format(
            first=names.GetValue(0), last=names.GetValue(names.GetNumberOfValues() - 1)
        )
    )
    chart.SetYAxisTitle(rate)
    chart.SetLegendVisibility(False)
    chart.SetYAxisRangeAuto(False)
    highest = max(columns.GetColumnByName(rate).GetRange()[1], 0.1)
    chart.SetYAxisRange(0.0, 1.1 * highest)
    scene.AddNode(chart)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart
