"""A host for Slicer's scripted modules without Slicer: PySide6 as PythonQt, and the real MRML scene of slicer-core.

    from host import start, loadModule
    app = start()
    module, widget = loadModule("SpikeRegSlicer/SpikeRegSlicer.py")
    widget.ui.applyButton.click()

Windows are recorded and answered through `host.dialogs`; what slots raise is kept in `host.signals.errors`.
"""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from . import dialogs, gestures, signals
from .start import closeModule, loadModule, start

__all__ = ["closeModule", "dialogs", "gestures", "loadModule", "signals", "start"]
