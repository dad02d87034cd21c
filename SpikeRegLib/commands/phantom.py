"""`spikereg phantom`: heads that were moved in a known way, registered, with the errors: a test before first use."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.demo import SAMPLE
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.commissioning import KINDS
from SpikeRegLib.outputs.accounts import PHANTOMS
from SpikeRegLib.outputs.folder import check_results_folder

_OUTPUTS = """\
written to DIR, all at the end and all at once:
  phantoms/HEAD-KIND/       fixed.nii.gz, moving.nii.gz and moving_to_fixed.h5, the map that moving was drawn with (maps
                            moving points to fixed points, LPS mm); and what was found: transform.h5,
                            inverse_transform.h5 (to be compared with it), warped.nii.gz, report.html
  phantom.html              the page with the errors, beside the tolerances of AAPM TG-132
  phantom.csv, phantom.json the same for programs

Without --image the two bundled synthetic heads are used. Exit code 1 where a tolerance is not kept.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _OUTPUTS
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="head to make the phantoms of, instead of the bundled ones"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help=f"of motion: {', '.join(KINDS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--make-only", action="store_true", help="write the phantoms and register nothing (to test another tool)"
    )
    add_options(parser, ("preset", "device", "threads", "seed"))
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    check_results_folder(options.out, PHANTOMS)

    from SpikeRegLib.commissioning.campaign import commission  # imports torch
    from SpikeRegLib.outputs.phantom_folder import write_phantoms

    heads = {"head-1": SAMPLE / "fixed.nii.gz", "head-2": SAMPLE / "moving.nii.gz"}
    if options.image is not None:
        heads = {"head": options.image}
    with tempfile.TemporaryDirectory(prefix="spikereg-") as scratch:
        result = commission(
            heads, dict.fromkeys(options.kinds), Path(scratch), registered=not options.make_only,
            listener=listener_for(options.progress), preset=options.preset, device=options.device,
            threads=options.threads, seed=options.seed,
        )  # fmt: skip
        write_phantoms(Path(scratch), result, options.out)
    rows = result["phantoms"]
    missed = [name for name, row in rows.items() if not row.get("passed", True)]
    if options.progress == "json":
        emit("result", path=str((options.out / PHANTOMS.account).resolve()))
    elif options.progress == "bar":
        say("\n".join([*_lines(rows), *_end(options, missed)]))
    return int(bool(missed))


def _lines(rows: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{name}: moved by {row['moved_mean_mm']:.1f} mm; error {row['error_mean_mm']:.2f} mm, 95 % within "
        f"{row['error_p95_mm']:.2f}, at most {row['error_max_mm']:.2f}; {'kept' if row['passed'] else 'NOT KEPT'}: "
        f"{row['tolerance']}"
        for name, row in rows.items()
        if "passed" in row
    ]


def _end(options: argparse.Namespace, missed: list[str]) -> list[str]:
    if options.make_only:
        return [f"phantoms: {options.out / 'phantoms'}"]
    verdict = f"tolerance not kept by {', '.join(missed)}" if missed else "every phantom keeps its tolerance"
    return [verdict, f"page: {options.out / 'phantom.html'}"]
