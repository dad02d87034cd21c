"""A folder of what a long run has finished, each piece known by all that it was made from: a later run takes it over.

Pieces are arrays and numbers, never code. A piece that was cut short or damaged counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.system.atomic_files import atomic_output

_PIECE = re.compile(r"[0-9a-f]{24}\.npz")
_FACTS = "facts"

Piece = dict[str, Any]


def key_of(*parts: Any) -> str:
    """What tells pieces apart: a digest of all that one is made from, in plain JSON types."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Working:
    """The folder.

    Args:
        folder: made if it is not there.

    Raises:
        InputError: it is a link or a file, holds something else, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._alone = not folder.parent.exists()
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{folder}: is no folder of an earlier run; move it elsewhere or choose another folder")
        if folder.is_dir():
            for path in folder.iterdir():
                # Hidden files are pieces that a killed run was just writing.
                if not _PIECE.fullmatch(path.name) and not path.name.startswith(".spikereg-"):
                    raise InputError(f"{path}: was not written by a run like this; move it elsewhere")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error

    def recall(self, key: str, make: Callable[[], Piece]) -> Piece:
        """The piece of this key, made only where it is not there: arrays by name, and `facts` of plain JSON types."""
        path = self.folder / f"{key}.npz"
        found = _read(path)
        if found is None:
            found = make()
            arrays: dict[str, Any] = {name: value for name, value in found.items() if name != _FACTS}
            arrays[_FACTS] = np.frombuffer(json.dumps(found.get(_FACTS, {})).encode(), np.uint8)
            with atomic_output(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)
        return found

    def leave(self) -> None:
        """After a run that did not end well: what is finished stays; where nothing is, no folder stays either."""
        with suppress(OSError):
            self.folder.rmdir()
            if self._alone:
                self.folder.parent.rmdir()

    def remove(self) -> None:
        """Remove the folder and all pieces in it."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if _PIECE.fullmatch(path.name) or path.name.startswith(".spikereg-"):
                    path.unlink()
            self.folder.rmdir()


def _read(path: Path) -> Piece | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found: Piece = {name: archive[name] for name in archive.files}
        found[_FACTS] = json.loads(bytes(found[_FACTS]).decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, UnicodeDecodeError):
        return None
    return found
