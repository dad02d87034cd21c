"""How a running registration reports where it is and how it is told to stop."""

from __future__ import annotations

import os
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
