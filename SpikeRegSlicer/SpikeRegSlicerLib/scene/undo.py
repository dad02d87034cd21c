"""The transforms a node held before: going back after a run that wrote over an earlier result."""

from __future__ import annotations

from typing import NamedTuple

import slicer
import vtk

from . import hierarchy, transforms


class _State(NamedTuple):
    transform: vtk.vtkAbstractTransform | None
    parent: str | None
    attributes: dict[str, str]


class History:
    """Previous transforms of transform nodes, the last few of each; in memory only.

    Args:
        depth: how many steps to keep per node; each holds a copy of a displacement field.
    """

    def __init__(self, depth: int = 5) -> None:
        self.depth = depth
        self._states: dict[str, list[_State]] = {}

    def remember(self, transformNode) -> None:
        """Keep a copy of what the node holds now, before a result is loaded into it."""
        source = transformNode.GetTransformFromParent()
        copy = None
        if source is not None:
            linear = vtk.vtkTransform()
            copy = vtk.vtkGeneralTransform()
            if slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(source, linear):
                copy = linear
            else:
                # DeepCopy of VTK's general and grid transforms shares the displacements; this one does not.
                slicer.vtkMRMLTransformNode.DeepCopyTransform(copy, source)
        names = [name for name in transformNode.GetAttributeNames() if name.startswith("SpikeReg.")]
        attributes = {name: transformNode.GetAttribute(name) for name in names if not _ofFolder(name)}
        states = self._states.setdefault(transformNode.GetID(), [])
        states.append(_State(copy, transformNode.GetTransformNodeID(), attributes))
        del states[: -self.depth]

    def canUndo(self, transformNode) -> bool:
        """Whether there is an earlier transform of this node."""
        return transformNode is not None and bool(self._states.get(transformNode.GetID()))

    def undo(self, transformNode) -> bool:
        """Give the node the transform it held before, with its review; False where there is none.

        The node keeps its ID, its name, and its place in the subject hierarchy.
        """
        if not self.canUndo(transformNode):
            return False
        state = self._states[transformNode.GetID()].pop()
        for name in transformNode.GetAttributeNames():
            if name.startswith("SpikeReg.") and not _ofFolder(name):
                transformNode.RemoveAttribute(name)
        for name, value in state.attributes.items():
            transformNode.SetAttribute(name, value)
        transformNode.SetAndObserveTransformNodeID(state.parent)
        transformNode.SetAndObserveTransformFromParent(state.transform)
        transforms.updateInverse(transformNode)
        return True

    def clear(self) -> None:
        """Forget everything, as when the scene is closed."""
        self._states.clear()


def _ofFolder(name: str) -> bool:
    return name in (hierarchy.RUN, hierarchy.ROLE, hierarchy.KEPT)
