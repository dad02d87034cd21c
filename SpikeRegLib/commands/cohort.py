"""`spikereg cohort`: many registrations from a table, each in its own folder, on one machine or on a cluster."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.cohort.manifest import read_manifest
from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.rows_progress import Outcomes
from SpikeRegLib.commands.rows_where import add_where, asked_of, doing, in_order
from SpikeRegLib.options.option import options_of
from SpikeRegLib.options.options import GROUPS, OPTIONS
from SpikeRegLib.outputs.accounts import OUTPUT_NAMES
from SpikeRegLib.outputs.folder import check_writable
from SpikeRegLib.presets.preset import load_preset

if TYPE_CHECKING:
    from SpikeRegLib.cohort.rows import Outcome

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
    where = add_where(parser)
    where.add_argument("--summary", action="store_true", help="do no row, only write the summary of what is there")
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
    asked = [] if options.summary else in_order(asked_of(rows, options.shard), out)
    plan = Plan(str(out), options.outputs, options.redo, options.retries)
    outcomes = Outcomes(len(asked), options.progress)
    written = time.monotonic()

    def write(known: Sequence[Outcome]) -> None:
        write_summary(known, out)
        write_page(known, out, options.manifest.name)

    with ExitStack() as stack:
        for outcome in doing(stack, asked, plan, options):
            outcomes.add(outcome)
            if options.shard is None and time.monotonic() - written > _WRITE_EVERY_S:
                write(outcomes.of(rows))
                written = time.monotonic()
    if options.shard is None:
        known = on_disk(rows, plan) if options.summary else outcomes.of(rows)
        write(known)
    else:
        known = outcomes.of(asked)
    return outcomes.finish(known, None if options.shard else out / "summary.html")


def _absolute(name: str, value: Any) -> Any:
    is_file = OPTIONS[name].kind == "file" or (name in ("preset", "model") and Path(str(value)).suffix)
    return str(Path(value).absolute()) if is_file and value is not None else value


def _outputs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in OUTPUT_NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is no output; choose among {', '.join(OUTPUT_NAMES)}")
    return names
