"""`spikereg apply`: carries an image, a label map or points through a saved transform."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.commands.arguments import add_background_option
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.foreign_prints import without_foreign_prints

if TYPE_CHECKING:
    from SpikeRegLib.neural_field.coded import CodedDeformation
    from SpikeRegLib.space.transforms import Transform

_DIRECTIONS = """\
A saved transform maps points of the FIXED image to points of the MOVING image (LPS mm). Therefore:

  image or --labels           INPUT lies on the moving image; OUTPUT is INPUT on the grid of --reference FIXED
  --points                    INPUT was marked on the fixed image; OUTPUT is the same anatomy on the moving image
  --inverse, image or labels  INPUT lies on the fixed image; OUTPUT is INPUT on the grid of --reference MOVING
  --inverse --points          INPUT was marked on the moving image; OUTPUT is the same anatomy on the fixed image

examples:
  spikereg apply out/transform.h5 moving_t2.nii.gz t2_on_fixed.nii.gz --reference fixed.nii.gz
  spikereg apply out/transform.h5 atlas_seg.nii.gz seg_on_fixed.nii.gz --reference fixed.nii.gz --labels
  spikereg apply out/codes.safetensors moving_t2.nii.gz t2_on_fixed.nii.gz --reference fixed.nii.gz
  spikereg apply out/transform.h5 moving_points.mrk.json points_on_fixed.mrk.json --points --inverse
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _DIRECTIONS
    parser.add_argument(
        "transform",
        metavar="TRANSFORM",
        type=Path,
        help="ITK .h5, .tfm, .mat, a displacement volume, or codes.safetensors",
    )
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="image, label map, or points (.mrk.json, .fcsv, .csv)"
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        type=Path,
        help="file to write, replaced if it is there; the extension sets the format",
    )
    parser.add_argument("--reference", type=Path, metavar="FIXED", help="image whose grid OUTPUT gets; not for points")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--labels", action="store_true", help="INPUT is a label map: nearest neighbour, values kept")
    kind.add_argument("--points", action="store_true", help="INPUT is a list of points")
    parser.add_argument("--inverse", action="store_true", help="carry from the fixed image to the moving image")
    parser.add_argument("--allow-nonfinite", action="store_true", help="take NaN and Inf in INPUT as background")
    parser.add_argument(
        "--allow-few-values",
        action="store_true",
        help="INPUT may be an image of few grey values with sharp edges: no label map",
    )
    add_background_option(parser, "OUTPUT")
    add_model_option(parser)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """The option of all commands that read code files."""
    parser.add_argument(
        "--model", metavar="FILE",
        help="of a code file: the model that made it, by name or file (default: a shipped one, or one beside it)",
    )  # fmt: skip


def load_transform(
    path: Path, model: str | None, *, spacing_mm: float | None = None
) -> tuple[Transform, CodedDeformation | None]:
    """A saved transform of any kind; of a code file also the codes.

    Args:
        path: of the file.
        model: as `--model` says.
        spacing_mm: at which codes are decoded; the run's own if not given.

    Raises:
        InputError: unreadable, or a model given to what is no code file.
    """
    settle(path.parent)  # a run into this folder may have been killed
    from SpikeRegLib.neural_field.files import SUFFIX, read_codes  # imports torch
    from SpikeRegLib.space.transforms import read_transform

    if path.suffix == SUFFIX:
        coded = read_codes(path, model=model)
        return coded.transform(spacing_mm), coded
    if model is not None:
        raise InputError(f"--model: {path} is no code file; leave the model out")
    return read_transform(path), None


def run(options: argparse.Namespace) -> int:
    if options.points == (options.reference is not None):
        problem = (
            "points have no grid; leave it out" if options.points else "needed; name an image with the grid wanted"
        )
        raise InputError(f"--reference: {problem}")

    if options.background is not None and (options.points or options.labels):
        raise InputError("--background: of images; points have none and labels 0, so leave it out")

    from SpikeRegLib.images.files import WRITABLE_EXTENSIONS
    from SpikeRegLib.images.points import POINT_EXTENSIONS, read_points, write_points
    from SpikeRegLib.images.volumes import background_value, read_image, read_labels, write_volume  # imports torch
    from SpikeRegLib.space.transforms import warp_image
    from SpikeRegLib.system.atomic_files import check_output

    kinds = POINT_EXTENSIONS if options.points else WRITABLE_EXTENSIONS
    check_output(options.output, kinds, (options.transform, options.input, options.reference, options.model))
    transform, _ = load_transform(options.transform, options.model)
    if options.inverse:
        transform = transform.inverse()
    if options.points:
        moved = transform.map_points(read_points(options.input))
        interrupt.commit()  # one file, renamed into place: too short to stop
        write_points(moved, options.output)
        return 0
    volume = (
        read_labels(options.input)
        if options.labels
        else read_image(
            options.input, allow_nonfinite=options.allow_nonfinite, allow_few_values=options.allow_few_values
        )
    )
    for warning in volume.warnings:
        print(f"spikereg: warning: {warning}", file=sys.stderr)
    frame = grid_of(options.reference)
    if options.labels:
        warped = warp_image(volume, transform, frame, interpolation="nearest")
    else:
        outside = background_value(volume) if options.background is None else options.background
        warped = warp_image(volume, transform, frame, outside=outside)
    interrupt.commit()
    with without_foreign_prints():
        write_volume(warped, options.output)
    return 0


def grid_of(path: Path) -> Frame:
    """The frame of an image or, which serves as well, a label map."""
    from SpikeRegLib.images.volumes import read_image, read_labels

    try:
        return read_image(path, allow_nonfinite=True).frame
    except InputError:
        return read_labels(path).frame
