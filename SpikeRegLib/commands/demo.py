"""`spikereg demo`: registers the bundled synthetic pair by spiking networks, with segmentations and spike maps."""

from __future__ import annotations

import argparse
from pathlib import Path

from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.events import listener_for
from SpikeRegLib.commands.register import finish
from SpikeRegLib.outputs.folder import check_results_folder

SAMPLE = Path(__file__).parents[1] / "sample"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("spikereg-demo"),
        metavar="DIR",
        help="folder for the results (default: spikereg-demo)",
    )
    add_options(parser, ("device", "threads", "seed"))
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    check_results_folder(options.out)

    from SpikeRegLib.pipeline import register
    from SpikeRegLib.system.devices import set_threads  # imports torch

    set_threads(options.threads)  # also for what is written afterwards
    registration = register(
        SAMPLE / "fixed.nii.gz",
        SAMPLE / "moving.nii.gz",
        fixed_labels=SAMPLE / "fixed_seg.nii.gz",
        moving_labels=SAMPLE / "moving_seg.nii.gz",
        preset="brain-t1",  # quick, and shows a spiking network that registers
        spike_maps=True,
        device=options.device,
        threads=options.threads,
        seed=options.seed,
        listener=listener_for(options.progress),
    )
    finish(registration, options.out, options.progress)
    return 0
