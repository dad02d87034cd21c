"""`spikereg interpolate`: a sequence of transforms, and of warped images, between two code files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.commands.apply import add_model_option, grid_of
from SpikeRegLib.commands.arguments import add_background_option, number
from SpikeRegLib.commands.streams import say
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import check_writable, staged
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.system import interrupt

if TYPE_CHECKING:
    from SpikeRegLib.neural_field.coded import CodedDeformation

IDENTITY = "identity"
_EXAMPLES = """\
Step n of N, counted from 0, is the deformation whose codes are (1 - n/N) times those of A plus n/N times those of B: a
path through deformations that the decoders can make, not a mixture of two displacements. Step 0 is A and step N is B.
With the word `identity` as A, it is n/N of the displacement of every stage of B instead; the alignment stays.

written to DIR, all at the end and all at once:
  step_000.h5 ... (ITK, fixed to moving), with --image also step_000.nii.gz ... (IMAGE on --reference)

examples:
  spikereg interpolate identity out/codes.safetensors --steps 9 --out path --image moving.nii.gz --reference f.nii.gz
  spikereg interpolate fast/codes.safetensors slow/codes.safetensors --steps 4 --out path
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXAMPLES
    parser.add_argument("first", metavar="A", help="code file of a registration, or the word identity")
    parser.add_argument("second", metavar="B", type=Path, help="code file of the same model, frame and alignment")
    parser.add_argument("--steps", required=True, type=number("path_steps"), metavar="N", help="from A to B")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the sequence")
    parser.add_argument("--image", type=Path, metavar="MOVING", help="warped by every transform of the sequence")
    parser.add_argument("--reference", type=Path, metavar="FIXED", help="image whose grid the warped ones get")
    add_background_option(parser, "the warped images")
    add_model_option(parser)


def run(options: argparse.Namespace) -> int:
    if (options.image is None) != (options.reference is None):
        raise InputError("--image: goes with --reference, whose grid the warped images get; give both or neither")
    if options.background is not None and options.image is None:
        raise InputError("--background: of warped images; give --image, or leave it out")
    check_writable(options.out)
    settle(options.out)
    nothing_replaced(options.out)

    from SpikeRegLib.images.volumes import background_value, read_image, write_volume  # imports torch
    from SpikeRegLib.neural_field.coded import between, scaled
    from SpikeRegLib.neural_field.files import read_codes
    from SpikeRegLib.space.transforms import warp_image, write_transform

    last = read_codes(options.second, model=options.model)
    first = None if options.first == IDENTITY else read_codes(options.first, model=options.model)
    if first is not None:
        check_alike(first, last, options.first, options.second)
    image = None if options.image is None else read_image(options.image)
    outside = options.background
    if image is not None and outside is None:
        outside = background_value(image)
    frame = None if options.reference is None else grid_of(options.reference)
    with staged(options.out, nothing_replaced) as staging:
        for step in range(options.steps + 1):
            interrupt.check()
            share = step / options.steps
            coded = scaled(last, share) if first is None else between(first, last, share)
            transform = coded.transform()
            write_transform(transform, staging / f"step_{step:03d}.h5")
            if image is not None and frame is not None:
                warped = warp_image(image, transform, frame, outside=outside)
                write_volume(warped, staging / f"step_{step:03d}.nii.gz")
    say(str(options.out))
    return 0


def nothing_replaced(folder: Path) -> list[str]:
    """The files of `folder` that a sequence replaces: none.

    Raises:
        InputError: there is a sequence already.
    """
    if any(folder.glob("step_*")):
        raise InputError(f"{folder}: holds a sequence already; choose another folder")
    return []


def check_alike(first: CodedDeformation, second: CodedDeformation, name: str | Path, other: str | Path) -> None:
    """Refuse two deformations without a path between them.

    Args:
        first, second: as read.
        name, other: of their files.

    Raises:
        InputError: names both files and what differs.
    """
    import numpy as np

    models = [coded.model.name if coded.model else "decoders of its own" for coded in (first, second)]
    reasons = (
        (not first.same_decoders(second), f"made with another model ({models[1]}, not {models[0]})"),
        (first.frame != second.frame, "on another working frame"),
        (not np.allclose(first.base.matrix, second.base.matrix, atol=1e-6), "of another alignment"),
        (
            [c.grid for c in first.stages] != [c.grid for c in second.stages],
            f"with stages of {second.spacings()}, not {first.spacings()}",
        ),
    )
    for differs, reason in reasons:
        if differs:
            raise InputError(f"{other}: {reason} than {name}; give two code files of the same pair and preset")
