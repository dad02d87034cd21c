"""Standard streams that are closed, full or without a reader: what cannot be said there costs no result."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def hold() -> None:
    """Let streams that are closed lead nowhere, so that no file that this process opens takes their place."""
    for name, number in _NUMBERS.items():
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:  # closed before Python began, or without a console
            setattr(sys, name, open(os.devnull, _MODES[name], encoding="utf-8"))  # noqa: SIM115 (until the end)


def say(text: str) -> None:
    """Print a line on stdout; the first time that this fails, one on stderr says so, and the rest goes nowhere."""
    problem = _written(sys.stdout, f"{text}\n")
    if problem:
        drop("stdout")
        say_error(f"spikereg: stdout cannot be written ({problem}); the run goes on without it")


def say_error(text: str, *, end: str = "\n") -> None:
    """Print on stderr; what cannot be written there is lost."""
    if _written(sys.stderr, f"{text}{end}"):
        drop("stderr")


def drop(name: str) -> None:
    """Let a stream lead nowhere from now on, also what is still in its buffer."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, getattr(sys, name).fileno())
        os.close(nowhere)


def _written(stream: TextIO | None, text: str) -> str:
    """Why a text could not be written; empty where it was, or where there is no stream."""
    if stream is None:
        return ""
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a name in letters that the console does not have
            stream.write(text.encode("ascii", "backslashreplace").decode())
        stream.flush()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # closed by this process
        return str(error)
    return ""
