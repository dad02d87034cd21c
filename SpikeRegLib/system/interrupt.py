"""Ctrl-C and SIGTERM stop a run once, and never while its finished results are being put in place."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from SpikeRegLib.errors import Cancelled

_state = {"asked": False, "raised": False, "committed": False, "late": False}


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state["committed"] or _state["raised"]:
        _state["late"] = True
        return  # the results are complete, or the clean-up after the signal is under way
    _state["asked"] = True
    if not _inside_itk(frame):
        _state["raised"] = True
        raise KeyboardInterrupt  # not an Exception, so that no `except Exception` on the way can swallow it


def _inside_itk(frame: FrameType | None) -> bool:
    """Whether SimpleITK is at work: it prints and drops what is raised inside it, so the next `check` stops the run."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("SimpleITK"):
            return True
        frame = frame.f_back
    return False


def watch_signals() -> None:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt in the main thread."""
    begin()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _on_signal)
        signal.signal(signal.SIGTERM, _on_signal)


def begin() -> None:
    """A new run in this process: nobody asked it to stop, and it has put no results in place."""
    _state.update(asked=False, raised=False, committed=False, late=False)


def begin_next() -> None:
    """One more run of several in this process; a signal that came while the last one ended stops this one.

    Raises:
        Cancelled: there was one.
    """
    late = _state["late"]
    check()
    begin()
    if late:
        ask()
        check()


def ask() -> None:
    """Ask the run under way to stop, from any thread: its next `check` or `commit` raises Cancelled."""
    _state["asked"] = True


def cancelled() -> bool:
    """Whether this run was asked to stop, also when the exception a signal raised was lost inside foreign code."""
    return _state["asked"]


def committed() -> bool:
    """Whether this run put its results in place."""
    return _state["committed"]


def check() -> None:
    """Raise Cancelled if a signal or `ask` told this run to stop."""
    if _state["asked"]:
        _state["raised"] = True
        raise Cancelled("cancelled before any result was written")


def commit() -> None:
    """From here on the run counts as done: what follows is short and must not be left half done."""
    check()
    _state["committed"] = True
