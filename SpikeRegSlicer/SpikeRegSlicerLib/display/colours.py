"""Colour tables for what a run adds to the scene; each is made once per scene and saved with it.

A volume's display maps its window linearly onto the 256 colours of its table, so a table belongs to a window: the
Jacobian's and the predicted error's are fixed (`JACOBIAN_RANGE`, `ERROR_RANGE`), the others scale with whatever window
is set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

JACOBIAN_LIMIT = 4.0  # the colours saturate at 1/4 and 4
JACOBIAN_TICKS = (("1/4", 0.25), ("1/2", 0.5), ("1", 1.0), ("2", 2.0), ("4", 4.0))
JACOBIAN_RANGE = (-1.0, JACOBIAN_LIMIT)  # the window the Jacobian's table is made for; -1 to 0 is the folds' colour
ERROR_RANGE = (0.0, 8.0)  # mm
ERROR_LINES = (2.0, 5.0)  # mm, where lines are drawn
FIXED_COLOUR, WARPED_COLOUR = (0.25, 0.65, 1.0), (1.0, 0.6, 0.1)  # told apart by every eye
_ATTRIBUTE = "SpikeReg.colours"
_SIZE = 256


def jacobianColours(scene: Any) -> Any:
    """Diverging and symmetric in the logarithm: white at 1, blue shrinks, red grows, magenta where it folds (< 0)."""
    return _node(scene, "jacobian", _("SpikeReg Jacobian"), _jacobianTable)


def spikeRateColours(scene: Any) -> Any:
    """Sequential with evenly growing lightness from black; no spikes is transparent: the anatomy stays as it is."""
    return _node(scene, "spikes", _("SpikeReg spike rate"), _spikeTable)


def differenceColours(scene: Any) -> Any:
    """Diverging with a dark middle for a symmetric window: no difference is black, blue below, orange above."""
    return _node(scene, "difference", _("SpikeReg difference"), _differenceTable)


def errorColours(scene: Any) -> Any:
    """From blue at no predicted error over green at 2 mm and yellow at 5 mm to red at 8 mm and above."""
    return _node(scene, "error", _("SpikeReg predicted error"), _errorTable)


def sideColours(scene: Any) -> Any:
    """Two halves: the colour of the fixed image, and that of the warped one."""
    return _node(scene, "sides", _("SpikeReg fixed and warped"), _sideTable)


def rampColours(scene: Any, colourOf: Callable[[float], Sequence[float]], largest: float) -> Any:
    """A table for one overlay, from 0 to `largest`; the caller removes it. Not saved, not listed."""
    values = np.linspace(0, largest, _SIZE).tolist()
    node = _filled(_("SpikeReg displacement"), np.array([[*colourOf(value), 1.0] for value in values]))
    node.SetHideFromEditors(1)
    node.SetSaveWithScene(0)
    return scene.AddNode(node)


def colourAt(node: Any, window: tuple[float, float], value: float) -> tuple[float, float, float]:
    """RGB in 0..1 in which a value is drawn by a table over a window."""
    share = (value - window[0]) / (window[1] - window[0])
    return tuple(node.GetLookupTable().GetTableValue(int(np.clip(share * (_SIZE - 1), 0, _SIZE - 1)))[:3])


def _errorTable() -> np.ndarray:
    low, high = ERROR_RANGE
    anchors = ((0, (38, 84, 163)), (ERROR_LINES[0], (74, 180, 120)), (ERROR_LINES[1], (250, 210, 60)),
               (high, (205, 30, 40)))  # fmt: skip
    values = np.linspace(low, high, _SIZE)
    rgb = [np.interp(values, [at for at, _ in anchors], [colour[n] for _, colour in anchors]) for n in range(3)]
    return _opaque(np.stack(rgb, 1))


def _sideTable() -> np.ndarray:
    return _opaque(255 * np.repeat([FIXED_COLOUR, WARPED_COLOUR], _SIZE // 2, axis=0))


def _jacobianTable() -> np.ndarray:
    from SpikeRegLib.report.colours import DIVERGING, FOLD

    low, high = JACOBIAN_RANGE
    # Colour n is drawn for the n-th of 255 equal parts of the window; the last one for the upper end alone.
    determinant = low + (np.arange(_SIZE) + 0.5) * (high - low) / (_SIZE - 1)
    exponent = np.log(np.maximum(determinant, 1e-6)) / np.log(JACOBIAN_LIMIT)
    table = DIVERGING[np.clip((exponent + 1) / 2 * 255, 0, 255).round().astype(int)].astype(float)
    table[determinant < 0] = FOLD
    table += (8 * np.clip(1 - 4 * np.abs(exponent), 0, 1))[:, None]  # from the scale's light grey to white at 1
    return _opaque(table)


def _spikeTable() -> np.ndarray:
    from SpikeRegLib.report.colours import SEQUENTIAL

    # A slice view knows transparent and opaque only. From black on, low rates dim the anatomy and tint nothing.
    table = _opaque(SEQUENTIAL.astype(float))
    table[0, 3] = 0
    return table


def _differenceTable() -> np.ndarray:
    anchors = np.array([(198, 236, 255), (74, 163, 223), (28, 84, 150), (0, 0, 0),
                        (158, 66, 16), (238, 140, 48), (255, 232, 178)], float)  # fmt: skip
    position = np.linspace(0, len(anchors) - 1, _SIZE)
    table = np.stack([np.interp(position, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], 1)
    table[_SIZE // 2 - 1 : _SIZE // 2 + 1] = 0
    return _opaque(table)


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb / 255, np.ones((_SIZE, 1))], axis=1)


def _node(scene: Any, kind: str, name: str, makeTable: Any) -> Any:
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode", scene):
        if node.GetAttribute(_ATTRIBUTE) == kind:
            return node
    node = _filled(name, makeTable())
    node.SetAttribute(_ATTRIBUTE, kind)
    return scene.AddNode(node)


def _filled(name: str, table: np.ndarray) -> Any:
    """A colour table node that is not in a scene yet; `table` is [256, 4] RGBA in 0..1."""
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetNumberOfColors(_SIZE)
    node.GetLookupTable().SetRange(0, _SIZE - 1)
    for index, colour in enumerate(table.tolist()):
        node.SetColor(index, str(index), *colour)
    return node
