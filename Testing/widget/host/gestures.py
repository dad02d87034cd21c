"""What a person does with the panel, and how it looks, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import slicer
from PySide6 import QtWidgets

WAIT_SECONDS = 120


def waitUntil(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Let the application work until the condition holds.

    Raises:
        TimeoutError: it does not within that time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} did not hold within {seconds} s")
        slicer.app.processEvents()
        time.sleep(0.005)


def chooseNode(selector, node) -> None:
    """Pick a node (None: the entry for none) from the list of a qMRMLNodeComboBox, as with the mouse."""
    texts = [text for text, offered in selector._entries() if offered is node]
    if not texts:
        raise ValueError(f"{selector.objectName} does not offer {node.GetName() if node else None}")
    selector._onActivated([offered for _, offered in selector._entries()].index(node))


def chooseText(combo, text: str) -> None:
    """Pick an entry of a QComboBox."""
    index = combo.findText(text)
    if index < 0:
        raise ValueError(f"{combo.objectName} does not offer {text}")
    combo.currentIndex = index
    combo.activated.emit(index)


def picture(widget, path: str | Path, width: int = 480) -> Path:
    """Save how the widget looks at this width (pixels) and at the height that it asks for."""
    widget = widget.parent if not isinstance(widget, QtWidgets.QWidget) else widget
    QtWidgets.QWidget.resize(widget, width, 100)
    QtWidgets.QWidget.show(widget)
    slicer.app.processEvents()
    height = max(QtWidgets.QWidget.sizeHint(widget).height(), QtWidgets.QWidget.minimumSizeHint(widget).height())
    QtWidgets.QWidget.resize(widget, width, height)
    slicer.app.processEvents()
    QtWidgets.QWidget.grab(widget).save(str(path))
    return Path(path)
