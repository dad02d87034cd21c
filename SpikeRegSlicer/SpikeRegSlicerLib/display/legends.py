"""Legends of named colours in every slice view, for scales whose ticks Slicer's own colour legend cannot write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

Entry = tuple[str, tuple[float, float, float]]
"""What a colour means, and its RGB in 0..1."""


def namedLegend(scene: Any, title: str, entries: Sequence[Entry], width: float = 0.13) -> list[Any]:
    """Show a legend at the right edge of every view, one swatch an entry, the first one lowest.

    Slicer ties a legend to something that is shown; here that is a model without a surface, so the legend can say what
    any overlay means, whichever node draws it.

    Args:
        scene: where the nodes are added; they are hidden from lists and not saved.
        title: lines above the swatches.
        entries: what each colour means.
        width: as a share of the view.

    Returns:
        The nodes to remove, in the order to remove them.
    """
    colours = slicer.vtkMRMLColorTableNode()
    colours.SetTypeToUser()
    colours.SetNumberOfColors(len(entries))
    colours.GetLookupTable().SetRange(0, max(1, len(entries) - 1))
    for index, (name, rgb) in enumerate(entries):
        colours.SetColor(index, name, *rgb, 1.0)
    model, display = slicer.vtkMRMLModelNode(), slicer.vtkMRMLModelDisplayNode()
    for node in (colours, model, display):
        node.SetName(title.split("\n", maxsplit=1)[0])
        node.SetHideFromEditors(1)
        node.SetSaveWithScene(0)
        scene.AddNode(node)
    display.SetAndObserveColorNodeID(colours.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0, max(1, len(entries) - 1))
    display.SetVisibility(1)
    display.SetVisibility2D(1)
    display.SetScalarVisibility(1)
    model.SetAndObserveDisplayNodeID(display.GetID())
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(display)
    changing = legend.StartModify()
    legend.SetSaveWithScene(0)
    legend.SetTitleText(title)
    legend.SetUseColorNamesForLabels(True)
    legend.SetLabelFormat("%s")
    legend.SetSize(width, min(0.9, max(0.3, 0.1 + 0.06 * len(entries))))
    legend.SetPosition(0.99, 0.03)
    legend.GetLabelTextProperty().SetFontFamilyToArial()
    legend.SetVisibility(1)
    legend.EndModify(changing)
    return [legend, display, model, colours]
