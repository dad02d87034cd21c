"""The chart of spike rates: one bar per layer."""

from __future__ import annotations

from typing import Any

import slicer

from SpikeRegSlicerLib.display.tables import LAYER, RATE

_BAR_COLOUR = (0.184, 0.435, 0.624)  # the accent of the library's report


def ratesChart(scene: Any, ratesTable: Any) -> Any:
    """A bar chart of the rates in a table made by `tables.ratesTable`, in the table's order.

    Slicer numbers the bars of a chart; a bar's layer is named when the mouse is over it, and in the table.
    """
    series = slicer.vtkMRMLPlotSeriesNode()
    series.SetName("Mean spike rate")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetColor(*_BAR_COLOUR)
    scene.AddNode(series)
    series.SetAndObserveTableNodeID(ratesTable.GetID())
    series.SetYColumnName(RATE)
    series.SetLabelColumnName(LAYER)
    names = ratesTable.GetTable().GetColumnByName(LAYER)
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName("Spike rates")
    chart.SetTitle("Mean spike rate of each layer")
    chart.SetXAxisTitle(f"Layer, from {names.GetValue(0)} (0) to {names.GetValue(names.GetNumberOfValues() - 1)}")
    chart.SetYAxisTitle(RATE)
    chart.SetLegendVisibility(False)
    chart.SetYAxisRangeAuto(False)
    highest = max(series.GetTableNode().GetTable().GetColumnByName(RATE).GetRange()[1], 0.1)
    chart.SetYAxisRange(0.0, 1.1 * highest)
    scene.AddNode(chart)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart
