"""Slicer's own widgets (`slicer.qMRML...`) apart from the node selectors: stand-ins on the real MRML scene."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtWidgets
from PySide6.QtCore import Signal

from .observing import Observation
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


@exposeStandIn(slicer)
class qMRMLTableView(qt.QTableWidget):
    """Shows a table node and follows it."""

    def setMRMLScene(self, scene) -> None:
        self._scene = scene

    def mrmlTableNode(self):
        return self.__dict__.get("_table")

    def setMRMLTableNode(self, node) -> None:
        if self.__dict__.get("_observation"):
            self._observation.end()
        self._table = node
        self._observation = Observation(self, node, {vtk.vtkCommand.ModifiedEvent: "_fill"}) if node else None
        self._fill()

    def _fill(self) -> None:
        widget, node = QtWidgets.QTableWidget, self.mrmlTableNode()
        columns = node.GetNumberOfColumns() if node else 0
        rows = node.GetNumberOfRows() if node else 0
        widget.setColumnCount(self, columns)
        widget.setRowCount(self, rows)
        widget.setHorizontalHeaderLabels(self, [node.GetColumnName(column) for column in range(columns)])
        for row in range(rows):
            for column in range(columns):
                widget.setItem(self, row, column, QtWidgets.QTableWidgetItem(node.GetCellText(row, column)))
