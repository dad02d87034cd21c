"""Notices when the chosen nodes change, since what can be run depends on their content."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from SpikeRegSlicerLib.parameters import inputsOf
from SpikeRegSlicerLib.widgets.part import Part

EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointAddedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
)


class WatchPart(Part):
    """Observes the volumes and other inputs that the parameter node names."""

    def setUp(self) -> None:
        self._watched: list[Any] = []

    def update(self) -> None:
        """Watch the nodes that are chosen now."""
        chosen = (*inputsOf(self.parameters).nodes, self.parameters.structuresVolume)
        wanted = [node for node in dict.fromkeys(chosen) if node is not None]
        if wanted == self._watched:
            return
        self.cleanUp()
        for node in wanted:
            for event in EVENTS:
                self.addObserver(node, event, self._onChanged)
        self._watched = wanted

    def cleanUp(self) -> None:
        """Watch nothing."""
        super().cleanUp()
        self._watched = []

    def _onChanged(self, _caller: Any, _event: Any) -> None:
        self.panel.onInputsChanged()
