"""Attributes of Qt objects as PythonQt has them, on Python subclasses of the PySide6 classes.

- A Qt property is an attribute: `button.text`, `button.text = "Run"`; `button.text()` calls a str, hence fails.
- A list of texts is read as a tuple, as PythonQt converts it.
- A new attribute on a C++ object is refused; on an object of a Python class derived from one it is allowed.
- Dynamic properties read and write like attributes once `setProperty` made them; `name` is `objectName`.
- `connect("clicked(bool)", f)` and `clicked.connect(f)` both work; `exec` is spelt `exec_`.
- What Qt has deleted raises ValueError; what only Python holds is deleted with its last reference: see `lifetime`.
- A child is an attribute of its parent under its object name.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import shiboken6
from PySide6.QtCore import Property, QObject, SignalInstance

from . import lifetime, signals


def native(instance: QObject, name: str) -> Any:
    """Attribute access as PySide6 has it; stand-ins use it where they need the method behind a property."""
    return super(PythonQtObject, instance).__getattribute__(name)


_OWN = ("property", "setProperty", "metaObject")


class QtMeta(type(QObject)):
    """Metaclass of exposed classes: no keywords in constructors, `isinstance` by the C++ class."""

    def __call__(cls, *args: Any, **keywords: Any):
        if keywords and isExposed(cls):
            raise TypeError(f"{cls.__name__}: PythonQt's constructors take no keyword arguments: {sorted(keywords)}")
        return super().__call__(*args, **keywords)

    def __instancecheck__(cls, instance: Any) -> bool:
        return (
            isinstance(instance, cls.__dict__["_native"]) if isExposed(cls) else type.__instancecheck__(cls, instance)
        )


def isExposed(cls: type) -> bool:
    """Whether the class stands for a C++ class (and not for a Python class derived from one)."""
    return "_native" in cls.__dict__


class PythonQtObject:
    """Mixed into every QObject class of the modules `qt`, `ctk` and `slicer`."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in _OWN:
            return native(self, name)
        _refuseDestroyed(self, name)
        name = "objectName" if name == "name" else name
        if name == "exec":
            raise AttributeError("PythonQt spells it exec_")
        if name in ("connect", "disconnect"):  # PySide6 looks these two up in a way of its own
            return partial(_connect if name == "connect" else _disconnect, self)
        if isQtProperty(self, name) and (id(self), name) not in _reading:
            value = _read(self, name)
            return tuple(value) if isinstance(value, list) else value
        try:
            value = native(self, name)
        except AttributeError:
            return _dynamicPropertyOrChild(self, name)
        return signals.BoundSignal(self, name, value) if isinstance(value, SignalInstance) else value

    def __setattr__(self, name: str, value: Any) -> None:
        _refuseDestroyed(self, name)
        name = "objectName" if name == "name" else name
        if name.startswith("_"):
            if isExposed(type(self)) and not _isHostClass(type(self)):
                raise AttributeError(_refusal(self, name))
            super().__setattr__(name, value)
        elif isQtProperty(self, name):
            _writeProperty(self, name, value)
        elif name in _dynamicNames(self):
            QObject.setProperty(self, name, value)
        elif isExposed(type(self)):
            raise AttributeError(_refusal(self, name))
        else:
            super().__setattr__(name, value)

    def className(self) -> str:
        return next(cls.__name__ for cls in type(self).__mro__ if isExposed(cls))

    def deleteLater(self) -> None:
        lifetime.deleteLater(self)

    def findChildren(self, kind: type = QObject, name: str = "") -> list[QObject]:
        kind = kind.__dict__.get("_native", kind)
        found = QObject.findChildren(self, QObject)
        return [child for child in found if isinstance(child, kind) and (not name or QObject.objectName(child) == name)]

    def findChild(self, kind: type = QObject, name: str = "") -> QObject | None:
        return next(iter(PythonQtObject.findChildren(self, kind, name)), None)


def expose(cls: type, name: str | None = None, module: str = "qt") -> type:
    """The class as PythonQt shows it; a stand-in written in Python is its own C++ class."""
    meta = cls.staticMetaObject  # asked now: PySide6 invalidates it together with an instance that was asked for it
    properties = frozenset(meta.property(index).name() for index in range(meta.propertyCount()))
    members = {"_native": cls, "_properties": properties, "__module__": module}
    return QtMeta(name or cls.__name__, (PythonQtObject, cls), members)


