"""The end of Qt objects made in Python, as PythonQt has it: with their last reference, in whatever they are just doing.

PythonQt deletes such an object at once, also inside one of its own signals, and Qt goes on to use what is no more: a
crash, or memory of somebody else's. `deleteLater` comes too late for that. PySide6 and Qt 6 mostly forgive it. Here it
is an error that a test sees: after each slot it is asked whether anybody but this host still refers to the sender.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter

import shiboken6
from PySide6.QtCore import QObject, QTimer


class DroppedInItsSignal(RuntimeError):
    """The last reference to a Qt object went inside one of its own signals, where PythonQt would delete it."""


_inside: Counter[int] = Counter()  # slots of each sender that are on the stack
_dropped: dict[int, QObject] = {}  # kept until their signals have returned


def deleteLater(instance: QObject) -> None:
    """Delete an object from the event loop if it is still there; PySide6 would keep what Python owns until then."""
    if not shiboken6.ownedByPython(instance):
        QObject.deleteLater(instance)
        return
    held, goesFirst = weakref.ref(instance), QObject()

    def delete(*_: object) -> None:
        still = held()
        if still is not None and shiboken6.isValid(still):
            shiboken6.delete(still)

    goesFirst.destroyed.connect(delete)
    goesFirst.deleteLater()


def enter(sender: QObject) -> None:
    """A slot of this sender is about to be called."""
    _inside[id(sender)] += 1


def leave(sender: QObject, signal: str) -> DroppedInItsSignal | None:
    """The slot has returned; what to complain of where PythonQt would have deleted the sender by now.

    Args:
        sender: the caller holds exactly one reference to it, in a variable, as does every slot's that is on the stack.
        signal: its name.
    """
    key = id(sender)
    depth = _inside[key]
    _inside[key] -= 1
    if not _inside[key]:
        del _inside[key]
    if key in _dropped or not shiboken6.isValid(sender) or not shiboken6.ownedByPython(sender):
        return None
    if sys.getrefcount(sender) - _OWN_REFERENCES > depth:
        return None
    _dropped[key] = sender
    QTimer.singleShot(0, lambda: _dropped.pop(key, None))
    return DroppedInItsSignal(
        f"the last reference to a {type(sender).__name__} went inside its own signal {signal}: PythonQt deletes it "
        "there, and Slicer crashes; keep it in an attribute and let go of it in qt.QTimer.singleShot(0, ...)"
    )


def _ownReferences() -> int:
    """How many references `leave` counts besides those in variables of its callers."""

    def caller(count: int) -> int:
        held = object()
        return called(held, count)

    def called(held: object, count: int) -> int:
        return sys.getrefcount(held) - count

    return caller(1)


_OWN_REFERENCES = _ownReferences()
