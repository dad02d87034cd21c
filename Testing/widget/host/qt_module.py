"""The module `qt`: PySide6's classes with PythonQt's attributes, and no window that waits for a person."""

from __future__ import annotations

import sys
import types

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets

from . import dialogs
from .properties import expose, exposeStandIn

qt = types.ModuleType("qt", __doc__)
sys.modules["qt"] = qt
for _source in (QtCore, QtGui, QtNetwork, QtWidgets):
    for _name in dir(_source):
        _class = getattr(_source, _name)
        if _name.startswith("Q"):
            _isObject = isinstance(_class, type) and issubclass(_class, QtCore.QObject)
            setattr(qt, _name, expose(_class) if _isObject else _class)
qt.Signal, qt.Slot, qt.Property = QtCore.Signal, QtCore.Slot, QtCore.Property


def execDialog(self) -> int:
    """Recorded and answered with the next `dialog` answer, Accepted (1) or Rejected (0)."""
    return int(dialogs.ask("dialog", self.windowTitle or type(self).__name__, type(self).__name__))


@exposeStandIn(qt)
class QDialog(qt.QDialog):
    exec_ = execDialog


@exposeStandIn(qt)
class QMenu(qt.QMenu):
    def exec_(self, *_):
        """The action whose text is the next `menu` answer; None for ""."""
        wanted = dialogs.ask("menu", ", ".join(action.text for action in self.actions()))
        return next((action for action in self.actions() if action.text == wanted), None)


@exposeStandIn(qt)
class QMessageBox(qt.QMessageBox):
    def exec_(self) -> int:
        return int(dialogs.ask("dialog", self.text, self.windowTitle))

    @staticmethod
    def information(parent, title, text, *_):
        dialogs.tell("info", text, title)

    @staticmethod
    def warning(parent, title, text, *_):
        dialogs.tell("warning", text, title)

    @staticmethod
    def critical(parent, title, text, *_):
        dialogs.tell("error", text, title)

    @staticmethod
    def question(parent, title, text, *_):
        confirmed = dialogs.ask("confirm", text, title)
        return QtWidgets.QMessageBox.Yes if confirmed else QtWidgets.QMessageBox.No


def _askForFile(parent=None, title="", directory="", filters="", *_) -> str:
    """PythonQt returns the path alone (PySide6 a pair)."""
    return dialogs.ask("file", f"{directory} {filters}".strip(), title)


@exposeStandIn(qt)
class QFileDialog(qt.QFileDialog):
    exec_ = execDialog
    getOpenFileName = getSaveFileName = staticmethod(_askForFile)
    getExistingDirectory = getOpenFileNames = staticmethod(_askForFile)


def _askForText(parent, title, label, *_):
    """PythonQt returns the value alone (PySide6 a pair)."""
    return dialogs.ask("text", label, title)


@exposeStandIn(qt)
class QInputDialog(qt.QInputDialog):
    exec_ = execDialog
    getText = getMultiLineText = getInt = getDouble = getItem = staticmethod(_askForText)


class QDesktopServices:
    """Stands for QDesktopServices: the address is recorded."""

    @staticmethod
    def openUrl(url) -> bool:
        dialogs.tell("url", url.toString())
        return True


qt.QDesktopServices = QDesktopServices


@exposeStandIn(qt)
class QEventLoop(qt.QEventLoop):
    def exec_(self, *flags) -> int:
        return QtCore.QEventLoop.exec(self, *flags)
