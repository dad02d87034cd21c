"""The chart of spike rates: one bar per layer, and a colour for each network."""

from __future__ import annotations

import itertools
import re
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

FINE = "fine."  # how the names of the fine network's layers begin, as in result.json
_COLOURS = ((0.184, 0.435, 0.624), (0.851, 0.447, 0.122))  # the accent of the library's report, and an orange


def ratesChart(scene: Any, ratesTable: Any) -> Any:
    """A bar chart of the rates in a table made by `tables.ratesTable`, in the table's order.

    Two networks stand side by side, layer by layer, each in its colour. Slicer numbers the bars of a chart; the axis
    says which parts of the network the numbers are, and a bar's layer is named when the mouse is over it.
    """
    columns = ratesTable.GetTable()
    layer, rate = columns.GetColumnName(0), columns.GetColumnName(1)  # in whatever language the table was made
    names = [columns.GetColumnByName(layer).GetValue(row) for row in range(columns.GetNumberOfRows())]
    rates = [columns.GetColumnByName(rate).GetValue(row) for row in range(len(names))]
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName(_("Spike rates"))
    chart.SetTitle(_("Mean spike rate of each layer"))
    chart.SetYAxisTitle(rate)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.1 * max(*rates, 0.1))
    scene.AddNode(chart)
    fine = [row for row, name in enumerate(names) if name.startswith(FINE)]
    coarse = [row for row in range(len(names)) if row not in fine]
    both = bool(fine and coarse)
    titles = (_("Coarse network"), _("Fine network")) if both else (_("Mean spike rate"),) * 2
    for rows, title, colour in zip((coarse, fine), titles, _COLOURS, strict=True):
        if rows:
            table = ratesTable
            if both:
                table = _part(scene, title, layer, [names[row] for row in rows], rate, [rates[row] for row in rows])
            chart.AddAndObservePlotSeriesNodeID(_series(scene, title, colour, table, layer, rate).GetID())
    chart.SetXAxisTitle(_("Layer: {parts}").format(parts=parts([names[row] for row in coarse or fine])))
    chart.SetLegendVisibility(both)
    return chart


def ownNodes(chart: Any, ratesTable: Any) -> list[Any]:
    """What `ratesChart` put into the scene beside the chart: its series, and their tables but for that of the rates."""
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    return series + [each.GetTableNode() for each in series if each.GetTableNode() is not ratesTable]


def parts(names: list[str]) -> str:
    """Numbers of layers, by what their names begin with: "0-3 enc, 4 bottleneck, 5-6 dec"."""
    stems = (re.match(r"[^\d.]*", name.removeprefix(FINE)) for name in names)
    said, first = [], 0
    for stem, group in itertools.groupby(found.group() if found else "" for found in stems):
        last = first + len(list(group)) - 1
        said.append(f"{first} {stem}" if first == last else f"{first}-{last} {stem}")
        first = last + 1
    return ", ".join(said)


def _series(scene: Any, title: str, colour: tuple[float, float, float], table: Any, layer: str, rate: str) -> Any:
    series = slicer.vtkMRMLPlotSeriesNode()
    series.SetName(title)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetColor(*colour)
    scene.AddNode(series)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetYColumnName(rate)
    series.SetLabelColumnName(layer)
    return series


def _part(scene: Any, title: str, layer: str, names: list[str], rate: str, rates: list[float]) -> Any:
    """A table of one network's layers alone, which a chart needs for a colour of its own."""
    node = slicer.vtkMRMLTableNode()
    node.SetName(_("Spike rates, {network}").format(network=title))
    node.SetHideFromEditors(True)
    scene.AddNode(node)
    for column, title_, values in ((vtk.vtkStringArray(), layer, names), (vtk.vtkDoubleArray(), rate, rates)):
        column.SetName(title_)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node
