"""Rows one after another in this process: for array jobs and workflow engines, without any server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from SpikeRegLib.cohort.manifest import Row
from SpikeRegLib.cohort.rows import Outcome, Plan, do_row


def shard_of(rows: Sequence[Row], part: int, parts: int) -> list[Row]:
    """The rows of one of several processes: each row falls to exactly one, and all get about as many.

    Args:
        rows: of the whole cohort.
        part: from 1 on.
        parts: how many processes there are.
    """
    return list(rows[part - 1 :: parts])


def in_this_process(rows: Sequence[Row], plan: Plan) -> Iterator[Outcome]:
    """The outcomes of the rows, as they end.

    Raises:
        Cancelled: the process was told to stop.
    """
    for row in rows:
        yield do_row(row, plan)
