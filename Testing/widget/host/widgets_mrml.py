"""Slicer's own widgets (`slicer.qMRML...`) apart from the node selectors: stand-ins on the real MRML scene."""

from __future__ import annotations

import slicer
from PySide6.QtCore import Signal

from .properties import exposeStandIn, native, stored
from .qt_module import qt
from .widgets_ctk import ctk


class _OnScene:
    """Holds a scene: `setMRMLScene`, `mrmlScene`."""

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        native(self, "mrmlSceneChanged").emit(scene)

    def mrmlScene(self):
        return self.__dict__.get("_scene")


@exposeStandIn(slicer)
class qMRMLWidget(_OnScene, qt.QWidget):
    mrmlSceneChanged = Signal(object)


@exposeStandIn(slicer)
class qSlicerWidget(_OnScene, qt.QWidget):
    mrmlSceneChanged = Signal(object)


@exposeStandIn(slicer)
class qMRMLSliderWidget(_OnScene, ctk.ctkSliderWidget):
    mrmlSceneChanged = Signal(object)
    quantity = stored(str, "quantity", "")
    unitAwareProperties = stored("QVariant", "unitAwareProperties", None)


@exposeStandIn(slicer)
class qMRMLSpinBox(_OnScene, ctk.ctkDoubleSpinBox):
    mrmlSceneChanged = Signal(object)
    quantity = stored(str, "quantity", "")
