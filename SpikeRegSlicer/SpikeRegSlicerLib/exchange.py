"""The temporary folder through which files go to the worker and come back; gone when nobody needs it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from typing import Any

import slicer
from slicer.i18n import tr as _

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Exchange:
    """A folder in Slicer's temporary folder: `inputs`, whose unchanged files stay, and one folder for each run.

    Args:
        parent: to make it in instead; default: Slicer's temporary folder.
    """

    def __init__(self, parent: str | None = None) -> None:
        self.parent = parent
        self._folder = ""
        self._remove: Any = None

    def inputsFolder(self) -> str:
        """Where the nodes are written for the worker.

        Raises:
            OSError: it cannot be made.
        """
        folder = os.path.join(self._session(), "inputs")
        os.makedirs(folder, exist_ok=True)
        return folder

    def newFolder(self) -> str:
        """A new folder for one run.

        Raises:
            OSError: it cannot be made.
        """
        return tempfile.mkdtemp(prefix="run-", dir=self._session())

    def close(self) -> None:
        """Remove everything; it is made anew when it is needed again."""
        if self._remove is not None:
            self._remove()
            self._remove, self._folder = None, ""

    def explain(self, error: OSError) -> str:
        """Why the folder cannot be written, and what to do."""
        folder = self._folder or self._parent()
        if error.errno in _NO_SPACE:
            return _(
                "The disk of the temporary folder {folder} is full. Free some space, or choose another temporary "
                "folder in Edit / Application Settings / General, and run again."
            ).format(folder=folder)
        return _(
            "The temporary folder {folder} cannot be written ({reason}). Choose another one in Edit / Application "
            "Settings / General, and run again."
        ).format(folder=folder, reason=error.strerror or error)

    def _parent(self) -> str:
        return self.parent or slicer.app.temporaryPath

    def _session(self) -> str:
        if not self._folder or not os.path.isdir(self._folder):
            os.makedirs(self._parent(), exist_ok=True)
            self._folder = tempfile.mkdtemp(prefix="SpikeReg-", dir=self._parent())
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
