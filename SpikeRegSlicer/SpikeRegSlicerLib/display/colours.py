"""Colour tables for what a run adds to the scene; each is made once per scene and saved with it.

A volume's display maps its window linearly onto the 256 colours of its table, so a table belongs to a window: the
Jacobian's is fixed (`JACOBIAN_RANGE`), the other two scale with whatever window is set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

JACOBIAN_LIMIT = 3.0  # as in the library's report: the colours saturate at 1/3 and 3
JACOBIAN_RANGE = (-1.0, JACOBIAN_LIMIT)  # the window the Jacobian's table is made for; -1 to 0 is the folds' colour
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
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetAttribute(_ATTRIBUTE, kind)
    node.SetNumberOfColors(_SIZE)
    node.GetLookupTable().SetRange(0, _SIZE - 1)
    for index, colour in enumerate(makeTable().tolist()):
        node.SetColor(index, str(index), *colour)
    return scene.AddNode(node)
