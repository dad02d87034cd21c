"""`spikereg series`: a 4-D image in; its frames on each other and their motion out."""

from __future__ import annotations

import argparse
from pathlib import Path

from SpikeRegLib.commands.arguments import add_progress_option, add_threads_option, number
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.outputs.accounts import SERIES
from SpikeRegLib.outputs.folder import check_results_folder
from SpikeRegLib.outputs.series_folder import write_aligned_series

_OUTPUTS = """\
written to DIR, all at the end and all at once:
  series.nii.gz             the frames on each other, each interpolated once; 4-D, with the time step of IMAGE
  motion.csv                of every frame: translations in mm, rotations in degrees about x, y and z (LPS) through the
                            middle of the anatomy, and the framewise displacement in mm
  transforms/NNNN.tfm       maps points of the reference to points of the frame (LPS mm); .h5 with --deformable
  series.json               all figures, for programs
"""


def _reference(text: str) -> int | None:
    return None if text == "mean" else int(number("frame_number")(text))


_reference.__name__ = "whole number"  # argparse: "invalid whole number value: 'x'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _OUTPUTS
    parser.add_argument("image", metavar="IMAGE", type=Path, help="4-D image of one contrast: NIfTI, NRRD or MetaImage")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--to", type=_reference, default="mean", metavar="N|mean",
        help="frame, from 0, that all are brought onto; or mean, in the middle of them all (default: mean)",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    for model, meaning in (
        ("rigid", "translations and rotations (default)"),
        ("affine", "sizes and shears as well"),
        ("deformable", "a smooth deformation after the rigid motion"),
    ):
        how.add_argument(f"--{model}", dest="model", action="store_const", const=model, default="rigid", help=meaning)
    add_threads_option(parser)
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    check_results_folder(options.out, SERIES)

    from SpikeRegLib.groups.series import align_series  # imports torch
    from SpikeRegLib.images.series import read_series

    series = read_series(options.image)
    listener = listener_for(options.progress)
    aligned = align_series(series, to=options.to, model=options.model, threads=options.threads, listener=listener)
    write_aligned_series(aligned, options.out)
    if options.progress == "json":
        emit("result", path=str((options.out / SERIES.account).resolve()))
    elif options.progress == "bar":
        found = aligned.result
        lines = [
            f"{found['frames']} frames: moved by up to {found['most_translation_mm']:.2f} mm and "
            f"{found['most_rotation_degrees']:.2f} degrees, {found['mean_framewise_mm']:.2f} mm a frame",
            *(f"warning: {warning}" for warning in found["warnings"]),
            f"series: {options.out / 'series.nii.gz'}",
        ]
        say("\n".join(lines))
    return 0
