"""An image as callers give it: a file, or a volume in memory that has to pass the same checks."""

from __future__ import annotations

import os
from dataclasses import replace

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import MINIMUM_AXIS, check_frame
from SpikeRegLib.images.orientation import size_warnings
from SpikeRegLib.images.volumes import Volume, finite_voxels, read_image

Source = Volume | str | os.PathLike[str]


def load_image(
    source: Source, *, allow_nonfinite: bool = False, allow_few_values: bool = False, role: str = "image"
) -> Volume:
    """An image given as a file or as what was read from one, checked alike.

    Args:
        source: a file or an image.
        allow_nonfinite: take NaN and infinite voxels as background.
        allow_few_values: take a file of few grey values for an image, see `volumes.read_image`.
        role: what a message calls an image that came from no file.

    Raises:
        InputError: it is unusable; the message names the file.
    """
    if isinstance(source, Volume):
        return _checked(source, role, allow_nonfinite=allow_nonfinite)
    return read_image(source, allow_nonfinite=allow_nonfinite, allow_few_values=allow_few_values)


def _checked(volume: Volume, role: str, *, allow_nonfinite: bool) -> Volume:
    """An image handed over in memory, as float32, after the checks that `read_image` makes on a file."""
    where, data = volume.name or role, volume.data.detach().cpu().float()
    if data.ndim != 3 or tuple(data.shape) != tuple(volume.frame.shape):
        raise InputError(f"{where}: data {list(data.shape)} on a frame {list(volume.frame.shape)}; give one 3-D volume")
    if min(data.shape) < MINIMUM_AXIS:
        raise InputError(f"{where}: {list(data.shape)} has an axis under {MINIMUM_AXIS} voxels; give a full 3-D volume")
    check_frame(volume.frame, where)
    data, nonfinite = finite_voxels(data, where, allowed=allow_nonfinite)
    if float(data.min()) == float(data.max()):
        raise InputError(f"{where}: the image is empty or constant, every voxel is {float(data.min()):g}; check it")
    warnings = tuple(dict.fromkeys((*volume.warnings, *size_warnings(volume.frame, where))))
    return replace(volume, data=data, nonfinite=volume.nonfinite + nonfinite, warnings=warnings)
