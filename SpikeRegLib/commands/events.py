"""What a running command says: a bar for people on stderr, or one JSON object a line for programs on stdout."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from SpikeRegLib import interrupt
from SpikeRegLib.progress import Listener, Progress, silent

_BAR_WIDTH = 24


def emit(event: str, **values: Any) -> None:
    """Print one event as a line of JSON and hand it over at once."""
    print(json.dumps({"event": event, **values}), flush=True)


def listener_for(kind: str) -> Listener:
    """A listener that reports as `--progress` says (bar, json or none) and stops the run after a signal."""
    reports: dict[str, Listener] = {"bar": _Bar(), "json": _JsonLines(), "none": silent}
    report = reports[kind]

    def listener(progress: Progress) -> None:
        interrupt.check()
        report(progress)

    return listener


class _Throttle:
    """Lets through what is new: a change of stage, its end, and else ten reports a second."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0
        self._ended = False

    def passes(self, progress: Progress) -> bool:
        now = time.monotonic()
        ends = progress.fraction >= 1 and not self._ended
        if progress.stage == self._stage and now - self._last < 0.1 and not ends:
            return False
        self._stage, self._last, self._ended = progress.stage, now, progress.fraction >= 1
        return True


class _JsonLines:
    def __init__(self) -> None:
        self._throttle = _Throttle()

    def __call__(self, progress: Progress) -> None:
        if self._throttle.passes(progress):
            fraction = round(progress.fraction, 4)
            emit("progress", stage=progress.stage, fraction=fraction, message=progress.message)


class _Bar:
    """One line a stage, redrawn in place on a terminal, printed once at the stage's end elsewhere."""

    def __init__(self) -> None:
        self._throttle = _Throttle()
        self._stage = ""
        self._began = time.monotonic()
        self._shown = 0

    def __call__(self, progress: Progress) -> None:
        terminal = sys.stderr.isatty()
        if progress.stage != self._stage:
            if self._stage and terminal:
                sys.stderr.write("\n")
            self._stage, self._began, self._shown = progress.stage, time.monotonic(), 0
        if not self._throttle.passes(progress) or not (terminal or progress.fraction >= 1):
            return
        filled = round(_BAR_WIDTH * min(max(progress.fraction, 0.0), 1.0))
        elapsed = time.monotonic() - self._began
        line = f"{progress.stage:<8} [{'=' * filled}{' ' * (_BAR_WIDTH - filled)}] {elapsed:5.1f} s  {progress.message}"
        padding = " " * (self._shown - len(line))
        self._shown = len(line)
        sys.stderr.write(f"\r{line}{padding}" if terminal else f"{line}\n")
        sys.stderr.flush()
        if terminal and progress.stage == "finish" and progress.fraction >= 1:
            sys.stderr.write("\n")
