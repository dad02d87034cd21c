"""Signals as PythonQt hands them out: `connect` and `disconnect` answer True or False, a slot's error is not lost.

PythonQt calls a Python slot with as many of the signal's values as it has positional parameters, defaulted ones
included, and prints what it raises. Here that error is also kept in `errors`, so that a test can fail on it; another
is a sender whose last reference goes in its own signal: see `lifetime`.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from PySide6.QtCore import QByteArray, QMetaMethod, QMetaObject, QObject, SignalInstance

from . import lifetime

errors: list[BaseException] = []

_native = QObject.__getattribute__  # signals and their names are the same on every class
# Qt 5, on which Slicer stands, declares a shorter overload first than Qt 6 here.
_VALUES_BY_NAME = {("QProcess", "finished"): 1}
_connections: dict[int, list[tuple[str, Callable, Callable, SignalInstance]]] = {}


class BoundSignal:
    """One signal of one object."""

    def __init__(self, sender: QObject, name: str, instance: SignalInstance, types: str | None = None):
        self._sender, self._name = sender, name
        self._count = (
            _VALUES_BY_NAME.get((sender.metaObject().className(), name)) if types is None else len(_split(types))
        )
        types = types or _firstDeclared(sender, name)
        try:
            self._instance = instance[types] if types else instance
        except (KeyError, IndexError):  # PySide6 offers no choice where there is only one overload
            self._instance = instance

    def connect(self, slot: Callable) -> bool:
        if isinstance(slot, BoundSignal):
            slot = slot.emit
        if not callable(slot):
            raise TypeError(f"{self._name}.connect needs something to call, not {slot!r}")
        wrapped = _caller(slot, self._count, self._sender, self._name)
        self._instance.connect(wrapped)
        _connectionsOf(self._sender).append((self._name, slot, wrapped, self._instance))
        return True

    def disconnect(self, slot: Callable | None = None) -> bool:
        """Undo the connections to `slot`, or all that Python made; False when there was none."""
        kept, undone = [], []
        for connection in _connectionsOf(self._sender):
            same = connection[0] == self._name and (slot is None or connection[1] == slot)
            (undone if same else kept).append(connection)
        _connectionsOf(self._sender)[:] = kept
        for _, _, wrapped, instance in undone:
            instance.disconnect(wrapped)
        return bool(undone)

    def emit(self, *values: Any) -> None:
        self._instance.emit(*values)

    __call__ = emit

    def __repr__(self) -> str:
        return f"<qt signal {self._name} of {type(self._sender).__name__}>"


def fromSignature(sender: QObject, signature: str) -> BoundSignal | None:
    """The signal named as in `connect("clicked(bool)", slot)`; None where the object has no such signal."""
    name, parenthesis, types = signature.strip().rstrip(")").partition("(")
    if not parenthesis:
        raise ValueError(f'{signature!r}: PythonQt needs the signature, such as "{name}()"')
    arguments = _split(types)
    try:
        instance = _native(sender, name)
    except AttributeError:
        return None
    if not isinstance(instance, SignalInstance) or not _declares(sender.metaObject(), name, arguments):
        return None
    return BoundSignal(sender, name, instance, types.replace(" ", ""))


def keep(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an error as Slicer does, and keep it; fit for sys.excepthook, where VTK and Qt report theirs."""
    errors.append(error)
    sys.__excepthook__(kind, error, traceback)


def _split(types: str) -> list[str]:
    return [one.strip() for one in types.split(",") if one.strip()]


def _signals(meta: QMetaObject, name: str) -> list[QMetaMethod]:
    """The overloads of a signal as declared; one with a defaulted value comes before its short form."""
    methods = [meta.method(index) for index in range(meta.methodCount())]
    return [one for one in methods if one.methodType() is QMetaMethod.Signal and _text(one.name()) == name]


def _firstDeclared(sender: QObject, name: str) -> str:
    """The types of the overload that PythonQt takes when only the name is given."""
    found = _signals(sender.metaObject(), name)
    return ",".join(_text(kind) for kind in found[0].parameterTypes()) if found else ""


def _text(array: QByteArray) -> str:
    return bytes(array.data()).decode()


def _declares(meta: QMetaObject, name: str, arguments: list[str]) -> bool:
    if meta.indexOfSignal(f"{name}({','.join(arguments)})") >= 0:
        return True
    # A signal of a stand-in carries VTK objects, which PySide6 declares as PyObject.
    return any(
        len(method.parameterTypes()) == len(arguments)
        and all(
            _text(kind) in ("PyObject", given.removesuffix("&"))
            for kind, given in zip(method.parameterTypes(), arguments, strict=True)
        )
        for method in _signals(meta, name)
    )


def _connectionsOf(sender: QObject) -> list:
    key = id(sender)
    if key not in _connections:
        _connections[key] = []
        _native(sender, "destroyed").connect(lambda *_: _connections.pop(key, None))
    return _connections[key]


def _caller(slot: Callable, count: int | None, owner: QObject, signal: str) -> Callable:
    limit, held = _positionalCount(slot), weakref.ref(owner)

    def call(*values: Any) -> None:
        taken = values if count is None else values[:count]
        sender = held()
        if sender is not None:
            lifetime.enter(sender)
        try:
            slot(*(taken if limit is None else taken[:limit]))
        except Exception as error:
            keep(type(error), error, error.__traceback__)
        dropped = lifetime.leave(sender, signal) if sender is not None else None
        if dropped is not None:
            keep(type(dropped), dropped, None)

    return call


def _positionalCount(slot: Callable) -> int | None:
    """How many values the slot takes; None for all of them. A Qt method takes what its shortest form needs: none."""
    if not inspect.isfunction(slot) and not inspect.ismethod(slot):
        return 0 if inspect.isbuiltin(slot) and isinstance(getattr(slot, "__self__", None), QObject) else None
    parameters = inspect.signature(slot).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )
