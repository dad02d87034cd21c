"""What Slicer's module factory holds of a scripted module: `slicer.modules.<name>` and the `parent` of its class."""

from __future__ import annotations

from typing import Any

import slicer


class qSlicerScriptedLoadableModule:
    def __init__(self, name: str, path: str):
        self.name, self.path = name, path
        self.title, self.helpText, self.acknowledgementText = "", "", ""
        self.categories, self.dependencies, self.contributors = [], [], []
        self.associatedNodeTypes: list[str] = []
        self.icon, self.hidden, self.index = None, False, -1
        self.instance: Any = None
        self.widget: Any = None

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget | None:
        return qSlicerScriptedLoadableModuleWidget(self.widget) if self.widget else None

    def logic(self) -> None:
        """A scripted module has no logic in C++; `slicer.util.getModuleLogic` finds the one of its widget."""


class qSlicerScriptedLoadableModuleWidget:
    def __init__(self, instance: Any):
        self._instance = instance

    def self(self) -> Any:
        """The Python object."""
        return self._instance


slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
slicer.qSlicerScriptedLoadableModuleWidget = qSlicerScriptedLoadableModuleWidget
