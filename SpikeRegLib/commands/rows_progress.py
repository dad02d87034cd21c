"""What a command says while the rows of a cohort are done, and at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.cohort.manifest import Row
from SpikeRegLib.commands.events import emit
from SpikeRegLib.commands.streams import say, say_error

if TYPE_CHECKING:
    from SpikeRegLib.cohort.rows import Outcome


class Outcomes:
    """The outcomes so far, and what is said of them.

    Args:
        count: of the rows to be done.
        progress: bar, json or none.
    """

    def __init__(self, count: int, progress: str) -> None:
        self._count, self._progress = count, progress
        self._found: dict[str, Outcome] = {}
        self._began = time.monotonic()
        self._done = 0

    def add(self, outcome: Outcome) -> None:
        """One more row ended."""
        self._found[outcome.id] = outcome
        self._done += outcome.state != "kept"
        if self._progress == "json":
            emit("row", id=outcome.id, state=outcome.state, code=outcome.code, message=outcome.message)
            fraction = len(self._found) / self._count
            emit("progress", stage="cohort", fraction=round(fraction, 4), message=self._standing())
        elif self._progress == "bar" and outcome.state != "kept":
            said = outcome.message or outcome.figures.get("verdict")
            say_error(f"{self._standing()}  {outcome.id}: {outcome.state}" + (f", {said}" if said else ""))

    def of(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes in the order of the table; of rows without one that they are missing."""
        from SpikeRegLib.cohort.rows import Outcome
        from SpikeRegLib.cohort.summary import MISSING

        return [self._found.get(row.id) or Outcome(row.id, MISSING, {}, 1, "not done yet") for row in rows]

    def finish(self, known: Sequence[Outcome], page: Path | None) -> int:
        """Say how it ended; the exit code."""
        from SpikeRegLib.cohort.rows import FAILED
        from SpikeRegLib.cohort.summary import MISSING, summary

        counts = summary(known)["counts"]
        if self._progress == "json":
            emit("result", path=None if page is None else str(page.with_suffix(".json").resolve()), counts=counts)
        elif self._progress == "bar":
            words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            kept = sum(each.state == "kept" for each in known)
            say(
                f"{len(known)} {'row' if len(known) == 1 else 'rows'}: {words}"
                + (f"; {kept} of them were done before" if kept else "")
            )
            for each in known:
                if each.state == FAILED:
                    say(f"  {each.id}: {each.message}")
            if page is not None:
                say(f"summary: {page}")
        return int(any(each.state in (FAILED, MISSING) for each in known))

    def _standing(self) -> str:
        ended, left = len(self._found), self._count - len(self._found)
        failed = sum(each.state == "failed" for each in self._found.values())
        said = f"{ended} of {self._count}" + (f", {failed} failed" if failed else "")
        if left and self._done:
            said += f", {_duration((time.monotonic() - self._began) / self._done * left)} left"
        return said


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
