"""What lies on disk of a row: its result, why it failed, how often it was begun."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from SpikeRegLib.outputs.accounts import REGISTRATION, Kind, read_account
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.system.atomic_files import atomic_output

FAILURE = "failed.json"
# Beside the folders of the rows, so that a row that is only begun leaves no folder.
_BEGUN = ".spikereg-begun"


def result_of(folder: Path, kind: Kind = REGISTRATION) -> dict[str, Any] | None:
    """`result.json` of a finished row whose files are all there; what a killed run left is put in order first.

    Args:
        folder: of the row.
        kind: of its run; of a segmentation it is segmentation.json.

    Raises:
        InputError: a killed run's files cannot be put in order.
    """
    if not folder.is_dir():
        return None
    settle(folder)
    table = read_account(folder / kind.account)
    files = None if table is None else table.get("files")
    if not isinstance(files, dict) or not all(os.path.isfile(folder / str(name)) for name in files):
        return None
    return table


def failure_of(folder: Path) -> dict[str, Any] | None:
    """Why the row failed when it was last tried, as `write_failure` wrote it."""
    return read_account(folder / FAILURE)


def write_failure(folder: Path, failure: dict[str, Any]) -> None:
    """Leave the reason of a failure in the row's folder.

    Raises:
        InputError: it cannot be written.
    """
    with suppress(OSError):  # what is wrong is said by the next line
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / FAILURE) as temporary:
        temporary.write_text(json.dumps({"schema": 1, **failure}, indent=2) + "\n", encoding="utf-8")


def clear_failure(folder: Path) -> None:
    """The row is done: an earlier failure counts no more."""
    with suppress(OSError):
        (folder / FAILURE).unlink()


def times_begun(out: Path, identity: str) -> int:
    """How often the row was begun and neither finished nor failed: the process ended in the midst of it."""
    try:
        return (out / _BEGUN / identity).read_bytes().count(b"\n")
    except OSError:
        return 0


@contextmanager
def begun(out: Path, identity: str) -> Iterator[None]:
    """The row is at work: a line with host and process is added, and all taken away at the end, unless by a kill."""
    mark = out / _BEGUN / identity
    with suppress(OSError):  # the mark is a help, and no reason to fail
        mark.parent.mkdir(parents=True, exist_ok=True)
        with mark.open("ab") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}\n".encode())
    try:
        yield
    finally:
        with suppress(OSError):
            mark.unlink()
        with suppress(OSError):  # others are at work
            mark.parent.rmdir()