def exposeStandIn(module: Any):
    """Decorator: put a stand-in, a Python class derived from an exposed one, into `module` as if it were C++.

    Every property that the class declares gets its setter (`setText` for `text`), as C++ has it.
    """

    def wrap(cls: type) -> type:
        declared = [name for name, value in vars(cls).items() if isinstance(value, Property)]
        cls._properties = cls._properties | set(declared)
        for name in declared:
            setter = f"set{name[0].upper()}{name[1:]}"
            if not hasattr(cls, setter):
                setattr(cls, setter, lambda self, value, name=name: setattr(self, name, value))
        cls._native = cls
        cls._hostClass = True
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)
        return cls

    return wrap


_reading: set[tuple[int, str]] = set()


def _read(instance: QObject, name: str) -> Any:
    """A property's value. Reading one may end here again: C++ looks for a Python `minimumSizeHint` to call instead."""
    _reading.add((id(instance), name))
    try:
        return QObject.property(instance, name)
    finally:
        _reading.discard((id(instance), name))


def isQtProperty(instance: QObject, name: str) -> bool:
    return name in type(instance)._properties


def stored(kind: Any, key: str, default: Any, changed: str | None = None, after: str | None = None) -> Property:
    """A Qt property that is kept in the Python object.

    Args:
        kind: type or name of the C++ type.
        key: where it is kept (`_key`).
        default: value before it is first written.
        changed: name of the signal sent with a new value.
        after: name of the method called after a new value was stored.
    """

    def read(self: QObject) -> Any:
        return self.__dict__.get("_" + key, default)

    def write(self: QObject, value: Any) -> None:
        if read(self) != value:
            self.__dict__["_" + key] = value
            if after:
                native(self, after)()
            if changed:
                native(self, changed).emit(value)

    return Property(kind, read, write)


def _refuseDestroyed(instance: QObject, name: str) -> None:
    if not shiboken6.isValid(instance):
        raise ValueError(f"Trying to use '{name}' of a destroyed {type(instance).__name__} object")


def _isHostClass(cls: type) -> bool:
    return "_hostClass" in cls.__dict__


def _connect(instance: QObject, *arguments: Any) -> Any:
    if not _isSignature(arguments):  # PySide6's own SignalInstance.connect ends here
        return native(instance, "connect")(*arguments)
    return _signal(instance, arguments[0]).connect(arguments[-1])


def _disconnect(instance: QObject, *arguments: Any) -> Any:
    if not _isSignature(arguments):
        return native(instance, "disconnect")(*arguments)
    return _signal(instance, arguments[0]).disconnect(*arguments[1:])


def _isSignature(arguments: tuple) -> bool:
    return bool(arguments) and isinstance(arguments[0], str) and arguments[0][:1].isalpha()


def _signal(instance: QObject, signature: str) -> signals.BoundSignal:
    found = signals.fromSignature(instance, signature)
    if found is None:  # PythonQt prints a warning and answers False; nobody reads that, so it is an error here
        raise ValueError(f"{type(instance).__name__} has no signal {signature}")
    return found


def _writeProperty(instance: QObject, name: str, value: Any) -> None:
    meta = QObject.metaObject(instance)
    known = meta.property(meta.indexOfProperty(name))
    if not known.isWritable():
        raise AttributeError(f"Property '{name}' of {type(instance).__name__} object is not writable")
    if not QObject.setProperty(instance, name, list(value) if isinstance(value, tuple) else value):
        kind = known.typeName()
        raise AttributeError(f"Property '{name}' of type '{kind}' does not accept an object of type {type(value)}")


def _dynamicNames(instance: QObject) -> list[str]:
    return [bytes(name.data()).decode() for name in QObject.dynamicPropertyNames(instance)]


def _dynamicPropertyOrChild(instance: QObject, name: str) -> Any:
    if name in _dynamicNames(instance):
        return QObject.property(instance, name)
    for child in QObject.children(instance):
        if QObject.objectName(child) == name:
            return child
    raise AttributeError(f"{type(instance).__name__} has no attribute named '{name}'")


def _refusal(instance: QObject, name: str) -> str:
    kind = type(instance).__name__
    return f"'{name}' does not exist on {kind} and creating new attributes on C++ objects is not allowed"
