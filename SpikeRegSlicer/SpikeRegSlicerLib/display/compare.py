"""Ways to compare a fixed image with the warped one in all slice views: one call shows, one puts everything back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import colours, displacement, intensity, legends, lines, overlays, style, surface
from SpikeRegSlicerLib.display.deformable import deformablePart
from SpikeRegSlicerLib.display.helpers import removeNodes
from SpikeRegSlicerLib.display.views import SliceViews


@dataclass(frozen=True)
class Mode:
    """What the slider of a way to compare sets: the value to begin with and its limits; `valueText` says of what."""

    default: float
    minimum: float
    maximum: float


MODES = {
    "blend": Mode(0.5, 0.0, 1.0),
    "flicker": Mode(2.0, 0.5, 10.0),
    "checkerboard": Mode(20.0, 5.0, 60.0),
    "difference": Mode(0.5, 0.05, 1.0),
    "jacobian": Mode(0.5, 0.0, 1.0),
    "grid": Mode(10.0, 4.0, 40.0),
    "glyph": Mode(8.0, 4.0, 40.0),
    "contour": Mode(2.0, 0.5, 10.0),
    "error": Mode(0.6, 0.0, 1.0),
    "surface": Mode(1.0, 0.1, 1.0),
    "errorSurface": Mode(1.0, 0.1, 1.0),
}


def valueText(mode: str) -> str:
    """What the slider of a mode sets, with its unit, for a person."""
    return {
        "blend": _("share of the warped image"),
        "flicker": _("changes per second (Hz)"),
        "checkerboard": _("size of a square (mm)"),
        "difference": _("window (share of the intensity range)"),
        "jacobian": _("opacity"),
        "grid": _("distance of the lines (mm)"),
        "glyph": _("distance of the arrows (mm)"),
        "contour": _("displacement from one line to the next (mm)"),
        "error": _("opacity"),
        "surface": _("opacity of the surface"),
        "errorSurface": _("opacity of the surface"),
    }[mode]


_OF_TRANSFORM = ("grid", "glyph", "contour")
_NEEDS = {"jacobian": "jacobian", **dict.fromkeys((*_OF_TRANSFORM, "surface"), "transform"),
          **dict.fromkeys(("error", "errorSurface"), "error")}  # fmt: skip


class Comparison:
    """Two images on one grid, their transform and its Jacobian, compared in every slice view of the scene.

    Args:
        scene: whose slice views are used.
        fixed, warped: volume nodes; the warped one lies on the fixed one's grid.
        jacobian: volume node, or None: that mode is refused then.
        transform: transform node, or None: grid, arrows, contours and the surface of displacement are refused then.
        error: volume node of the predicted error in mm, NaN where nothing is known, or None: refused then.
    """

    def __init__(
        self, scene: Any, fixed: Any, warped: Any, jacobian: Any = None, transform: Any = None, error: Any = None
    ) -> None:
        self.scene = scene
        self.fixed, self.warped, self.jacobian, self.transform, self.error = fixed, warped, jacobian, transform, error
        self.mode: str | None = None
        self.value = 0.0
        self._views = SliceViews(scene)
        self._helpers: dict[str, Any] = {}  # what it is for -> node; removed with the mode
        self._scale: displacement.Scale | None = None
        self._named: Any = None  # title and entries of the legend that is shown
        self._warpedShown = True

    def modes(self) -> list[str]:
        """The modes that this run can show."""
        return [mode for mode in MODES if mode not in _NEEDS or getattr(self, _NEEDS[mode]) is not None]

    def show(self, mode: str, value: float | None = None) -> None:
        """Show a mode in every slice view, instead of what is shown now.

        Args:
            mode: one of `modes()`.
            value: as `valueText` describes it; None for its default.

        Raises:
            ValueError: if the mode is not there, or the two images lie on different grids.
        """
        if mode not in self.modes():
            raise ValueError(f"comparison {mode!r}: this run has {', '.join(self.modes())}")
        if mode != self.mode:
            self._removeHelpers()
        self.mode = mode
        self.value = MODES[mode].default if value is None else float(value)
        if mode in _OF_TRANSFORM:
            self._drawTransform(mode, self.value)
        else:
            getattr(self, f"_{mode}")(self.value)

    def tick(self) -> str:
        """In flicker mode, swap the images; "warped" or "fixed", whichever is shown now."""
        self._warpedShown = not self._warpedShown
        if self.mode == "flicker":
            self._views.show(self.fixed, self.warped, float(self._warpedShown))
        return "warped" if self._warpedShown else "fixed"

    def hide(self) -> None:
        """Put the slice views back to what they showed before, and remove every helper from the scene."""
        self._views.restore()
        self._removeHelpers()
        self.mode = None

    def _blend(self, opacity: float) -> None:
        self._views.show(self.fixed, self.warped, opacity)

    def _flicker(self, _rate: float) -> None:
        self._views.show(self.fixed, self.warped, float(self._warpedShown))

    def _checkerboard(self, millimetres: float) -> None:
        fixed, warped = intensity.pairOfArrays(self.fixed, self.warped)
        grid = fixed.shape, self.fixed.GetSpacing()[::-1], millimetres
        board = np.where(overlays.squares(*grid) == 0, intensity.unit(fixed), intensity.unit(warped))
        volume = self._helperVolume("board", _("Checkerboard ({volume})"), board)
        style.setWindow(volume.GetDisplayNode(), 0.0, 1.0)
        marks = self._overlay("marks", _("Whose square ({volume})"), overlays.cornerMarks(*grid), 0.5)
        marks.SetAndObserveColorNodeID(colours.sideColours(self.scene).GetID())
        style.setWindow(marks, 1.0, 2.0)
        self._views.show(volume, self._helpers["marks"], 1.0)
        sides = [(_("fixed"), colours.FIXED_COLOUR), (_("warped"), colours.WARPED_COLOUR)]
        self._nameColours(_("square of"), sides)

    def _difference(self, window: float) -> None:
        volume = self._helpers.get("difference")
        if volume is None:
            percent = 100 * intensity.difference(*intensity.pairOfArrays(self.fixed, self.warped))
            volume = self._helperVolume("difference", _("Difference ({volume})"), percent)
            volume.GetDisplayNode().SetAndObserveColorNodeID(colours.differenceColours(self.scene).GetID())
        style.setWindow(volume.GetDisplayNode(), -100 * window, 100 * window)
        self._views.show(volume)
        self._addLegend(volume, _("warped − fixed\n% of range"))

    def _jacobian(self, opacity: float) -> None:
        if "jacobian" not in self._helpers:
            fixed, values = intensity.pairOfArrays(self.fixed, self.jacobian)
            inside = overlays.insideAnatomy(values, fixed, self.fixed.GetSpacing()[::-1])
            display = self._overlay("jacobian", _("Jacobian ({volume})"), inside, 0.5 * overlays.OUTSIDE)
            display.SetAndObserveColorNodeID(colours.jacobianColours(self.scene).GetID())
            style.setWindow(display, *colours.JACOBIAN_RANGE)
        self._views.show(self.fixed, self._helpers["jacobian"], opacity)
        self._nameValues(_("volume,\ntimes"), colours.jacobianColours(self.scene), colours.JACOBIAN_RANGE,
                         [(_("folds"), -1.0), *colours.JACOBIAN_TICKS])  # fmt: skip

    def _error(self, opacity: float) -> None:
        if "error" not in self._helpers:
            values = overlays.known(intensity.pairOfArrays(self.fixed, self.error)[1])
            display = self._overlay("error", _("Predicted error ({volume})"), values, 0.5 * overlays.OUTSIDE)
            display.SetAndObserveColorNodeID(colours.errorColours(self.scene).GetID())
            style.setWindow(display, *colours.ERROR_RANGE)
            drawn = lines.levelLines(self.scene, self.fixed, values, colours.ERROR_LINES)
            if drawn is not None:
                self._helpers["lines"] = drawn
        self._views.show(self.fixed, self._helpers["error"], opacity)
        self._nameErrors(areLinesDrawn=True)

    def _surface(self, opacity: float) -> None:
        if "surface" not in self._helpers:
            alone = deformablePart(self.transform)
            self._helpers["transform"] = alone
            toMoving = alone.GetTransformFromParent()
            self._makeSurface(lambda points: np.array(
                [np.linalg.norm(np.subtract(toMoving.TransformPoint(point), point)) for point in points.tolist()]
            ))  # fmt: skip
        scale = self._displacements()
        self._views.show(self.fixed, self.warped, 1.0)
        if "surface" in self._helpers:
            table = self._helpers.get("colours")
            if table is None:
                table = self._helpers["colours"] = colours.rampColours(self.scene, scale.colour, scale.largest)
            surface.colourSurface(self._helpers["surface"], table, (0.0, scale.largest), opacity)
        self._nameColours(_("moved by"), scale.ticks())

    def _errorSurface(self, opacity: float) -> None:
        if "surface" not in self._helpers:
            values = intensity.pairOfArrays(self.fixed, self.error)[1]
            self._makeSurface(surface.nearestValues(self.fixed, np.where(values > 0, values, np.nan)))
        self._views.show(self.fixed, self.warped, 1.0)
        if "surface" in self._helpers:
            table = colours.errorColours(self.scene)
            surface.colourSurface(self._helpers["surface"], table, colours.ERROR_RANGE, opacity)
        self._nameErrors(areLinesDrawn=False)

    def _makeSurface(self, valuesAt: Any) -> None:
        model = surface.surfaceModel(self.scene, self.warped, valuesAt)
        if model is not None:
            self._helpers["surface"] = model
            surface.showInFront(model)

    def _drawTransform(self, mode: str, millimetres: float) -> None:
        if "transform" not in self._helpers:
            self._helpers["transform"] = deformablePart(self.transform)
        alone, scale = self._helpers["transform"], self._displacements()
        times = scale.times(millimetres) if mode == "glyph" else 1.0
        style.setTransformDisplay(alone, mode, millimetres, scale=scale, times=times)
        self._views.show(self.warped)
        if mode == "glyph":
            self._nameColours(displacement.arrowsTitle(times), scale.ticks())
        elif mode == "contour":
            self._nameColours(_("moved by"), scale.lines(millimetres))

    def _displacements(self) -> displacement.Scale:
        if self._scale is None:
            self._scale = displacement.scaleOf(self._helpers["transform"], self.fixed)
        return self._scale

    def _overlay(self, name: str, title: str, values: np.ndarray, lowest: float) -> Any:
        """The display of a helper volume drawn as voxels, without those below `lowest`: nothing smears at its edge."""
        display = self._helperVolume(name, title, values).GetDisplayNode()
        display.SetInterpolate(0)
        display.SetAutoThreshold(0)
        display.SetThreshold(lowest, 1e6)
        display.SetApplyThreshold(1)
        return display

    def _helperVolume(self, name: str, title: str, values: np.ndarray) -> Any:
        """A volume on the fixed image's grid, there until the mode ends.

        It is not hidden from editors: a slice view's own selector drops a volume that it cannot list.
        """
        volume = self._helpers.get(name)
        if volume is None:
            volume = slicer.vtkMRMLScalarVolumeNode()
            volume.SetName(title.format(volume=self.warped.GetName()))
            volume.SetSaveWithScene(0)
            self.scene.AddNode(volume)
            self._helpers[name] = volume
            matrix = vtk.vtkMatrix4x4()
            self.fixed.GetIJKToRASMatrix(matrix)
            volume.SetIJKToRASMatrix(matrix)
            volume.SetAndObserveTransformNodeID(self.fixed.GetTransformNodeID())
        slicer.util.updateVolumeFromArray(volume, np.ascontiguousarray(values, dtype=np.float32))
        if volume.GetDisplayNode() is None:
            volume.CreateDefaultDisplayNodes()
            volume.GetDisplayNode().SetSaveWithScene(0)
        return volume

    def _addLegend(self, volume: Any, title: str) -> None:
        if "legend" not in self._helpers:
            self._helpers["legend"] = style.addLegend(volume, title, 5, "%.0f")

    def _nameErrors(self, areLinesDrawn: bool) -> None:
        table, (first, second) = colours.errorColours(self.scene), colours.ERROR_LINES
        white, black = (_("white {mm:g}"), _("black {mm:g}")) if areLinesDrawn else ("{mm:g}", "{mm:g}")
        ticks = [("0", 0.0), ("1", 1.0), (white.format(mm=first), first), ("3.5", 3.5),
                 (black.format(mm=second), second), ("≥ 8", colours.ERROR_RANGE[1])]  # fmt: skip
        self._nameValues(_("predicted\nerror, mm"), table, colours.ERROR_RANGE, ticks)

    def _nameValues(self, title: str, table: Any, window: tuple[float, float], ticks: list[tuple[str, float]]) -> None:
        self._nameColours(title, [(text, colours.colourAt(table, window, value)) for text, value in ticks])

    def _nameColours(self, title: str, entries: list[legends.Entry]) -> None:
        """A legend of these colours instead of the one that is there."""
        wanted = (title, tuple(entries))
        if self._named == wanted and "name 0" in self._helpers:
            return
        self._forget([name for name in self._helpers if name.startswith("name ")])
        for number, node in enumerate(reversed(legends.namedLegend(self.scene, title, entries))):
            self._helpers[f"name {number}"] = node
        self._named = wanted

    def _removeHelpers(self) -> None:
        self._forget(list(self._helpers))

    def _forget(self, names: list[str]) -> None:
        removeNodes(self.scene, [self._helpers.pop(name) for name in reversed(names)])  # a legend before its volume
