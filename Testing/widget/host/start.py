"""Start the host, load a scripted module as Slicer does, unload it."""

from __future__ import annotations

import atexit
import importlib
import sys
import types
from pathlib import Path

import slicer
import slicer_scene
from PySide6 import QtCore

_application = None


def start():
    """The one application of this process (`slicer.app`), with `qt`, `ctk` and Slicer's Python modules importable."""
    global _application
    if _application is None:
        slicer_scene.boot()
        from . import (  # noqa: F401
            application,
            checkable_selector,
            loaded_module,
            parameter_node,
            scripted_module,
            services,
            ui_loader,
            widgets_mrml,
        )

        _application = slicer.app = application.makeApplication()
        atexit.register(application.removeFolders, _application)
        application.recordWindows()
        services.install()
        parameter_node.install()
    return _application


def loadModule(path: str | Path) -> tuple[types.ModuleType, object]:
    """Load a scripted module and open its panel, in Slicer's order.

    Import; `<Name>(parent)`, `slicer.modules.<name>` and `startupCompleted`; then `<Name>Widget(parent)`, `setup()`
    and `enter()`. The instance of `<Name>` is `slicer.modules.<Name>Instance`.

    Returns:
        The Python module and the instance of `<Name>Widget`.
    """
    application, path = start(), Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.import_module(name)
    description = slicer.qSlicerScriptedLoadableModule(name, str(path))
    setattr(slicer.modules, name.lower(), description)
    description.instance = getattr(module, name)(description)
    setattr(slicer.modules, f"{name}Instance", description.instance)
    application.moduleManager().moduleLoaded.emit(name)
    application.startupCompleted.emit()
    application.startupCompleted.disconnect()
    return module, makeWidget(module, name)


def makeWidget(module: types.ModuleType, name: str):
    """Another panel of a loaded module: constructor, `setup()`, `enter()`."""
    from .scripted_module import makeParent

    widget = getattr(module, f"{name}Widget")(makeParent())
    setattr(slicer.modules, f"{name}Widget", widget)
    slicer.app.moduleManager().module(name).widget = widget
    widget.setup()
    if hasattr(widget, "enter"):
        widget.enter()
    return widget


def closeModule(widget) -> None:
    """Leave the panel and unload the module: `exit()`, `cleanup()`, then the panel is deleted."""
    if hasattr(widget, "exit"):
        widget.exit()
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(widget.moduleName)
    widget.parent.deleteLater()
    slicer.app.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
    slicer.app.processEvents()
