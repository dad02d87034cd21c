"""The table of a cohort: one registration a row, from CSV or TSV; checked whole before any work."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.options.option import Option
from SpikeRegLib.options.options import OPTIONS, Options
from SpikeRegLib.text.names import check_name
from SpikeRegLib.text.ranges import whole

_NEEDED = ("id", "fixed", "moving")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_BY_KEY: dict[str, Option] = {option.key: option for option in OPTIONS.values()}
# Names that Windows keeps for devices, whatever follows a point.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


REGISTER, SEGMENT = "register", "segment"


@dataclass(frozen=True)
class Row:
    """One piece of work of a cohort: a registration, or the segmentation of one image.

    Attributes:
        id: names its folder.
        options: keywords of `register`, the images among them, or of `segment`, with the image as `source`; files as
            absolute paths.
        what: REGISTER or SEGMENT.
    """

    id: str
    options: Mapping[str, Any]
    what: str = REGISTER


def read_manifest(path: str | Path, common: Mapping[str, Any] | None = None) -> list[Row]:
    """The rows of a table with the columns id, fixed, moving, and any option of `register` by its name.

    Paths are relative to the folder of the table. An empty cell leaves an option as `common` has it. Whether a file
    exists is found out when its row is done.

    Args:
        path: CSV, or TSV where the first line has a tab; UTF-8.
        common: keywords of `register` for every row.

    Raises:
        InputError: names the file, and the row where there is one.
    """
    path = Path(path)
    head, cells = _read(path)
    _check_head(path, head)
    rows, seen = [], dict[str, int]()
    for line, values in cells:
        where = f"{path}, line {line}"
        if len(values) != len(head):
            raise InputError(
                f"{where}: {len(values)} cells under {len(head)} columns; put commas in quotes, or add one"
            )
        row = _row(where, dict(zip(head, (value.strip() for value in values), strict=True)), path.parent, common or {})
        other = seen.setdefault(row.id.casefold(), line)
        if other != line:
            raise InputError(f"{where}: id {row.id} is that of line {other}, too; give every row its own")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no rows below the column names; add one registration a line")
    return rows


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and the other lines with their numbers; empty lines are left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; save the table as CSV in UTF-8") from error
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a line of CSV ({error}); check its quotes") from error
    if not lines:
        raise InputError(f"{path}: is empty; its first line names the columns {', '.join(_NEEDED)}")
    return [name.strip() for name in lines[0][1]], lines[1:]


def _check_head(path: Path, head: Sequence[str]) -> None:
    for name in _NEEDED:
        if name not in head:
            raise InputError(f"{path}: no column {name}; the first line names {', '.join(_NEEDED)}, and options")
    for name in head:
        if head.count(name) > 1:
            raise InputError(f"{path}: two columns {name!r}; leave one out")
        if name not in _NEEDED and name not in _BY_KEY:
            raise InputError(f"{path}: unknown column {name!r}; known are {', '.join((*_NEEDED, *_BY_KEY))}")


def _row(where: str, cells: Mapping[str, str], folder: Path, common: Mapping[str, Any]) -> Row:
    identity = cells["id"]
    try:
        check_name("id", identity)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if identity.casefold().partition(".")[0] in _DEVICES or identity.casefold().startswith("summary."):
        raise InputError(f"{where}: id {identity} cannot name a folder there; give another one")
    if identity[0] in "=+-@":
        raise InputError(f"{where}: id {identity} would be a formula in a spreadsheet; begin it with a letter or digit")
    options: dict[str, Any] = dict(common)
    for name in ("fixed", "moving"):
        if not cells[name]:
            raise InputError(f"{where}: no {name} image; every row needs two")
        options[name] = str((folder / cells[name]).absolute())
    for key, text in cells.items():
        if text and key in _BY_KEY:
            options[_BY_KEY[key].name] = _value(where, _BY_KEY[key], text, folder)
    try:
        Options.of(**{name: value for name, value in options.items() if name in OPTIONS})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for kind in ("labels", "points"):
        if (options.get(f"fixed_{kind}") is None) != (options.get(f"moving_{kind}") is None):
            keys = [OPTIONS[f"{side}_{kind}"].key for side in ("fixed", "moving")]
            raise InputError(f"{where}: {' and '.join(keys)} go together; give both or neither")
    return Row(identity, options)


def _value(where: str, option: Option, text: str, folder: Path) -> Any:
    """What a cell says.

    Raises:
        InputError: it is no value of this option.
    """
    if option.kind == "switch":
        if text.casefold() not in (*_YES, *_NO):
            raise InputError(f"{where}: {option.key} is {text!r}; give true or false")
        return text.casefold() in _YES
    if option.kind == "number":
        assert option.limits is not None
        try:
            return int(text) if whole(option.limits) else float(text)
        except ValueError as error:
            raise InputError(f"{where}: {option.key} is {text!r}; give a number") from error
    if option.choices and text not in option.choices:
        raise InputError(f"{where}: {option.key} is {text!r}; choose one of {', '.join(option.choices)}")
    names_a_file = option.kind == "file" or (option.key in ("preset", "model") and Path(text).suffix)
    return str((folder / text).absolute()) if names_a_file else text
