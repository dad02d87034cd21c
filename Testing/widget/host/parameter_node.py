"""`slicer.parameterNodeWrapper`: typed attributes that live in a parameter node and follow widgets both ways."""

from __future__ import annotations

import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from . import parameter_types
from .parameter_storage import storageOf
from .parameter_types import Default, findFirstAnnotation, splitAnnotations
from .parameter_widgets import Connector, createConnector
from .qt_module import qt

PROPERTY = "SlicerParameterName"


class _Parameter:
    """One parameter of one node; its value is read again after every change of the node, as Slicer caches it."""

    def __init__(self, storage, default: Default, node: Any, name: str):
        self._storage, self._default, self._node, self._name = storage, default, node, name
        self._writing = False
        self._value = self._fromNode()
        held = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: held() and held()._onModified())

    def __del__(self) -> None:
        self._node.RemoveObserver(self._tag)

    def _onModified(self) -> None:
        if not self._writing:
            self._value = self._fromNode()

    def _fromNode(self) -> Any:
        """The value in the node; a node that lost it (a closed scene empties its singletons) gets the default."""
        if not self._storage.isIn(self._node, self._name):
            self._storage.write(self._node, self._name, self._default.value)
        return self._storage.read(self._node, self._name)

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            with slicer.util.NodeModify(self._node):
                self._storage.write(self._node, self._name, value)
                self._value = self._fromNode()
        finally:
            self._writing = False


class _Wrapper:
    """What the decorator gives a class; Slicer adds the same names."""

    def __init__(self, parameterNode: Any, prefix: str | None = None):
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, Connector], int]] = {}
        self._nextGui, self._updating = 0, False
        self._parameters = {
            name: _Parameter(storageOf(kind), default, parameterNode, f"{prefix or ''}{name}")
            for name, (kind, default) in self.allParameters.items()
        }

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read()

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(value)

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls.allParameters[name][0]

    def default(self, name: str) -> Default:
        return self.allParameters[name][1]

    def isCached(self, name: str) -> bool:
        """All types that are stored here are."""
        return bool(self._parameter(name))

    def connectGui(self, gui: Any) -> int:
        """Connect every widget that has the property SlicerParameterName; returns the tag for disconnectGui.

        Args:
            gui: a widget, or an object with widgets as attributes (slicer.util.childWidgetVariables).
        """
        isWidget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if isWidget else vars(gui).values()
        named = {widget.property(PROPERTY): widget for widget in widgets if widget.property(PROPERTY)}
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, widgets: dict[str, Any]) -> int:
        for name in widgets:
            self._parameter(name)
        connectors = {
            name: widget if isinstance(widget, Connector) else createConnector(widget, self.dataType(name))
            for name, widget in widgets.items()
        }
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._taker(name, connector))
        tag, self._nextGui = self._nextGui, self._nextGui + 1
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._updateGuis())
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def _parameter(self, name: str) -> _Parameter:
        if name not in self._parameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(self._parameters)}")
        return self._parameters[name]

    def _taker(self, name: str, connector: Connector) -> Callable:
        def take() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connector.read())

        return take

    def _updateGuis(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in self._guis.values():
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: each annotated member becomes a parameter of a vtkMRMLScriptedModuleNode."""
    if cls is None:
        return parameterNodeWrapper
    parameters = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        storage = storageOf(kind)
        annotated = findFirstAnnotation(splitAnnotations(kind)[1], Default)
        default = Default(getattr(cls, name)) if hasattr(cls, name) else annotated or Default(storage.default)
        parameters[name] = (kind, default)
    reserved = {name for name in vars(_Wrapper) if not name.startswith("__")} | {"allParameters", "parameterNode"}
    taken = reserved & (set(parameters) | set(vars(cls)))
    if taken:
        raise ValueError(f"Cannot use reserved name {sorted(taken)} in a parameterNodeWrapper")
    for name, value in vars(_Wrapper).items():
        if name == "__init__" or not name.startswith("__"):
            setattr(cls, name, value)
    for name in parameters:
        setattr(cls, name, _attribute(name))
    cls.allParameters, cls._is_parameter_node_wrapper = parameters, True
    return cls


def _attribute(name: str) -> property:
    return property(lambda self: self._parameters[name].read(), lambda self, to: self._parameters[name].write(to))


def isParameterNodeWrapper(classOrObject: Any) -> bool:
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, name: str) -> Any:
    return next((child for child in widget.findChildren(qt.QWidget) if child.property(PROPERTY) == name), None)


def install() -> None:
    """Make `slicer.parameterNodeWrapper` importable."""
    module = types.ModuleType("slicer.parameterNodeWrapper", __doc__)
    for name in parameter_types.__all__:
        setattr(module, name, getattr(parameter_types, name))
    for thing in (parameterNodeWrapper, isParameterNodeWrapper, findChildWidgetForParameter):
        setattr(module, thing.__name__, thing)
    module.SlicerParameterNamePropertyName = PROPERTY
    sys.modules[module.__name__] = slicer.parameterNodeWrapper = module
