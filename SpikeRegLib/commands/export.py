"""`spikereg export`: a saved transform as one displacement field, on the grid of an image or at any spacing."""

from __future__ import annotations

import argparse
from pathlib import Path

from SpikeRegLib.commands.apply import add_model_option, grid_of, load_transform
from SpikeRegLib.commands.arguments import number
from SpikeRegLib.errors import InputError
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.foreign_prints import without_foreign_prints

_EXAMPLES = """\
The field holds the whole map from fixed to moving points (LPS mm vectors, as ITK has it).

examples:
  spikereg export out/codes.safetensors field_1mm.nii.gz --spacing 1
  spikereg export out/transform.h5 field_on_fixed.nii.gz --reference fixed.nii.gz

A code file (codes.safetensors) is a continuous function: with --spacing it is decoded on a grid of that spacing over
the part of the patient where it was fitted. With --reference the map of the run itself is sampled, as of any transform.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXAMPLES
    parser.add_argument("transform", metavar="TRANSFORM", type=Path, help="codes.safetensors or any ITK transform")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="displacement volume (.nii.gz, .nrrd, .mha) or .h5")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--spacing", type=number("spacing"), metavar="MM", help="of the field, along every axis")
    where.add_argument("--reference", type=Path, metavar="FIXED", help="image whose grid the field gets")
    add_model_option(parser)


def run(options: argparse.Namespace) -> int:
    from SpikeRegLib.pipeline.inputs import check_size
    from SpikeRegLib.space.transforms import (  # imports torch
        WRITABLE_EXTENSIONS,
        DisplacementTransform,
        write_transform,
    )
    from SpikeRegLib.system.atomic_files import check_output

    check_output(options.output, WRITABLE_EXTENSIONS, (options.transform, options.reference, options.model))
    transform, coded = load_transform(options.transform, options.model, spacing_mm=options.spacing)
    if options.spacing is not None and coded is None:
        raise InputError(f"{options.transform}: --spacing needs a code file; give --reference FIXED instead")
    if options.reference is not None:
        frame = grid_of(options.reference)
    else:
        assert coded is not None
        frame = coded.frame_at(options.spacing)
        check_size(frame, "--spacing")
    whole = DisplacementTransform(transform.displacement_on(frame), frame)
    interrupt.commit()  # one file, renamed into place: too short to stop
    with without_foreign_prints():
        write_transform(whole, options.output)
    return 0
