"""Displacements as they are drawn: how far a transform moves the anatomy, its colours, its arrows and its legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import intensity
from SpikeRegSlicerLib.display.legends import Entry

_LATTICE_MM = 8.0
_COLOURS = ((0.0, (0.35, 0.75, 1.0)), (0.5, (1.0, 0.9, 0.2)), (1.0, (1.0, 0.15, 0.1)))  # share of the scale -> RGB
_TIMES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 15.0, 20.0)
_ARROW = 0.9  # of the distance between two arrows: how long the middle one is drawn
_LINES_NAMED = 8
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """Of displacements, from 0 to `largest`, with ticks at multiples of `step`.

    Attributes:
        largest, step: mm.
        middle: mm; half of the displacements inside the anatomy are longer.
    """

    largest: float
    step: float
    middle: float

    def colour(self, millimetres: float) -> tuple[float, float, float]:
        """RGB in 0..1."""
        share = min(max(millimetres / self.largest, 0.0), 1.0)
        rgb = [np.interp(share, [at for at, _ in _COLOURS], [colour[n] for _, colour in _COLOURS]) for n in range(3)]
        return float(rgb[0]), float(rgb[1]), float(rgb[2])

    def ticks(self) -> list[Entry]:
        """Legend of the whole scale."""
        values = np.arange(0.0, self.largest + 0.5 * self.step, self.step)
        return [(f"{value:g} mm", self.colour(value)) for value in values]

    def lines(self, step: float) -> list[Entry]:
        """Legend of contours at multiples of `step` mm; of many, as many as can be read."""
        levels = np.arange(step, max(self.largest, step) + 1e-6, step)
        return [(f"{level:g} mm", self.colour(level)) for level in levels[:: -(-len(levels) // _LINES_NAMED)]]

    def times(self, spacing: float) -> float:
        """How many times as long as they are arrows `spacing` mm apart are drawn, so that most can be seen."""
        wanted = _ARROW * spacing / max(self.middle, 1e-6)
        return max((times for times in _TIMES if times <= wanted), default=1.0)


def scaleOf(transform: Any, fixed: Any) -> Scale:
    """The scale that fits what a transform does to the anatomy of the fixed volume.

    Args:
        transform: transform node, fixed to moving points in mm.
        fixed: volume node.
    """
    points = _pointsInside(fixed)
    toMoving = transform.GetTransformFromParent()
    lengths = np.array([np.linalg.norm(np.subtract(toMoving.TransformPoint(point), point)) for point in points])
    largest = float(np.percentile(lengths, 99.5)) if len(lengths) else 0.0
    middle = float(np.median(lengths)) if len(lengths) else 0.0
    step = _roundStep(max(largest, 0.04) / 4)
    return Scale(step * max(1, int(np.ceil(largest / step - 1e-6))), step, middle)


def colourTransform(display: Any, scale: Scale) -> None:
    """Draw a transform's arrows or contours in the colours of a scale."""
    colours = vtk.vtkColorTransferFunction()
    for share, rgb in _COLOURS:
        colours.AddRGBPoint(share * scale.largest, *rgb)
    display.SetColorMap(colours)


def arrowsTitle(times: float) -> str:
    """What the legend of arrows says above its ticks."""
    if times == 1:
        return _("moved by")
    return _("moved by\n(drawn {times:g} ×)").format(times=times)


def _pointsInside(fixed: Any) -> list[tuple[float, float, float]]:
    """Points of the anatomy about 8 mm apart, world RAS."""
    values = slicer.util.arrayFromVolume(fixed)
    spacing = fixed.GetSpacing()[::-1]
    steps = tuple(slice(None, None, max(1, round(_LATTICE_MM / step))) for step in spacing)
    index = np.argwhere(intensity.headMask(values, tuple(spacing))[steps]) * [part.step for part in steps]
    matrix = vtk.vtkMatrix4x4()
    fixed.GetIJKToRASMatrix(matrix)
    points = np.c_[index[:, ::-1], np.ones(len(index))] @ slicer.util.arrayFromVTKMatrix(matrix).T
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(fixed.GetParentTransformNode(), None, toWorld)
    return [toWorld.TransformPoint(point) for point in points[:, :3].tolist()]


def _roundStep(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in _STEPS if value <= step * power * (1 + 1e-9)))
