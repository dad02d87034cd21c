"""What a running command says: a bar for people on stderr, or one JSON object a line for programs on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from SpikeRegLib.commands.streams import say, say_error
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.system import interrupt

_BAR_WIDTH = 24


def emit(event: str, **values: Any) -> None:
    """Print one event as a line of JSON and hand it over at once; a run goes on where nobody can read it."""
    say(json.dumps({"event": event, **values}))


def listener_for(kind: str) -> Listener:
    """A listener that reports as `--progress` says (bar, json or none) and stops the run after a signal."""
    reports: dict[str, Listener] = {"bar": _Bar(), "json": JsonLines(), "none": silent}
    report = reports[kind]

    def listener(progress: Progress) -> None:
        interrupt.check()
        report(progress)

    return listener


class _Throttle:
    """Lets through what is new: a change of stage, its end, what is read, and else ten reports a second."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0
        self._ended = False

    def passes(self, progress: Progress) -> bool:
        now = time.monotonic()
        ends = progress.fraction >= 1 and not self._ended
        always = ends or progress.stage == "prepare"  # few, and they name the file that a crash may be due to
        if progress.stage == self._stage and now - self._last < 0.1 and not always:
            return False
        self._stage, self._last, self._ended = progress.stage, now, progress.fraction >= 1
        return True


class JsonLines:
    """A listener that hands on what is new as progress events.

    Args:
        emit: writes one event; by default a line on stdout.
    """

    def __init__(self, emit: Callable[..., None] = emit) -> None:
        self._emit = emit
        self._throttle = _Throttle()

    def __call__(self, progress: Progress) -> None:
        if self._throttle.passes(progress):
            fraction = round(progress.fraction, 4)
            self._emit("progress", stage=progress.stage, fraction=fraction, message=progress.message)


class _Bar:
    """One line a stage with its last message: redrawn in place on a terminal, printed at the stage's end elsewhere."""

    def __init__(self) -> None:
        self._throttle = _Throttle()
        self._stage = ""
        self._message = ""
        self._line = ""
        self._began = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            if self._stage:
                self._draw(1.0)
            self._end_line()
            self._stage, self._message, self._began = progress.stage, "", time.monotonic()
        self._message = progress.message or self._message
        if self._throttle.passes(progress):
            self._draw(progress.fraction)
        if progress.stage == "finish" and progress.fraction >= 1:
            self._end_line()

    def _draw(self, fraction: float) -> None:
        filled = round(_BAR_WIDTH * min(max(fraction, 0.0), 1.0))
        bar = "=" * filled + " " * (_BAR_WIDTH - filled)
        line = f"{self._stage:<8} [{bar}] {time.monotonic() - self._began:5.1f} s  {self._message}".rstrip()
        if _on_terminal():
            say_error(f"\r{line:<{len(self._line)}}", end="")
        self._line = line

    def _end_line(self) -> None:
        if self._line:
            say_error("" if _on_terminal() else self._line)
        self._line = ""


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
