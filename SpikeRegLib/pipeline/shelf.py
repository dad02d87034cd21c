"""What was made of single images, kept beyond their pair: a cohort meets each of its images more than once."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

# Of one worker: about seven whole heads with what the network of structures says of them.
DEFAULT_BYTES = 1 << 30


class Shelf:
    """Parts of runs that depend on one image alone, whichever side of the pair it was on; the oldest go first.

    Args:
        most_bytes: of all tensors that are kept.
    """

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._entries: OrderedDict[int, tuple[Any, Any, int]] = OrderedDict()
        self._bytes = 0
        self._numbers = count()

    def find(self, identity: Any) -> Any | None:
        """The part of this identity, or None."""
        for number, (known, value, _) in self._entries.items():
            if known == identity:
                self._entries.move_to_end(number)
                return value
        return None

    def put(self, identity: Any, value: Any) -> None:
        """Keep a part; it is never changed afterwards. One that is larger than the shelf is not kept."""
        size = bytes_of(value)
        if size > self.most_bytes:
            return
        self._entries[next(self._numbers)] = (identity, value, size)
        self._bytes += size
        while self._bytes > self.most_bytes:
            _, (_, _, gone) = self._entries.popitem(last=False)
            self._bytes -= gone

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0


def bytes_of(value: Any, seen: set[int] | None = None) -> int:
    """Bytes of the tensors in a value, in dataclasses, mappings and sequences of them; each storage once."""
    seen = set() if seen is None else seen
    if hasattr(value, "untyped_storage"):  # a tensor; torch itself is not needed here
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return int(storage.nbytes())
    parts: Iterable[Any] = ()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    return sum(bytes_of(part, seen) for part in parts)
