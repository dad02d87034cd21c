"""`spikereg register`: two images in; transform, warped image, report and result.json out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.commands.summary import summary_lines
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import check_results_folder, write_outputs
from SpikeRegLib.presets.preset import METHODS, load_preset, preset_for, preset_names
from SpikeRegLib.text.ranges import OPTIONS, whole, within

if TYPE_CHECKING:
    from SpikeRegLib.outputs.registration import Registration

_OUTPUTS = """\
written to DIR, all at the end and all at once:
  warped.nii.gz             MOVING resampled on the grid of FIXED
  transform.h5              ITK composite, maps fixed points to moving points (LPS mm): resamples MOVING
  inverse_transform.h5      maps moving points to fixed points
  displacement.nii.gz       the same map as vectors (LPS mm) on the grid of FIXED
  jacobian.nii.gz           its Jacobian determinant: 1 keeps volume, below 0 is a fold
  codes.safetensors         of a neural field: the whole map in about a megabyte, for `spikereg apply`
  warped_seg.nii.gz         with segmentations
  spikes/LAYER.nii.gz       with --spike-maps, mean spike rate in [0, 1]
  report.html               to look at
  result.json               all figures, for programs
"""


def option(name: str) -> Callable[[str], float]:
    """A type for argparse: a number inside the range of `ranges.OPTIONS`, a whole one where its limits are."""
    limits = OPTIONS[name]
    kind = int if whole(limits) else float

    def parse(text: str) -> float:
        value = kind(text)
        try:
            within("", value, *limits)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from error
        return value

    parse.__name__ = "whole number" if kind is int else "number"  # argparse: "invalid whole number value: 'x'"
    return parse


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options that `register` and `demo` share."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--threads", type=option("threads"), metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument(
        "--seed", type=option("seed"), default=0, metavar="N", help="of every random choice (default: 0)"
    )
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="bar on stderr, one JSON event a line on stdout, or nothing (default: bar)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    presets = [f"  {name:<25} {load_preset(name).description}" for name in preset_names()]
    parser.epilog = _OUTPUTS + "\npresets:\n" + "\n".join(presets)
    parser.add_argument("fixed", metavar="FIXED", type=Path, help="image that stays: NIfTI, NRRD, MetaImage or MGZ")
    parser.add_argument("moving", metavar="MOVING", type=Path, help="image brought onto it; any grid, any orientation")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--method", choices=METHODS, help="default: the preset's")
    parser.add_argument(
        "--preset", metavar="P", help="name or .toml file (default: brain-t1, or what suits the method)"
    )
    parser.add_argument("--model", metavar="FILE", help="weights, by name or .safetensors file (default: the preset's)")
    parser.add_argument(
        "--initial-transform", type=Path, metavar="FILE", help="fixed to moving (ITK .h5, .tfm, .mat), instead of align"
    )
    parser.add_argument("--align", action="store_true", help="go on from the initial transform with the alignment")
    parser.add_argument("--skip-affine", action="store_true", help="the images are aligned already")
    images = ("fixed", "moving")
    for kind, what in (
        ("mask", "region that counts, in every stage"),
        ("leave-out", "region that does not count (a lesion): the deformation goes on smoothly from around it"),
        ("seg", "label map, for Dice"),
    ):
        for image in images:
            help_text = f"{what}; on the grid of the {image} image"
            parser.add_argument(f"--{image}-{kind}", type=Path, metavar="F", help=help_text)
    for image in images:
        help_text = "landmarks, for the registration error (see --landmark-weight): .mrk.json, .fcsv or .csv"
        parser.add_argument(f"--{image}-points", type=Path, metavar="F", help=help_text)
    parser.add_argument(
        "--landmark-weight", type=option("landmark_weight"), default=0.0, metavar="W",
        help="pull landmarks together: 1 mm of mean error counts as much as W of similarity (default: 0, only measure)",
    )  # fmt: skip
    parser.add_argument(
        "--region", type=Path, metavar="F", help="mask on the grid of the fixed image: refine only there"
    )
    parser.add_argument(
        "--regularisation", type=option("regularisation"), default=1.0, metavar="R",
        help="factor on the smoothing of refinement: above 1 stiffer, below 1 looser (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--refine-iterations", type=option("refine_iterations"), metavar="N", help="per level; 0 leaves refinement out"
    )
    parser.add_argument(
        "--field-iterations", type=option("field_iterations"), metavar="N",
        help="of the optimisation of a neural field, per stage; 0 takes the encoder's field as it is",
    )  # fmt: skip
    parser.add_argument(
        "--field-seconds", type=option("field_seconds"), metavar="S", help="the most that may take (0: no limit)"
    )
    parser.add_argument("--field-decoder", action="store_true", help="optimise the field's decoders, too")
    parser.add_argument(
        "--timesteps", type=option("timesteps"), metavar="T", help="of the spiking network (default: its own)"
    )
    parser.add_argument(
        "--tile", type=option("tile"), metavar="N",
        help="run the network on overlapping tiles of N of its voxels along each axis: less memory, more time",
    )  # fmt: skip
    parser.add_argument("--spike-maps", action="store_true", help="write the spike rate of every layer as a volume")
    parser.add_argument("--allow-nonfinite", action="store_true", help="take NaN and Inf in the images as background")
    parser.add_argument(
        "--allow-few-values",
        action="store_true",
        help="the images may be of few grey values with sharp edges: no label map",
    )
    add_background_option(parser, "warped.nii.gz")
    add_run_options(parser)


def add_background_option(parser: argparse.ArgumentParser, output: str) -> None:
    """The option of all commands that resample an image."""
    parser.add_argument(
        "--background", type=option("background"), metavar="VALUE",
        help=f"of {output} beyond the edges of the image resampled (default: that image's own, from its corners)",
    )  # fmt: skip


def _pair(options: argparse.Namespace, kind: str) -> tuple[Path | None, Path | None]:
    fixed, moving = getattr(options, f"fixed_{kind}"), getattr(options, f"moving_{kind}")
    if (fixed is None) != (moving is None):
        given, missing = ("fixed", "moving") if moving is None else ("moving", "fixed")
        raise InputError(f"--{given}-{kind}: given without --{missing}-{kind}; give both or neither")
    return fixed, moving


def registered(options: argparse.Namespace, **how: Any) -> Registration:
    """Check the options of the command, register, and return what `write_outputs` takes.

    Args:
        options: as parsed by `add_arguments`.
        how: further keywords of `register`: the listener and what else is no option of the command.

    Raises:
        InputError: the options do not fit together, or the output folder cannot be written.
        Cancelled: the listener asked to stop.
    """
    fixed_seg, moving_seg = _pair(options, "seg")
    fixed_points, moving_points = _pair(options, "points")
    preset = options.preset or preset_for(options.method)
    load_preset(preset)  # an unknown one is refused before torch is loaded
    check_results_folder(options.out)

    from SpikeRegLib.pipeline import register
    from SpikeRegLib.system.devices import set_threads  # imports torch

    set_threads(options.threads)  # also for what is written afterwards
    return register(
        options.fixed,
        options.moving,
        method=options.method,
        preset=preset,
        model=options.model,
        initial_transform=options.initial_transform,
        align=options.align,
        skip_affine=options.skip_affine,
        fixed_mask=options.fixed_mask,
        moving_mask=options.moving_mask,
        fixed_leave_out=options.fixed_leave_out,
        moving_leave_out=options.moving_leave_out,
        fixed_labels=fixed_seg,
        moving_labels=moving_seg,
        fixed_points=fixed_points,
        moving_points=moving_points,
        landmark_weight=options.landmark_weight,
        region=options.region,
        regularisation=options.regularisation,
        refine_iterations=options.refine_iterations,
        field_iterations=options.field_iterations,
        field_seconds=options.field_seconds,
        field_decoder=options.field_decoder,
        timesteps=options.timesteps,
        device=options.device,
        threads=options.threads,
        seed=options.seed,
        tile=options.tile,
        spike_maps=options.spike_maps,
        allow_nonfinite=options.allow_nonfinite,
        allow_few_values=options.allow_few_values,
        background=options.background,
        **how,
    )


def run(options: argparse.Namespace) -> int:
    registration = registered(options, listener=listener_for(options.progress))
    finish(registration, options.out, options.progress)
    return 0


def finish(registration: Registration, folder: Path, progress: str) -> None:
    """Write the output folder and say so, as `--progress` wants it."""
    write_outputs(registration, folder)
    if progress == "json":
        emit("result", path=str((folder / "result.json").resolve()))
    elif progress == "bar":
        say("\n".join([*summary_lines(registration.result), f"report: {folder / 'report.html'}"]))
