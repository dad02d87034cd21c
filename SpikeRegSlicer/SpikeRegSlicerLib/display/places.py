"""Where to look first: the strongest changes of volume and the largest differences that are left, as points in RAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import intensity

APART_MM = 15.0
_SMOOTHING_MM = 2.0
_SMALLEST = 1e-3  # Jacobians at or below count as this strong a change: folds come before everything else


@dataclass(frozen=True)
class Place:
    """A point to look at.

    Attributes:
        kind: "jacobian", "residual" or "predicted".
        ras: mm, world coordinates.
        value: the Jacobian determinant, warped minus fixed as a share of the fixed image's intensity window, or the
            predicted error in mm.
        text: for a person.
    """

    kind: str
    ras: tuple[float, float, float]
    value: float
    text: str


def worstPlaces(fixed: Any, warped: Any, jacobian: Any = None, count: int = 5) -> list[Place]:
    """The places inside the head that most deserve a look, at least 15 mm apart from each other.

    They are the highest |log Jacobian| and the largest difference after intensity matching and smoothing over 2 mm,
    by turns, the Jacobian first; without a Jacobian, differences alone.

    Args:
        fixed, warped, jacobian: volume nodes on one grid.
        count: how many places; fewer come back where the head is too small for them.

    Raises:
        ValueError: if the grids differ.
    """
    fixedArray, warpedArray = intensity.pairOfArrays(fixed, warped)
    spacing = tuple(fixed.GetSpacing()[::-1])
    head = intensity.headMask(fixedArray, spacing)
    residual = intensity.smoothed(intensity.difference(fixedArray, warpedArray), spacing, _SMOOTHING_MM)
    values = {"residual": residual}
    scores = {"residual": np.where(head, np.abs(residual), 0)}
    order = ["residual"]
    if jacobian is not None:
        values["jacobian"] = intensity.pairOfArrays(fixed, jacobian)[1]
        change = np.abs(np.log(np.maximum(values["jacobian"], _SMALLEST)))
        scores["jacobian"] = np.where(head, change, 0)
        order.insert(0, "jacobian")
    toRas = _voxelToWorld(fixed)
    places: list[Place] = []
    while len(places) < count and any(score.any() for score in scores.values()):
        kind = order[len(places) % len(order)]
        if not scores[kind].any():
            order.remove(kind)
            continue
        index = tuple(int(n) for n in np.unravel_index(int(scores[kind].argmax()), head.shape))
        value = float(values[kind][index])
        places.append(Place(kind, toRas(index), value, _text(kind, value)))
        for score in scores.values():
            _clear(score, index, spacing)
    return places


def predictedPlaces(result: dict[str, Any]) -> list[Place]:
    """Where a run expects its transform to be wrong by most, as its result.json says; what is no place is left out."""
    table = result.get("predicted_error")
    worst = table.get("worst") if isinstance(table, dict) else None
    places = []
    for entry in worst if isinstance(worst, list) else []:
        at, error = (entry.get("place_mm"), entry.get("mm")) if isinstance(entry, dict) else (None, None)
        if isinstance(at, list) and len(at) == 3 and all(map(_isFinite, at)) and _isFinite(error):
            text = _("predicted error {mm:.1f} mm").format(mm=error)
            # result.json is in LPS
            places.append(Place("predicted", (-float(at[0]), -float(at[1]), float(at[2])), float(error), text))
    return places


def apart(places: list[Place]) -> list[Place]:
    """Places in their order, without those closer than 15 mm to one before."""
    kept: list[Place] = []
    for place in places:
        if all(np.linalg.norm(np.subtract(place.ras, other.ras)) >= APART_MM for other in kept):
            kept.append(place)
    return kept


def jumpTo(scene: Any, ras: tuple[float, float, float]) -> None:
    """Centre every slice view at a point (RAS mm, world), and put the crosshair there."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    for crosshair in slicer.util.getNodesByClass("vtkMRMLCrosshairNode", scene):
        crosshair.SetCrosshairRAS(*ras)


def _clear(score: np.ndarray, index: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Set to zero what lies closer than `APART_MM`; the axes of a volume are at right angles."""
    reach = [int(np.ceil(APART_MM / step)) for step in spacing]
    box = tuple(slice(max(0, n - r), n + r + 1) for n, r in zip(index, reach, strict=True))
    offsets = [
        (np.arange(part.start, part.start + size) - n) * step
        for part, size, n, step in zip(box, score[box].shape, index, spacing, strict=True)
    ]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*offsets, indexing="ij")))
    score[box][distance < APART_MM] = 0


def _voxelToWorld(volume: Any) -> Any:
    """Function from a [K, J, I] index to world RAS, also for a volume under a parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(volume.GetParentTransformNode(), None, toWorld)

    def world(index: tuple[int, ...]) -> tuple[float, float, float]:
        point = matrix.MultiplyPoint((*(float(n) for n in index[::-1]), 1.0))
        return tuple(toWorld.TransformPoint(point[:3]))

    return world


def _isFinite(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _text(kind: str, value: float) -> str:
    if kind == "residual":
        side = _("brighter") if value > 0 else _("darker")
        return _("warped image {side} by {percent:.0f} % of the intensity range").format(
            side=side, percent=100 * abs(value)
        )
    if value <= 0:
        return _("folded (Jacobian {value:.2f})").format(value=value)
    change = (
        _("grows to {value:.1f} times its volume").format(value=value)
        if value > 1
        else _("shrinks to {percent:.0f} % of its volume").format(percent=100 * value)
    )
    return f"{change} (Jacobian {value:.2f})"
