"""`spikereg register`: two images in; transform, warped image, report and result.json out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.events import emit, listener_for
from SpikeRegLib.commands.streams import say
from SpikeRegLib.commands.summary import summary_lines
from SpikeRegLib.errors import InputError
from SpikeRegLib.options.option import options_of
from SpikeRegLib.options.options import GROUPS, OPTIONS
from SpikeRegLib.outputs.folder import check_results_folder, write_outputs
from SpikeRegLib.presets.preset import load_preset, preset_for, preset_names

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration

_OUTPUTS = """\
written to DIR, all at the end and all at once:
  warped.nii.gz             MOVING resampled on the grid of FIXED
  transform.h5              ITK composite, maps fixed points to moving points (LPS mm): resamples MOVING
  inverse_transform.h5      maps moving points to fixed points
  displacement.nii.gz       the same map as vectors (LPS mm) on the grid of FIXED
  jacobian.nii.gz           its Jacobian determinant: 1 keeps volume, below 0 is a fold
  predicted_error.nii.gz    how far the map is expected to be wrong, mm; NaN (ITK reads 0) where nothing is compared
  codes.safetensors         of a neural field: the whole map in about a megabyte, for `spikereg apply`
  warped_seg.nii.gz         with segmentations
  spikes/LAYER.nii.gz       with --spike-maps, mean spike rate in [0, 1]
  report.html               to look at
  result.json               all figures, for programs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    presets = [f"  {name:<25} {load_preset(name).description}" for name in preset_names()]
    parser.epilog = _OUTPUTS + "\npresets:\n" + "\n".join(presets)
    parser.add_argument("fixed", metavar="FIXED", type=Path, help="image that stays: NIfTI, NRRD, MetaImage or MGZ")
    parser.add_argument("moving", metavar="MOVING", type=Path, help="image brought onto it; any grid, any orientation")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    for kind in GROUPS.values():
        group = parser.add_argument_group((kind.__doc__ or "").lower())
        add_options(group, [option.name for option in options_of(kind)])
    add_progress_option(parser)


def _both(options: argparse.Namespace, kind: str) -> None:
    """Refuse one of two files that are of use together only."""
    fixed, moving = getattr(options, f"fixed_{kind}"), getattr(options, f"moving_{kind}")
    if (fixed is None) != (moving is None):
        given, missing = ("fixed", "moving") if moving is None else ("moving", "fixed")
        raise InputError(f"--{given}-{kind}: given without --{missing}-{kind}; give both or neither")


def registered(options: argparse.Namespace, **how: Any) -> Registration:
    """Check the options of the command, register, and return what `write_outputs` takes.

    Args:
        options: as parsed by `add_arguments`.
        how: further keywords of `register`: the listener and what else is no option of the command.

    Raises:
        InputError: the options do not fit together, or the output folder cannot be written.
        Cancelled: the listener asked to stop.
    """
    _both(options, "seg")
    _both(options, "points")
    of_network = {"model": options.model, "timesteps": options.timesteps, "tile": options.tile}
    preset = options.preset or preset_for(options.method, **of_network)
    load_preset(preset)  # an unknown one is refused before torch is loaded
    check_results_folder(options.out)

    from SpikeRegLib.pipeline import register
    from SpikeRegLib.system.devices import set_threads  # imports torch

    set_threads(options.threads)  # also for what is written afterwards
    asked = {name: getattr(options, option.key) for name, option in OPTIONS.items()}
    return register(options.fixed, options.moving, **{**asked, "preset": preset}, **how)


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
