"""From the worker's stages to one percentage and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from slicer.i18n import tr as _

REGISTRATION = {"start": 0.10, "prepare": 0.05, "align": 0.30, "predict": 0.15, "refine": 0.20, "finish": 0.20}
"""Share of each stage in the time of a registration, as the presets spend it on one core."""
SEGMENTATION = {"start": 0.25, "prepare": 0.05, "read": 0.50, "finish": 0.20}
"""The same of a search for structures."""
FIRST_ESTIMATE_S = 1.5
FIRST_ESTIMATE_SHARE = 0.12


class Progress:
    """Where a run stands.

    Args:
        shares: stage -> its share in the time of such a run, in their order.
        clock: seconds.
    """

    def __init__(self, shares: dict[str, float] = REGISTRATION, clock: Callable[[], float] = time.monotonic) -> None:
        self._shares = shares
        self._clock = clock
        self._began = clock()
        self._done = 0.0
        self.stage = "start"
        self.message = ""

    def report(self, stage: str, fraction: float, message: str) -> None:
        """Take in an event: `fraction` of `stage`, 0..1. What is done never becomes less."""
        if stage not in self._shares:
            return
        self.stage, self.message = stage, message
        order = list(self._shares)
        before = sum(self._shares[name] for name in order[: order.index(stage)])
        self._done = max(self._done, before + self._shares[stage] * min(max(fraction, 0.0), 1.0))

    @property
    def percent(self) -> int:
        """Of the whole run, 0..100."""
        return round(100 * self._done)

    @property
    def secondsLeft(self) -> float | None:
        """At the pace so far; None while that says little."""
        elapsed = self._clock() - self._began
        if elapsed < FIRST_ESTIMATE_S or self._done < FIRST_ESTIMATE_SHARE:
            return None
        return elapsed * (1 - self._done) / self._done

    @property
    def stageText(self) -> str:
        """The stage and what it is at, for a person."""
        stages = {
            "start": _("Starting"),
            "prepare": _("Preparing"),
            "read": _("Reading"),
            "align": _("Aligning"),
            "predict": _("Predicting"),
            "refine": _("Refining"),
            "finish": _("Finishing"),
        }
        return f"{stages[self.stage]}: {self.message}" if self.message else stages[self.stage]

    @property
    def timeText(self) -> str:
        """The time left, for a person; empty while nothing can be said."""
        seconds = self.secondsLeft
        if seconds is None:
            return ""
        if seconds < 1:
            return _("nearly done")
        if seconds < 90:
            return _("about {count} s left").format(count=round(seconds))
        return _("about {count} min left").format(count=round(seconds / 60))
