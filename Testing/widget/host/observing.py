"""VTK observers of widgets, which end with the widget: Qt deletes widgets while Python still holds their other half."""

from __future__ import annotations

import weakref
from typing import Any

import shiboken6
import vtk
from PySide6.QtCore import QObject

from .properties import native


class Observation:
    """Calls a method of a widget for events of a VTK object until the widget is deleted or `end` is called."""

    def __init__(self, widget: QObject, subject: Any, methods: dict[Any, str], withNode: dict[Any, str] | None = None):
        """Observe.

        Args:
            widget: has the methods.
            subject: a VTK object.
            methods: event -> name of a method without parameters.
            withNode: event -> name of a method that takes the node which the event carries.
        """
        self._subject, held = subject, weakref.ref(widget)
        self._tags = [self._observe(held, event, name, False) for event, name in methods.items()]
        self._tags += [self._observe(held, event, name, True) for event, name in (withNode or {}).items()]
        native(widget, "destroyed").connect(lambda *_: self.end())

    def end(self) -> None:
        for tag in self._tags:
            self._subject.RemoveObserver(tag)
        # The widget's signal keeps this object, and must not keep a node that left the scene, with its voxels.
        self._subject, self._tags = None, []

    def _observe(self, held: weakref.ref, event: Any, name: str, takesNode: bool) -> int:
        def call(caller: Any, event: str, *data: Any) -> None:
            widget = held()
            if widget is None or not shiboken6.isValid(widget):
                self.end()
            else:
                native(widget, name)(*data)

        if takesNode:
            call.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        return self._subject.AddObserver(event, call)
