"""Notices when the chosen nodes change, since what can be run depends on their content."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from SpikeRegSlicerLib.parameters import inputsOf
from SpikeRegSlicerLib.scene.inputs import Inputs

EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointAddedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
)


class WatchPart(VTKObservationMixin):
    """Observes the inputs that the parameter node names."""

    def __init__(self, _ui: Any, panel: Any) -> None:
        VTKObservationMixin.__init__(self)
        self.panel = panel
        self._watched: list[Any] = []

    def update(self) -> None:
        """Watch the nodes that are chosen now."""
        inputs = inputsOf(self.panel.parameters)
        chosen = [getattr(inputs, item.name) for item in fields(Inputs)]
        wanted = [node for node in dict.fromkeys(chosen) if node is not None]
        if wanted == self._watched:
            return
        self.reset()
        for node in wanted:
            for event in EVENTS:
                self.addObserver(node, event, self._onChanged)
        self._watched = wanted

    def reset(self) -> None:
        """Watch nothing."""
        self.removeObservers()
        self._watched = []

    def _onChanged(self, _caller: Any, _event: Any) -> None:
        self.panel.onInputsChanged()
