"""`spikereg group`: images of many heads in; their unbiased template and each one's transforms out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from SpikeRegLib.commands.arguments import add_progress_option, add_threads_option, number
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.groups.members import digests_of, members_of
from SpikeRegLib.outputs.accounts import GROUP
from SpikeRegLib.outputs.folder import check_results_folder
from SpikeRegLib.outputs.group_folder import write_group
from SpikeRegLib.presets.preset import load_preset, preset_names

_OUTPUTS = """\
The images are of one contrast, of different people, whole heads or skull-stripped brains, on any grids. Of a whole head
the brain counts.

written to DIR, all at the end and all at once:
  template.nii.gz           the mean head: of all shapes and, in [0, 1], of all intensities
  subjects/ID/to_subject.h5   ITK composite, maps template points to points of that image (LPS mm): resamples the image
                            onto the template
  subjects/ID/to_template.h5  its inverse
  group.json                what was done and how well, for programs

What is finished on the way lies in DIR/spikereg-working. A run that was stopped goes on from there when the same
command is given again; the folder is removed in the end.
"""
WORKING = "spikereg-working"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _OUTPUTS
    parser.add_argument("image", metavar="IMAGE", type=Path, nargs="*", help="NIfTI, NRRD, MetaImage or MGZ; any grid")
    parser.add_argument(
        "--images", type=Path, metavar="LIST", help="text file with an image a line, or a table with columns id,image"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--preset", default="brain", help=f"{', '.join(preset_names())}, or a .toml file (default: brain)"
    )
    parser.add_argument(
        "--iterations", type=number("rounds"), default=3, metavar="N",
        help="rounds of registering all and renewing the template (default: 3)",
    )  # fmt: skip
    add_threads_option(parser)
    parser.add_argument("--seed", type=number("seed"), default=0, help="of random numbers (default: 0)")
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    members = members_of(options.image, options.images, least=2, what="image")
    preset = load_preset(options.preset)
    check_results_folder(options.out, GROUP)
    digests = digests_of(members)

    from SpikeRegLib.groups.template import build_group  # imports torch
    from SpikeRegLib.groups.working import Working
    from SpikeRegLib.system.devices import set_threads

    set_threads(options.threads)  # also for what is written afterwards
    working = Working(options.out / WORKING)
    try:
        group = build_group(
            members, digests, preset, working, iterations=options.iterations, threads=options.threads,
            seed=options.seed, listener=listener_for(options.progress),
        )  # fmt: skip
        write_group(group, options.out)
    finally:
        working.leave()
    working.remove()
    if options.progress == "json":
        emit("result", path=str((options.out / GROUP.account).resolve()))
    elif options.progress == "bar":
        say("\n".join(_lines(group.result, options.out)))
    return 0


def _lines(result: dict[str, Any], folder: Path) -> list[str]:
    bias, roughness = result["bias_mm"], result["roughness"]
    return [
        f"{len(result['subjects'])} images, {result['iterations']} rounds, {result['cpu_s']['process']:.0f} CPU s",
        f"mean of all displacements {bias['mean']:.2f} mm, at most {bias['most']:.2f} mm; "
        f"folds {roughness['folding_percent']:g} %",
        *(f"warning: {warning}" for warning in result["warnings"]),
        f"template: {folder / 'template.nii.gz'}",
    ]
