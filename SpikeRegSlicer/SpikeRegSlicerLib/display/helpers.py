"""Nodes that are in the scene only while something is shown, taken out again with all that they brought along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def removeNodes(scene: Any, nodes: Iterable[Any]) -> None:
    """Take these nodes out of a scene, as far as they are still there, in this order, with their display nodes."""
    for node in nodes:
        for part in _withDisplay(node):
            if scene.IsNodePresent(part):
                scene.RemoveNode(part)


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
