"""How a running registration reports where it is and how it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """One report: `stage` is prepare, align, predict, refine or finish; `fraction` of that stage in [0, 1]."""

    stage: str
    fraction: float
    message: str = ""


# A listener is called at least every 0.2 s of work. To stop the run it raises `errors.Cancelled`.
Listener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A listener that ignores every report."""


def part_of_stage(listener: Listener, begin: float, end: float) -> Listener:
    """A listener that hears the fractions 0..1 of a part of a stage as `begin`..`end` of the whole."""

    def heard(progress: Progress) -> None:
        listener(replace(progress, fraction=begin + (end - begin) * progress.fraction))

    return heard
