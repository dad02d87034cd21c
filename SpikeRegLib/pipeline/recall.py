"""What a process keeps of the last run, so that the next one starts from the first stage that a change concerns."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from SpikeRegLib.pipeline.shelf import Shelf

Value = TypeVar("Value")

# Formats whose voxels lie in a second file beside the header, and formats whose header may say so.
_HEADERS = (".nhdr", ".mhd", ".hdr", ".img")
_MAYBE_HEADERS = (".nrrd", ".mha")
_LONGEST_HEADER = 1 << 14


@dataclass(frozen=True)
class _Part:
    key: Any
    after: tuple[str, ...]
    value: Any
    identity: Any


class Memory:
    """The parts of one run: what was read and what each stage found.

    A part is taken from here if its key is what it was and nothing it was made from has been made anew; what it holds
    is then bit for bit what making it would give. Parts are never changed once they are made.

    Args:
        shelf: keeps parts of single images for later pairs, too; None for this pair's alone.

    Attributes:
        reused: parts taken from here since `begin`, in order.
    """

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._parts: dict[str, _Part] = {}
        self._shelf = shelf
        self.reused: list[str] = []

    def begin(self, parts: Collection[str] | None = None) -> None:
        """A new run, of these parts; what is known of others is forgotten."""
        self.reused = []
        for other in [] if parts is None else [name for name in self._parts if name not in parts]:
            self._forget(other)

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        if self._shelf is not None:
            self._shelf.clear()

    def recall(
        self, name: str, make: Callable[[], Value], *, key: Any = (), after: tuple[str, ...] = (), side: str = ""
    ) -> Value:
        """The part `name`, made by `make` where it is not known.

        Args:
            name: of the part.
            make: makes it; what it raises leaves the part unknown.
            key: everything that it depends on besides other parts; compared by ==.
            after: the parts that it is made from, recalled before.
            side: "fixed" or "moving" where it depends on that image alone, and would be the same on the other side.
        """
        known = self._parts.get(name)
        if known is not None and (known.key, known.after) == (key, after):
            if known.value is not None:  # what was not given was not reused either
                self.reused.append(name)
            return known.value
        self._forget(name)  # first, so that old and new are never held together
        identity = _of_either_side(name, key, side), tuple(self._parts[other].identity for other in after)
        shelf = self._shelf if side else None
        value = None if shelf is None else shelf.find(identity)
        if value is not None:
            self.reused.append(name)
        else:
            value = make()
            if shelf is not None and value is not None:
                shelf.put(identity, value)
        self._parts[name] = _Part(key, after, value, identity)
        return value

    def _forget(self, name: str) -> None:
        self._parts.pop(name, None)
        for other in [other for other, part in self._parts.items() if name in part.after]:
            self._forget(other)


def _of_either_side(name: str, key: Any, side: str) -> Any:
    """Name and settings of a part as they are on either side of the pair."""
    if not side:
        return name, key
    settings = {word.replace(side, "side"): value for word, value in key.items()} if isinstance(key, dict) else key
    return name.replace(side, "side"), settings


def file_key(source: Any) -> Any:
    """What a source is known by: path, size and time of change (ns) of a file; None for None.

    Anything else (a volume in memory, a file that is missing or whose voxels lie in another one) has a key that equals
    no other.
    """
    if source is None:
        return None
    try:
        status = os.stat(source)
        if not _holds_all(Path(source)):
            return object()
    except (TypeError, OSError, ValueError):
        return object()
    return os.fspath(source), status.st_size, status.st_mtime_ns


def _holds_all(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind not in _MAYBE_HEADERS:
        return kind not in _HEADERS
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER).lower().replace(b" ", b"")
    return b"datafile:" not in head and (b"elementdatafile=" not in head or b"elementdatafile=local" in head)
