"""How a running registration reports where it is and how it is told to stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One report: `stage` is prepare, align, predict, refine or finish; `fraction` of that stage in [0, 1]."""

    stage: str
    fraction: float
    message: str = ""


# A listener is called at least every 0.2 s of work. To stop the run it raises `errors.Cancelled`.
Listener = Callable[[Progress], None]

# What knows neither stage nor message calls a tick as often, with the finished fraction of its own work in [0, 1].
Tick = Callable[[float], None]


def silent(progress: Progress) -> None:
    """A listener that ignores every report."""


def unheard(fraction: float) -> None:
    """A tick that nobody hears."""


def part_of_stage(listener: Listener, begin: float, end: float) -> Listener:
    """A listener that hears the fractions 0..1 of a part of a stage as `begin`..`end` of the whole."""

    def heard(progress: Progress) -> None:
        listener(replace(progress, fraction=begin + (end - begin) * progress.fraction))

    return heard


def tell_reading(listener: Listener, *sources: Any, fraction: float = 0.0) -> None:
    """Report the files that are read next: should reading end the process, its last report names them.

    Args:
        listener: hears it.
        sources: paths; of anything else nothing is read.
        fraction: of the stage prepare.
    """
    names = [os.fspath(source) for source in sources if isinstance(source, (str, os.PathLike))]
    if names:
        listener(Progress("prepare", fraction, f"reading {', '.join(names)}"))


class Clock:
    """Tells of the start and the end of every step and keeps its wall and CPU seconds.

    Args:
        listener: hears it.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._wall: dict[str, float] = {}
        self._cpu: dict[str, float] = {}

    def begin(self, step: str) -> None:
        self.listener(Progress(step, 0.0))
        self._wall[step], self._cpu[step] = -time.perf_counter(), -time.process_time()

    def end(self, step: str) -> None:
        self._wall[step] += time.perf_counter()
        self._cpu[step] += time.process_time()
        self.listener(Progress(step, 1.0))

    def times(self) -> dict[str, dict[str, float]]:
        """`timing_s` and `cpu_s` of result.json."""
        timing = {**self._wall, "total": sum(self._wall.values())}
        return {"timing_s": timing, "cpu_s": {**self._cpu, "process": time.process_time()}}
