"""Which widget shows which type of parameter, and how: the pairs that Slicer's wrapper knows, and no others.

Slicer asks for the exact class of the widget, so a subclass (or a QPlainTextEdit for a text) is not connected.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject

from . import parameter_types as annotation
from .node_selectors import qMRMLNodeComboBox
from .qt_module import qt
from .widgets_ctk import ctk
from .widgets_mrml import qMRMLSliderWidget, qMRMLSpinBox

_FLOATS = (
    qt.QDoubleSpinBox,
    ctk.ctkSliderWidget,
    qMRMLSliderWidget,
    ctk.ctkDoubleSpinBox,
    qMRMLSpinBox,
)
_SLIDERS = (qt.QSlider, ctk.ctkSliderWidget, qMRMLSliderWidget)


class Connector:
    """Reads a value from a widget, writes it to the widget, and tells of changes."""

    def __init__(self, widget: QObject, signal: str | None, read: Callable, write: Callable):
        self.widget, self.read, self.write = widget, read, write
        self._signal, self._slot = signal, None

    def onChanged(self, slot: Callable | None) -> None:
        """Call `slot()` after each change; None ends that."""
        if self._signal is None:
            return
        signal = getattr(self.widget, self._signal)
        if self._slot is not None:
            signal.disconnect(self._slot)
        self._slot = slot
        if slot is not None:
            signal.connect(slot)


def createConnector(widget: QObject, kind: Any) -> Connector:
    """The connector of a widget for a possibly annotated type.

    Raises:
        RuntimeError: Slicer connects no such widget to such a type.
    """
    bare, annotations = annotation.splitAnnotations(kind)
    cls = type(widget)
    if bare is bool and cls in (qt.QCheckBox, ctk.ctkCheckBox):
        return _property(widget, "checked", "stateChanged")
    if bare is bool and cls in (qt.QPushButton, ctk.ctkCheckablePushButton):
        widget.checkable = True
        return _property(widget, "checked", "toggled")
    if bare is int and cls in (qt.QSlider, qt.QSpinBox):
        _limit(widget, annotations, -(2**31), 2**31 - 1)
        return _property(widget, "value", "valueChanged")
    if bare in (int, float) and cls in _FLOATS:
        widget.decimals = 0 if bare is int else _valueOf(annotations, annotation.Decimals, widget.decimals)
        _limit(widget, annotations, float("-inf"), float("inf"))
        return _property(widget, "value", "valueChanged", bare)
    if cls in (qt.QComboBox, ctk.ctkComboBox):
        return _comboBox(widget, bare, annotations)
    if bare is str and cls is qt.QLineEdit:
        return _property(widget, "text", "textChanged")
    if bare is str and cls is qt.QLabel:
        return _property(widget, "text", None)
    if bare is str and cls is qt.QTextEdit:
        return Connector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if isinstance(bare, type) and issubclass(bare, pathlib.PurePath):
        if cls is ctk.ctkPathLineEdit:
            return _property(widget, "currentPath", "currentPathChanged", bare, str)
        if cls is ctk.ctkDirectoryButton:
            return _property(widget, "directory", "directoryChanged", bare, str)
    if cls is qMRMLNodeComboBox and annotation.nodeClasses(bare):
        widget.nodeTypes = [nodeClass.__name__ for nodeClass in annotation.nodeClasses(bare)]
        return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls}'")


def _property(
    widget: QObject, name: str, signal: str | None, to: Callable | None = None, out: Callable | None = None
) -> Connector:
    def read() -> Any:
        value = getattr(widget, name)
        return to(value) if to else value

    def write(value: Any) -> None:
        value = out(value) if out else value
        if getattr(widget, name) != value:
            setattr(widget, name, value)

    return Connector(widget, signal, read, write)


def _comboBox(widget: QObject, bare: Any, annotations: tuple) -> Connector:
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        values = list(bare)
        label = getattr(bare, "label", lambda one: one.name)
    else:
        choice = annotation.findFirstAnnotation(annotations, annotation.Choice)
        if bare not in (int, float, str, bool) or choice is None:
            raise RuntimeError(f"a combo box shows an enum, or a number or text with Choice, not {bare}")
        values, label = list(choice.choices), str
    widget.clear()
    for value in values:
        widget.addItem(label(value))

    def write(value: Any) -> None:
        widget.currentIndex = values.index(value)

    return Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _limit(widget: QObject, annotations: tuple, lowest: float, highest: float) -> None:
    within = annotation.findFirstAnnotation(annotations, annotation.WithinRange)
    minimum = annotation.findFirstAnnotation(annotations, annotation.Minimum) or within
    maximum = annotation.findFirstAnnotation(annotations, annotation.Maximum) or within
    if type(widget) in _SLIDERS and not (minimum and maximum):
        raise RuntimeError(f"{type(widget).__name__} {widget.objectName}: a slider needs a type with both limits")
    step = annotation.findFirstAnnotation(annotations, annotation.SingleStep)
    if step is not None:
        widget.singleStep = step.value
    widget.setMinimum(minimum.minimum if minimum else lowest)
    widget.setMaximum(maximum.maximum if maximum else highest)


def _valueOf(annotations: tuple, kind: type, otherwise: Any) -> Any:
    found = annotation.findFirstAnnotation(annotations, kind)
    return otherwise if found is None else found.value
