"""`spikereg cohort`: many registrations from a table, each in its own folder, on one machine or on a cluster."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.cohort.manifest import Row, read_manifest
from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.events import emit
from SpikeRegLib.commands.streams import say, say_error
from SpikeRegLib.errors import SpikeRegError
from SpikeRegLib.options.option import options_of
from SpikeRegLib.options.options import GROUPS, OPTIONS
from SpikeRegLib.outputs.accounts import OUTPUT_NAMES
from SpikeRegLib.outputs.folder import check_writable
from SpikeRegLib.presets.preset import load_preset

if TYPE_CHECKING:
    from SpikeRegLib.cohort.rows import Outcome, Plan

_EPILOG = """\
MANIFEST is CSV or TSV with a line of column names: id, fixed, moving, and any option below by its name with
underscores, such as fixed_seg, moving_seg, fixed_points, moving_points, preset. Paths are relative to its folder.

written to DIR: ID/ with what `spikereg register` writes, for every row; ID/failed.json where a row failed;
summary.csv, summary.json and summary.html for all of them.

A row that is done is known by the content of its files, options and weights, and is not done again; one of which any of
these changed is. A row that fails never stops the others. Whatever is killed: run the same command again.

exit code: 0 all rows are done, 1 a row failed or is missing, 2 the table cannot be used, 130 cancelled.
"""
_WRITE_EVERY_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="table of registrations, one a row")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    where = parser.add_argument_group("where rows are done").add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=_count, metavar="N", help="processes on this machine (default: as many as its cores feed)"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler that runs already, or its scheduler file (.json)"
    )
    where.add_argument(
        "--shard", type=_shard, metavar="I/N", help="in this process, the I-th of N shares of the rows; no server"
    )
    where.add_argument("--summary", action="store_true", help="do no row, only write the summary of what is there")
    parser.add_argument("--redo", action="store_true", help="do every row, also those that are done")
    parser.add_argument(
        "--retries", type=_retries, default=1, metavar="N",
        help="try a row again that failed for another reason than its input, or whose process died (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--outputs", type=_outputs, metavar="NAMES", help="files that a row leaves, with commas (default: all)"
    )
    for kind in GROUPS.values():
        group = parser.add_argument_group(f"{(kind.__doc__ or '').lower()}, for rows that do not say")
        add_options(group, [option.name for option in options_of(kind)])
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    common = {name: getattr(options, option.key) for name, option in OPTIONS.items()}
    common = {name: _absolute(name, value) for name, value in common.items() if value != OPTIONS[name].default}
    rows = read_manifest(options.manifest, {"threads": 1, **common})
    for name in {str(row.options["preset"]) for row in rows if row.options.get("preset")}:
        load_preset(name)
    check_writable(options.out)
    options.out.mkdir(parents=True, exist_ok=True)

    from SpikeRegLib.cohort.page import write_page  # imports torch, as do those below
    from SpikeRegLib.cohort.rows import Plan
    from SpikeRegLib.cohort.summary import on_disk, write_summary

    out = options.out.absolute()
    asked = [] if options.summary else _in_order(_asked(rows, options.shard), out)
    plan = Plan(str(out), options.outputs, options.redo, options.retries)
    outcomes = _Outcomes(len(asked), options.progress)
    fault: SpikeRegError | None = None
    written = time.monotonic()

    def write(known: Sequence[Outcome]) -> None:
        write_summary(known, out)
        write_page(known, out, options.manifest.name)

    with ExitStack() as stack:
        for outcome in _doing(stack, asked, plan, options):
            outcomes.add(outcome)
            if outcome.disk_full:
                fault = SpikeRegError(
                    f"{out}: the disk is full; every finished row is kept: free some space and run again"
                )
                break
            if options.shard is None and time.monotonic() - written > _WRITE_EVERY_S:
                write(outcomes.of(rows))
                written = time.monotonic()
    if fault is not None:
        raise fault
    if options.shard is None:
        known = on_disk(rows, out) if options.summary else outcomes.of(rows)
        write(known)
    else:
        known = outcomes.of(asked)
    return outcomes.finish(known, None if options.shard else out / "summary.html")


def _asked(rows: Sequence[Row], shard: tuple[int, int] | None) -> list[Row]:
    from SpikeRegLib.cohort.alone import shard_of

    return list(rows) if shard is None else shard_of(rows, *shard)


def _in_order(rows: Sequence[Row], out: Path) -> list[Row]:
    """Rows of one fixed image one after another; those in whose midst a process ended last, so that they stop none."""
    from SpikeRegLib.cohort.folders import times_begun

    first: dict[str, int] = {}
    for n, row in enumerate(rows):
        first.setdefault(str(row.options["fixed"]), n)
    return sorted(rows, key=lambda row: (times_begun(out, row.id), first[str(row.options["fixed"])]))


def _doing(stack: ExitStack, rows: Sequence[Row], plan: Plan, options: argparse.Namespace) -> Iterator[Outcome]:
    """The outcomes of the rows, wherever they are done."""
    if not rows:
        return iter(())
    if options.shard is not None:
        from SpikeRegLib.cohort.alone import in_this_process

        return in_this_process(rows, plan)
    from SpikeRegLib.cohort.dask_cluster import local_cluster, on_cluster, running_cluster

    if options.scheduler is not None:
        return on_cluster(stack.enter_context(running_cluster(options.scheduler)), rows, plan)
    threads = max(int(row.options.get("threads") or 1) for row in rows)
    workers = min(len(rows), options.workers or max(1, (os.cpu_count() or 1) // threads))
    return on_cluster(stack.enter_context(local_cluster(workers, threads, plan.retries)), rows, plan)


class _Outcomes:
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
            verdict = outcome.message or str(outcome.figures.get("verdict"))
            say_error(f"{self._standing()}  {outcome.id}: {outcome.state}, {verdict}")

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


def _absolute(name: str, value: Any) -> Any:
    is_file = OPTIONS[name].kind == "file" or (name in ("preset", "model") and Path(str(value)).suffix)
    return str(Path(value).absolute()) if is_file and value is not None else value


def _number(text: str, low: int, high: int) -> int:
    number = int(text)
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"must be {low} to {high}, got {number}")
    return number


def _named(kind: Any, name: str) -> Any:
    kind.__name__ = name  # argparse: "invalid NAME value: 'x'"
    return kind


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    try:
        found = int(part), int(parts)
    except ValueError:
        found = (0, 0)
    if not slash or not 1 <= found[0] <= found[1] <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, got {text!r}")
    return found


def _outputs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in OUTPUT_NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is no output; choose among {', '.join(OUTPUT_NAMES)}")
    return names


_count = _named(partial(_number, low=1, high=1024), "whole number")
_retries = _named(partial(_number, low=0, high=10), "whole number")
