"""`qt.QUiLoader`: reads a Designer file into stand-ins; a widget class nobody stands for is an error."""

from __future__ import annotations

from xml.etree import ElementTree

import slicer
from PySide6 import QtCore, QtUiTools, QtWidgets

from . import signals
from .properties import exposeStandIn
from .qt_module import qt
from .widgets_ctk import ctk


class _Loader(QtUiTools.QUiLoader):
    def __init__(self):
        super().__init__()
        self.made: list = []

    def createWidget(self, className: str, parent=None, name: str = ""):
        for module in (ctk, slicer, qt):
            if isinstance(getattr(module, className, None), type):
                widget = getattr(module, className)(parent)
                QtCore.QObject.setObjectName(widget, name)
                self.made.append(widget)
                return widget
        raise RuntimeError(f"the .ui file asks for {className}, which neither qt, ctk nor slicer has here")

    def createLayout(self, className: str, parent=None, name: str = ""):
        layout = getattr(qt, className)(parent) if isinstance(parent, QtWidgets.QWidget) else getattr(qt, className)()
        QtCore.QObject.setObjectName(layout, name)
        self.made.append(layout)
        return layout


@exposeStandIn(qt)
class QUiLoader(qt.QObject):
    def load(self, file, parent=None):
        """The top widget of the file (an open QFile or a path)."""
        path = file.fileName() if isinstance(file, QtCore.QFile) else str(file)
        if isinstance(file, QtCore.QFile):
            file.close()
        document = ElementTree.parse(path).getroot()
        mrml = [one for one in document.iter("connection") if "vtkMRML" in one.findtext("signal", "")]
        for section in document.iter("connections"):
            for connection in mrml:  # these carry VTK objects, of which Qt knows nothing here
                section.remove(connection)
        loader, buffer = _Loader(), QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(document))
        loader.setWorkingDirectory(QtCore.QFileInfo(path).dir())
        widget = loader.load(buffer, parent)
        widget._made = loader.made  # PySide6 would drop the Python half of what only its C++ parent refers to
        for connection in mrml:
            _connectMrml(widget, *(connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")))
        return widget


def _connectMrml(top, sender: str, signal: str, receiver: str, slot: str) -> None:
    source, target = (_named(top, name) for name in (sender, receiver))
    bound = signals.fromSignature(source, signal)
    if bound is None:
        raise RuntimeError(f"the .ui file connects {sender}.{signal}, which does not exist")
    bound.connect(getattr(target, slot.partition("(")[0]))


def _named(top, name: str):
    found = [top] if QtCore.QObject.objectName(top) == name else qt.QWidget.findChildren(top, qt.QWidget, name)
    if not found:
        raise RuntimeError(f"the .ui file connects {name}, which does not exist")
    return found[0]
