"""`slicer.app`: what a scripted module asks of Slicer's application object."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import slicer
import slicer_scene
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import dialogs
from .input_output import InputOutputManager
from .properties import expose, exposeStandIn, stored
from .qt_module import qt

_base = expose(QtWidgets.QApplication)


@exposeStandIn(slicer)
class qSlicerModuleManager(qt.QObject):
    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name: str):
        """The loaded module of that name, or None."""
        return getattr(slicer.modules, name.lower(), None)

    def modulesNames(self) -> list[str]:
        return sorted(name for name, value in vars(slicer.modules).items() if hasattr(value, "path"))


@exposeStandIn(slicer)
class qSlicerApplication(_base):
    startupCompleted = Signal()
    lastWindowClosed = Signal()
    slicerHome = stored(str, "slicerHome", "")
    temporaryPath = stored(str, "temporaryPath", "")
    applicationVersion = stored(str, "applicationVersion", "5.12.0-2026-01-01")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    revision = stored(str, "revision", "00000")
    documentationBaseUrl = stored(str, "documentationBaseUrl", "https://slicer.readthedocs.io/en/5.12/")

    def __init__(self, folder: Path):
        super().__init__([sys.argv[0]])
        self._folder, self._testing = folder, False
        self._manager, self._files = qSlicerModuleManager(), InputOutputManager()
        for name in ("home", "temporary"):
            (folder / name).mkdir()
        self.slicerHome, self.temporaryPath = str(folder / "home"), str(folder / "temporary")
        _writeLauncher(folder / "home" / "bin" / "PythonSlicer")
        self._settings = qt.QSettings(str(folder / "Slicer.ini"), qt.QSettings.IniFormat)

    def moduleManager(self):
        return self._manager

    def ioManager(self):
        return self._files

    coreIOManager = ioManager

    def mrmlScene(self):
        return slicer.mrmlScene

    def applicationLogic(self):
        return slicer_scene.boot().logic

    def layoutManager(self):
        """There are no views, as when Slicer runs without its main window."""

    def userSettings(self):
        return self._settings

    settings = revisionUserSettings = userSettings

    def testingEnabled(self) -> bool:
        return self._testing

    def setTesting(self, enabled: bool) -> None:
        """As started with --testing or not; a switch of this stand-in."""
        self._testing = enabled

    def translate(self, context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def pauseRender(self) -> None:
        pass

    resumeRender = pauseRender

    def restart(self) -> None:
        dialogs.tell("restart", "")


def _writeLauncher(path: Path) -> None:
    """PythonSlicer: here with the Python of the tests; on the PATH as Slicer has it.

    As Slicer's it is a launcher: the Python is its child, outlives it, and one that a signal ends comes back as code 1.
    """
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\ncode=$?\n[ $code -lt 128 ] || code=1\nexit $code\n')
    path.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([str(path.parent), os.environ.get("PATH", "")])


def makeApplication() -> qSlicerApplication:
    """The application object; its folders are removed by `removeFolders`."""
    folder = Path(tempfile.mkdtemp(prefix="spikereg-host-"))
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(folder))
    QtCore.QCoreApplication.setApplicationName("Slicer")
    QtCore.QCoreApplication.setOrganizationName("NA-MIC")
    return qSlicerApplication(folder)


def removeFolders(application: qSlicerApplication) -> None:
    shutil.rmtree(application._folder, ignore_errors=True)


def recordWindows() -> None:
    """Let the windows of `slicer.util` be recorded and answered instead of shown."""
    util = slicer.util
    for kind in ("info", "warning", "error"):
        setattr(util, f"{kind}Display", _teller(kind))
    for name in ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay"):
        setattr(util, name, lambda text, windowTitle=None, parent=None, **_: dialogs.ask("confirm", text, windowTitle))
    util.messageBox = lambda text, parent=None, **keywords: dialogs.ask("dialog", text, keywords.get("windowTitle"))
    util.delayDisplay = lambda message, *_, **__: (dialogs.tell("delay", message), slicer.app.processEvents())[0]
    util.showStatusMessage = lambda message, duration=0: dialogs.tell("status", message)
    util.selectModule = lambda module: dialogs.tell("module", getattr(module, "name", module))


def _teller(kind: str):
    def tell(text, windowTitle=None, parent=None, standardButtons=None, **keywords):
        dialogs.tell(kind, text, windowTitle, keywords.get("detailedText", ""))

    return tell
