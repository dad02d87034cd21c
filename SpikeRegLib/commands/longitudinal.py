"""`spikereg longitudinal`: one person's visits in; what changed between them, in the middle of them all, out."""

from __future__ import annotations

import argparse
from pathlib import Path

from SpikeRegLib.commands.arguments import add_progress_option, add_threads_option
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.groups.members import digests_of, members_of
from SpikeRegLib.outputs.accounts import LONGITUDINAL
from SpikeRegLib.outputs.folder import check_results_folder
from SpikeRegLib.outputs.longitudinal_folder import write_visits

_OUTPUTS = """\
The visits are of one person and one contrast, the first one first, whole heads or skull-stripped brains. Visits that
are not alike after a rigid motion are refused (exit code 2).

written to DIR, all at the end and all at once:
  mid.nii.gz                    the mean of all visits in the space in the middle of them
  labels.nii.gz                 32 structures found in it, by the numbers of FreeSurfer
  visits/ID/in_mid.nii.gz       that visit there, interpolated once, in its own intensities
  visits/ID/to_visit.h5         ITK composite, maps points of the mid-space to points of the visit (LPS mm)
  visits/ID/to_mid.h5           its inverse
  pairs/ID/jacobian.nii.gz      of the map from the first visit to that later one: 1 keeps volume, below 1 is loss
  changes.csv                   of every later visit and structure: id,structure,ml_first,ml_later,change_percent
  longitudinal.json             all figures, for programs

Research software, no medical device: look at the images before you believe the figures.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _OUTPUTS
    parser.add_argument("visit", metavar="VISIT", type=Path, nargs="*", help="NIfTI, NRRD, MetaImage or MGZ; any grid")
    parser.add_argument(
        "--images", type=Path, metavar="LIST", help="text file with a visit a line, or a table with columns id,image"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--affine", action="store_true", help="sizes and shears may differ as well, and count as the scanner's"
    )
    add_threads_option(parser)
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    members = members_of(options.visit, options.images, least=2, what="visit")
    check_results_folder(options.out, LONGITUDINAL)
    digests = digests_of(members)

    from SpikeRegLib.groups.visits import compare_visits  # imports torch
    from SpikeRegLib.system.devices import set_threads

    set_threads(options.threads)  # also for what is written afterwards
    listener = listener_for(options.progress)
    compared = compare_visits(
        members, digests, affine=options.affine, threads=options.threads, listener=listener
    )  # fmt: skip
    write_visits(compared, options.out)
    if options.progress == "json":
        emit("result", path=str((options.out / LONGITUDINAL.account).resolve()))
    elif options.progress == "bar":
        most = sorted(compared.changes, key=lambda row: -abs(row["ml_later"] - row["ml_first"]))[:5]
        lines = [f"{row['id']}: {row['structure']} {row['change_percent']:+.2f} %" for row in most]
        lines += [f"warning: {warning}" for warning in compared.result["warnings"]]
        say("\n".join([*lines, f"changes: {options.out / 'changes.csv'}"]))
    return 0
