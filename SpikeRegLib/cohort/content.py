"""What the result of a row depends on, as one digest: equal digests, equal results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from SpikeRegLib.anatomy.model import SHIPPED
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.headers import read_header
from SpikeRegLib.models import find
from SpikeRegLib.options.options import OPTIONS, Options
from SpikeRegLib.outputs.accounts import digest
from SpikeRegLib.pipeline.engine import choices
from SpikeRegLib.pipeline.stage import SOURCES

# What changes how long a run takes and not what comes out.
_NOT_OF_THE_RESULT = ("threads",)
_WEIGHTS = ("network_file", "fine_network_file", "structures_file")
# Formats whose voxels may lie in a second file.
_MAYBE_TWO_FILES = (".hdr", ".img", ".nhdr", ".mhd", ".nrrd", ".mha")


@dataclasses.dataclass(frozen=True)
class Content:
    """What a row's result depends on.

    Attributes:
        digest: SHA-256 of all of it.
        inputs: keyword of `register` -> SHA-256 of the file.
    """

    digest: str
    inputs: dict[str, str]


def content_of(options: Mapping[str, Any], outputs: Collection[str] | None = None) -> Content:
    """The content of a row: its files, options, preset and weights, and which files it is to leave.

    Args:
        options: keywords of `register`, `fixed` and `moving` among them.
        outputs: names of the files that are wanted; None for all.

    Raises:
        InputError: a file that cannot be read, or options that do not go together.
    """
    values = choices(Options.of(**{name: value for name, value in options.items() if name in OPTIONS}))
    values |= {"fixed": options["fixed"], "moving": options["moving"]}
    inputs = {
        name: _file_digest(values[name]) for name in sorted(SOURCES - set(_WEIGHTS)) if values.get(name) is not None
    }
    rest = {
        name: _plain(value) for name, value in values.items() if name not in SOURCES and name not in _NOT_OF_THE_RESULT
    }
    weights = {name: _file_digest(values[name]) for name in _WEIGHTS if values[name] is not None}
    for name in ("model", "preset", "preset.name", "preset.description"):  # what is in them is there already
        rest.pop(name, None)
    whole = {"inputs": inputs, "options": rest, "weights": weights, "outputs": None if outputs is None else [*outputs]}
    text = json.dumps(whole, sort_keys=True, allow_nan=False)
    return Content(hashlib.sha256(text.encode()).hexdigest(), inputs)


def content_of_segmentation(options: Mapping[str, Any]) -> Content:
    """The same of a segmentation; `options` are keywords of `segment`.

    Raises:
        InputError: a file that cannot be read.
    """
    rest = {name: value for name, value in options.items() if name not in ("source", *_NOT_OF_THE_RESULT)}
    inputs = {"source": _file_digest(options["source"])}
    weights = _file_digest(find(str(options.get("model", SHIPPED)), "spikereg"))
    text = json.dumps({"inputs": inputs, "options": rest, "weights": weights}, sort_keys=True, allow_nan=False)
    return Content(hashlib.sha256(text.encode()).hexdigest(), inputs)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _file_digest(path: str | os.PathLike[str]) -> str:
    try:
        status = os.stat(path)
        return _digest_at(os.fspath(path), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise InputError(f"{path}: cannot be read ({reason}); check the path") from error


@lru_cache(maxsize=4096)
def _digest_at(path: str, size: int, changed_ns: int) -> str:
    """Digest of a file as it is at this time; of one whose voxels lie in another file, of both."""
    found = digest(Path(path))
    if Path(path).suffix.lower() not in _MAYBE_TWO_FILES:
        return found
    header = read_header(path)
    if header is None or header.file == Path(path):
        return found
    return hashlib.sha256((found + digest(header.file)).encode()).hexdigest()
