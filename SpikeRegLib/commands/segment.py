"""`spikereg segment`: one image of a head in; label map, brain mask, stripped image and volumes out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.commands.arguments import add_progress_option, add_threads_option
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.segment_summary import segmentation_lines
from SpikeRegLib.commands.streams import say
from SpikeRegLib.outputs.accounts import SEGMENTATION
from SpikeRegLib.outputs.folder import check_results_folder
from SpikeRegLib.outputs.segmentation_folder import write_segmentation

if TYPE_CHECKING:
    from SpikeRegLib.anatomy.segmentation import Segmentation

_OUTPUTS = """\
IMAGE is a whole head or a skull-stripped brain of any contrast. One that lies otherwise than its header says is looked
for along the other axes. What does not look like a human head is refused (exit code 2), and nothing is written.

written to DIR, all at the end and all at once, on the grid of IMAGE:
  labels.nii.gz             32 structures, by the numbers of FreeSurfer
  brain_mask.nii.gz         1 in the brain, its ventricles and the CSF around it
  brain.nii.gz              IMAGE there, its background elsewhere
  segmentation.json         volumes, confidences and all other figures, for programs

Research software, no medical device: look at the labels before you use them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _OUTPUTS
    parser.add_argument("image", metavar="IMAGE", type=Path, help="NIfTI, NRRD, MetaImage or MGZ; any grid")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_threads_option(parser)
    parser.add_argument("--allow-nonfinite", action="store_true", help="take NaN and Inf in IMAGE as background")
    parser.add_argument(
        "--allow-few-values",
        action="store_true",
        help="IMAGE may be of few grey values with sharp edges: no label map",
    )
    add_progress_option(parser)


def segmented(options: argparse.Namespace, **how: Any) -> Segmentation:
    """Check the options of the command, segment, and return what `write_segmentation` takes.

    Args:
        options: as parsed by `add_arguments`.
        how: further keywords of `segment`, such as the listener.

    Raises:
        InputError: see `segment`; or the output folder cannot be written.
        Cancelled: the listener asked to stop.
    """
    check_results_folder(options.out, SEGMENTATION)

    from SpikeRegLib.anatomy.segmentation import segment  # imports torch
    from SpikeRegLib.system.devices import set_threads

    set_threads(options.threads)  # also for what is written afterwards
    return segment(
        options.image,
        threads=options.threads,
        allow_nonfinite=options.allow_nonfinite,
        allow_few_values=options.allow_few_values,
        **how,
    )


def run(options: argparse.Namespace) -> int:
    segmentation = segmented(options, listener=listener_for(options.progress))
    write_segmentation(segmentation, options.out)
    if options.progress == "json":
        emit("result", path=str((options.out / SEGMENTATION.account).resolve()))
    elif options.progress == "bar":
        say("\n".join([*segmentation_lines(segmentation.result), f"labels: {options.out / 'labels.nii.gz'}"]))
    return 0
