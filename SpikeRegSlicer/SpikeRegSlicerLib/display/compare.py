"""Ways to compare a fixed image with the warped one in all slice views: one call shows, one puts everything back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import colours, intensity, style
from SpikeRegSlicerLib.display.deformable import deformablePart
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
    }[mode]


_OF_TRANSFORM = ("grid", "glyph", "contour")


class Comparison:
    """Two images on one grid, their transform and its Jacobian, compared in every slice view of the scene.

    Args:
        scene: whose slice views are used.
        fixed, warped: volume nodes; the warped one lies on the fixed one's grid.
        jacobian: volume node, or None: that mode is refused then.
        transform: transform node, or None: grid, arrows and contours are refused then.
    """

    def __init__(self, scene: Any, fixed: Any, warped: Any, jacobian: Any = None, transform: Any = None) -> None:
        self.scene = scene
        self.fixed, self.warped, self.jacobian, self.transform = fixed, warped, jacobian, transform
        self.mode: str | None = None
        self.value = 0.0
        self._views = SliceViews(scene)
        self._helpers: dict[str, Any] = {}  # what it is for -> node; removed with the mode
        self._warpedShown = True

    def modes(self) -> list[str]:
        """The modes that this run can show."""
        needed = {"jacobian": self.jacobian, **dict.fromkeys(_OF_TRANSFORM, self.transform)}
        return [mode for mode in MODES if mode not in needed or needed[mode] is not None]

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
        square = np.zeros(fixed.shape, dtype=int)
        for axis, spacing in enumerate(self.fixed.GetSpacing()[::-1]):
            shape = [-1 if n == axis else 1 for n in range(3)]
            square = square + (np.arange(fixed.shape[axis]) * spacing // millimetres).astype(int).reshape(shape)
        board = np.where(square % 2 == 0, intensity.unit(fixed), intensity.unit(warped))
        volume = self._helperVolume("board", _("Checkerboard ({volume})"), board)
        style.setWindow(volume.GetDisplayNode(), 0.0, 1.0)
        self._views.show(volume)

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
        style.styleJacobian(self.jacobian)
        self._views.show(self.fixed, self.jacobian, opacity)
        self._addLegend(self.jacobian, _("Jacobian\n(fold < 0)"))

    def _drawTransform(self, mode: str, millimetres: float) -> None:
        if "transform" not in self._helpers:
            self._helpers["transform"] = deformablePart(self.transform)
        style.setTransformDisplay(self._helpers["transform"], mode, millimetres)
        self._views.show(self.warped)

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

    def _removeHelpers(self) -> None:
        for node in reversed(self._helpers.values()):  # a legend before the volume that it explains
            for part in _withDisplay(node):
                if self.scene.IsNodePresent(part):
                    self.scene.RemoveNode(part)
        self._helpers.clear()


def _withDisplay(node: Any) -> list[Any]:
    """A node and, of a displayable one, what its removal would leave behind.

    That is its display nodes, and the colours that each display of a transform makes for itself when it is drawn.
    """
    if not node.IsA("vtkMRMLDisplayableNode"):
        return [node]
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    displays = [each for each in displays if each is not None]  # gone where the scene was closed
    drawn = [each for each in displays if each.IsA("vtkMRMLTransformDisplayNode") and each.GetColorNodeID()]
    palettes = [each.GetColorNode() for each in drawn]
    return [*displays, node, *palettes]  # a display would make its colours anew
