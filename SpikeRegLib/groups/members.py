"""The images of a group and what each is called: checked before any work, without torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.accounts import digest
from SpikeRegLib.text.names import check_name

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
_LONGEST_LIST = 1 << 20


def members_of(images: Sequence[Path], listed: Path | None, *, least: int, what: str) -> dict[str, Path]:
    """Name -> file of every image given, in their order.

    Args:
        images: files; each is called by its file's name without the suffix.
        listed: a text file with one image a line, or a table with the columns `id,image`; None for none. Paths in it
            are relative to it.
        least: how many are needed.
        what: one of them, for messages.

    Raises:
        InputError: too few, a name that is given twice or is no name, a missing file, or a list that cannot be read.
    """
    found: dict[str, Path] = {}
    rows = [(_name_of(path), path, str(path)) for path in images]
    if listed is not None:
        rows += _rows(listed)
    for name, path, where in rows:
        try:
            check_name("id", name)
        except ValueError as error:
            raise InputError(f"{where}: {error}; give it another one in the list") from error
        if name.casefold() in {other.casefold() for other in found}:
            raise InputError(f"{where}: a second {what} is called {name}; give every one its own id with --images")
        if not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
        found[name] = path
    if len(found) < least:
        raise InputError(f"{what}s: {len(found)} given and {least} needed; give more of them")
    return found


def digests_of(members: Mapping[str, Path]) -> dict[str, str]:
    """Name -> SHA-256 of every file.

    Raises:
        InputError: two files hold the same, or one cannot be read.
    """
    found: dict[str, str] = {}
    for name, path in members.items():
        try:
            content = digest(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        for other, earlier in found.items():
            if earlier == content:
                raise InputError(f"{path}: the same image as {members[other]}, which would count twice; give it once")
        found[name] = content
    return found


def _name_of(path: Path) -> str:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def _rows(listed: Path) -> list[tuple[str, Path, str]]:
    try:
        if listed.stat().st_size > _LONGEST_LIST:
            raise InputError(f"{listed}: too long for a list of images; give a text file with one image a line")
        text = listed.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{listed}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{listed}: is no text; give a text file with one image a line, or id,image") from error
    found = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or (number == 1 and cells == ["id", "image"]):
            continue
        where = f"{listed}: line {number}"
        if len(cells) > 2 or not cells[-1] or "\0" in cells[-1]:
            raise InputError(f"{where}: is no image and no id,image; write one image a line")
        path = listed.parent / cells[-1]
        found.append((cells[0] if len(cells) == 2 else _name_of(path), path, where))
    return found
