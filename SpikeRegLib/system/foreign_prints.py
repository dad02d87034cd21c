"""What ITK and HDF5 print on file descriptor 2, past Python: caught, to be judged, dropped or passed on."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

# What ITK's readers only print when voxels are missing or wrong, before they go on with what they have.
_DAMAGE = ("uncompress failed", "not read completely", "read error", "could only read")
# The descriptor belongs to the whole process: two threads must not swap it at once.
_lock = threading.RLock()


@contextlib.contextmanager
def reading_with_itk() -> Iterator[None]:
    """Around a call that reads a file: one error instead of pages.

    What is printed while the block fails becomes the text of the RuntimeError, which `--debug` shows. A print that
    says that the file was not read whole is an error as well; anything else is passed on to stderr.

    Raises:
        RuntimeError: the block did, or said that what it read is damaged.
    """
    heard: list[str] = []
    try:
        with _caught(heard):
            yield
    except RuntimeError as error:
        if not heard:
            raise
        raise RuntimeError("\n".join([*heard, str(error)])) from error
    text = "".join(heard)
    if any(word in text.lower() for word in _DAMAGE):
        raise RuntimeError(text)
    if text:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stderr.write(text)


@contextlib.contextmanager
def without_foreign_prints() -> Iterator[None]:
    """Around a call that writes a file: HDF5 prints a page about a failure before ITK raises it."""
    with _caught([]):
        yield


@contextlib.contextmanager
def _caught(heard: list[str]) -> Iterator[None]:
    """Put what is printed in the block into `heard`, if it is anything."""
    with _lock, contextlib.ExitStack() as opened:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # absent as under pythonw, or closed
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # a process without a stderr
            yield
            return
        try:
            sink = opened.enter_context(tempfile.TemporaryFile())
        except OSError:  # nowhere to put it
            sink = opened.enter_context(open(os.devnull, "w+b"))
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                sys.stderr.flush()  # what Python printed meanwhile, too
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            if text := sink.read().decode(errors="replace"):
                heard.append(text)
