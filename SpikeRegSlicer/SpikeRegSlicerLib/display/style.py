"""How the nodes of a run look: Jacobian, spike rates, transform; and the colour legend in the slice views."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from SpikeRegSlicerLib.display import colours, displacement

TRANSFORM_MODES = ("grid", "glyph", "contour", "off")
GRID_SPACING_MM = 10.0
_GRID_COLOUR = (1.0, 0.77, 0.24)
_CONTOURS_AT_MOST = 40
_CONTOUR_RESOLUTION_MM = 3.0  # where contours are computed; a finer grid takes seconds in a 3-D view
_ROUND_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def styleRun(run: Any) -> None:
    """Give the nodes of a run their colours, and its transform a grid that is ready but not yet shown.

    Args:
        run: as `scene.results.loadRun` returns it; what a run does not have is None or empty.
    """
    if run.jacobian is not None:
        styleJacobian(run.jacobian)
    if run.predictedError is not None:
        styleError(run.predictedError)
    for volume in run.spikes:
        styleSpikes(volume)
    if run.transform is not None:
        setTransformDisplay(run.transform, "grid", GRID_SPACING_MM)
        setTransformDisplay(run.transform, "off", GRID_SPACING_MM)


def styleJacobian(volume: Any) -> None:
    """Colours centred at 1, always over the same window, so that two runs can be compared."""
    display = _display(volume)
    display.SetAndObserveColorNodeID(colours.jacobianColours(volume.GetScene()).GetID())
    setWindow(display, *colours.JACOBIAN_RANGE)


def styleError(volume: Any) -> None:
    """Colours of the predicted error, always over the same window in mm; what is not known is not drawn."""
    display = _display(volume)
    display.SetAndObserveColorNodeID(colours.errorColours(volume.GetScene()).GetID())
    setWindow(display, *colours.ERROR_RANGE)


def styleSpikes(volume: Any, highest: float | None = None) -> None:
    """Colours from no spikes, which is transparent, to a rate.

    Voxels are drawn as blocks: the layer's own coarse grid is part of what there is to see.

    Args:
        highest: rate of the last colour; None for the layer's own `highRate`.
    """
    display = _display(volume)
    display.SetAndObserveColorNodeID(colours.spikeRateColours(volume.GetScene()).GetID())
    display.SetInterpolate(0)
    setWindow(display, 0.0, highRate(volume) if highest is None else highest)


def highRate(volume: Any) -> float:
    """A round rate that one firing voxel in twenty exceeds; the smallest there is for a layer that is silent."""
    rates = slicer.util.arrayFromVolume(volume)
    firing = rates[rates > 0]
    return _roundUp(float(np.percentile(firing, 95)) if firing.size else 0.0)


def setWindow(display: Any, low: float, high: float) -> None:
    """Fix the display's window, also against the one that is computed when the image changes."""
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(low, high)


def setTransformDisplay(
    transformNode: Any,
    mode: str,
    spacingMm: float = GRID_SPACING_MM,
    scale: displacement.Scale | None = None,
    times: float = 1.0,
) -> None:
    """Show a transform in slice and 3-D views, or not.

    Args:
        transformNode: drawn from its own space to its parent's: the moving image's grid as it lies on the fixed one.
        mode: "grid", "glyph" (arrows), "contour" (lines of equal displacement) or "off".
        spacingMm: distance of grid lines and arrows, or the step of displacement between contours.
        scale: colours of arrows and contours, and how far contours go; None for Slicer's own.
        times: how many times as long as the displacement arrows are drawn.

    Raises:
        ValueError: if the mode is none of these.
    """
    if mode not in TRANSFORM_MODES:
        raise ValueError(f"transform display {mode!r}: choose one of {', '.join(TRANSFORM_MODES)}")
    if transformNode.GetDisplayNode() is None:
        transformNode.CreateDefaultDisplayNodes()
    display = transformNode.GetDisplayNode()
    changing = display.StartModify()
    if mode != "off":
        kinds = {"grid": display.VIS_MODE_GRID, "glyph": display.VIS_MODE_GLYPH, "contour": display.VIS_MODE_CONTOUR}
        display.SetVisualizationMode(kinds[mode])
        display.SetGridSpacingMm(spacingMm)
        display.SetGridResolutionMm(max(1.0, spacingMm / 5))
        display.SetGridScalePercent(100)
        display.SetGridLineDiameterMm(0.1 * spacingMm)
        display.SetGlyphSpacingMm(spacingMm)
        display.SetGlyphScalePercent(100 * times)
        display.SetGlyphDiameterMm(0.25 * spacingMm)
        display.SetSliceIntersectionThickness(2)
        if scale is not None:
            displacement.colourTransform(display, scale)
        display.SetContourResolutionMm(_CONTOUR_RESOLUTION_MM)
        display.SetScalarVisibility(mode != "grid")  # a grid shows the displacement by itself; arrows by colour too
        display.SetColor(*_GRID_COLOUR)
        display.SetOpacity(0.9)
        if mode == "contour":
            _setContours(display, transformNode, spacingMm, scale)
        region = transformNode.GetNodeReference(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole())
        if region is not None and display.GetRegionNode() is None:
            display.SetAndObserveRegionNode(region)  # without one nothing is drawn in 3-D
    display.SetVisibility(mode != "off")
    display.SetVisibility2D(mode != "off")
    display.SetVisibility3D(mode != "off")
    display.EndModify(changing)


def addLegend(volume: Any, title: str, labels: int, labelFormat: str, width: float = 0.08) -> Any:
    """A colour legend at the right edge of every slice view that shows `volume`; the caller removes the node.

    Made after the volume is shown: a legend does not notice when a view's volume is changed by a program.

    Args:
        width: as a share of the view; the text is as large as the labels fit into it.
    """
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume.GetDisplayNode())
    changing = legend.StartModify()
    legend.SetTitleText(title)
    legend.SetNumberOfLabels(labels)
    legend.SetLabelFormat(labelFormat)
    legend.SetSize(width, 0.3)
    legend.SetPosition(0.99, 0.03)
    legend.GetLabelTextProperty().SetFontFamilyToArial()
    legend.SetVisibility(1)
    legend.EndModify(changing)
    return legend


def _display(volume: Any) -> Any:
    if volume.GetDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    return volume.GetDisplayNode()


def _setContours(display: Any, transformNode: Any, step: float, scale: displacement.Scale | None) -> None:
    """Levels at multiples of `step` mm, up to the scale's, else to the largest displacement over the fixed volume."""
    if scale is not None:
        _setLevels(display, step, scale.largest)
        return
    volume = transformNode.GetNodeReference(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole())
    if volume is None:
        return
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    toParent = transformNode.GetTransformFromParent()
    grid = np.stack(np.meshgrid(*[np.linspace(bounds[2 * n], bounds[2 * n + 1], 9) for n in range(3)]), -1)
    largest = max(float(np.linalg.norm(np.subtract(toParent.TransformPoint(p), p))) for p in grid.reshape(-1, 3))
    _setLevels(display, step, largest)


def _setLevels(display: Any, step: float, largest: float) -> None:
    count = min(max(1, int(np.ceil(largest / step - 1e-6))), _CONTOURS_AT_MOST)
    display.SetContourLevelsMmFromString(" ".join(f"{step * n:g}" for n in range(1, count + 1)))


def _roundUp(value: float) -> float:
    """The next round number of two digits at or above `value`; 0.001 for what is lower."""
    if value <= 0.001:
        return 0.001
    power = 10.0 ** np.floor(np.log10(value))
    return float(
        next(step * power for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if value <= step * power * (1 + 1e-9))
    )
