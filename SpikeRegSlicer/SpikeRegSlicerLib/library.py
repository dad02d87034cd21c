"""Where the bundled library SpikeRegLib lies, where a Python that can run it is, and whether PyTorch is there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import slicer
from slicer.i18n import tr as _

LIBRARY = "SpikeRegLib"


def libraryFolder() -> str:
    """The folder that holds the package SpikeRegLib: the module's own when installed, its parent in a source tree.

    Raises:
        FileNotFoundError: neither holds it.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for candidate in (folder, os.path.dirname(folder)):
        if os.path.isfile(os.path.join(candidate, LIBRARY, "__init__.py")):
            return candidate
    raise FileNotFoundError(
        _("{library} was not found beside {folder}; install the extension SpikeReg again").format(
            library=LIBRARY, folder=folder
        )
    )


def makeImportable() -> None:
    """Let this process import the parts of the library that need no PyTorch."""
    if importlib.util.find_spec(LIBRARY) is None:
        sys.path.append(libraryFolder())


def torchIsInstalled() -> bool:
    """Whether PyTorch can be imported; it is not imported to find out."""
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):  # a half removed installation
        return False


def pythonProgram() -> str:
    """The Python that runs the library: Slicer's own launcher, or this interpreter outside Slicer."""
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    home = getattr(slicer.app, "slicerHome", "")
    inHome = os.path.join(home, "bin", name) if home else ""
    return inHome if os.path.isfile(inHome) else shutil.which(name) or sys.executable
