"""Where the rows of a cohort are done: options of commands, and the doing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.cohort.manifest import Row
from SpikeRegLib.commands.arguments import number
from SpikeRegLib.errors import SpikeRegError

if TYPE_CHECKING:
    from SpikeRegLib.cohort.rows import Outcome, Plan


def add_where(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """The options `--workers`, `--scheduler` and `--shard`, of which one can be given, and `--redo` and `--retries`."""
    group = parser.add_argument_group("where rows are done")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=number("workers"),
        metavar="N",
        help="processes on this machine (default: as many as its cores feed)",
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler that runs already, or its scheduler file (.json)"
    )
    where.add_argument(
        "--shard", type=_shard, metavar="I/N", help="in this process, the I-th of N shares of the rows; no server"
    )
    group.add_argument("--redo", action="store_true", help="do every row, also those that are done")
    group.add_argument(
        "--retries", type=number("retries"), default=1, metavar="N",
        help="try a row again that failed for another reason than its input, or whose process died (default: 1)",
    )  # fmt: skip
    return where


def asked_of(rows: Sequence[Row], shard: tuple[int, int] | None) -> list[Row]:
    """The rows that this process is to see to."""
    from SpikeRegLib.cohort.alone import shard_of

    return list(rows) if shard is None else shard_of(rows, *shard)


def in_order(rows: Sequence[Row], out: Path) -> list[Row]:
    """Rows of one fixed image one after another; those in whose midst a process ended last, so that they stop none."""
    from SpikeRegLib.cohort.folders import times_begun

    first: dict[str, int] = {}
    for n, row in enumerate(rows):
        first.setdefault(_image_of(row), n)
    return sorted(rows, key=lambda row: (times_begun(out, row.id), first[_image_of(row)]))


def doing(stack: ExitStack, rows: Sequence[Row], plan: Plan, options: argparse.Namespace) -> Iterator[Outcome]:
    """The outcomes of the rows, wherever they are done, as they end.

    Raises:
        SpikeRegError: after an outcome that says that the disk is full, for no other row could be written either.
    """
    for outcome in _started(stack, rows, plan, options):
        yield outcome
        if outcome.disk_full:
            raise SpikeRegError(
                f"{plan.out}: the disk is full; every finished row is kept: free some space and run again"
            )


def _started(stack: ExitStack, rows: Sequence[Row], plan: Plan, options: argparse.Namespace) -> Iterator[Outcome]:
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


def _image_of(row: Row) -> str:
    return str(row.options.get("fixed") or row.options["source"])


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    try:
        found = int(part), int(parts)
    except ValueError:
        found = (0, 0)
    if not slash or not 1 <= found[0] <= found[1] <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, got {text!r}")
    return found
