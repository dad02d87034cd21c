"""A 4-D image: frames on one grid, and the time between them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError, last_line
from SpikeRegLib.images.files import check_frame, scaled_values, write_sitk
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.headers import read_header
from SpikeRegLib.images.orientation import in_mm
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.images.voxels import stored_values
from SpikeRegLib.system.foreign_prints import reading_with_itk
from SpikeRegLib.system.itk_names import itk_name

# Slices of functional images are few.
_LEAST_AXIS = 8


@dataclass(frozen=True)
class Series:
    """Frames of one size.

    Attributes:
        data: [T, D, H, W] float32.
        frame: where the voxels of every frame lie (mm, LPS).
        step: from one frame to the next, in the header's unit of time.
        start: of the first frame, in that unit.
        name: the file it came from.
    """

    data: torch.Tensor
    frame: Frame
    step: float
    start: float
    name: str = ""

    def __len__(self) -> int:
        return len(self.data)

    def volume(self, number: int) -> Volume:
        """One frame as an image of its own."""
        return Volume(self.data[number], self.frame, f"{self.name or 'series'}: frame {number}")


def read_series(path: str | os.PathLike[str]) -> Series:
    """Read a 4-D image (NIfTI, NRRD, MetaImage).

    Raises:
        InputError: missing, unreadable or damaged file, one frame only, vectors, an axis under 8 voxels, an unusable
            header, NaN or infinite voxels, or frames in which nothing changes from voxel to voxel.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; check the path")
    header = read_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        with reading_with_itk():
            reader.ReadImageInformation()
            size, axes = reader.GetSize(), reader.GetDimension()
            components = reader.GetNumberOfComponents()
            array = None
            if components == 1 and axes == 4:
                # ITK would take what is no number for 0.
                values = None if header is None else stored_values(header, path)
                if header is not None and values is not None and values.size == math.prod(size):
                    array = scaled_values(values.reshape(size[::-1]), header)
                else:
                    array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as a 4-D image ({last_line(error)}); give a complete NIfTI, NRRD or MetaImage file"
        ) from error
    if array is None or len(array) < 2:
        found = "a colour or vector image" if components > 1 else f"a {axes}-D image of one frame"
        raise InputError(f"{path}: {found}; give a 4-D image of two or more frames")
    if min(array.shape[1:]) < _LEAST_AXIS:
        raise InputError(f"{path}: frames of {'x'.join(map(str, size[:3]))} have an axis under {_LEAST_AXIS} voxels")
    frame = _frame_of(reader)
    frame = frame if header is None else in_mm(frame, header)
    check_frame(frame, path)
    data = torch.from_numpy(array.astype(np.float32, copy=False))
    for number, one in enumerate(data):
        if not bool(torch.isfinite(one).all()):
            raise InputError(f"{path}: frame {number} has NaN or infinite voxels; repair or leave out that frame")
        if float(one.min()) == float(one.max()):
            raise InputError(f"{path}: frame {number} is empty or constant; leave out that frame")
    return Series(data, frame, float(reader.GetSpacing()[3]), float(reader.GetOrigin()[3]), str(path))


def write_series(series: Series, path: str | os.PathLike[str]) -> None:
    """Write a 4-D image with the time step of its header, whole or not at all.

    Raises:
        InputError: an unknown extension, or a folder that cannot be written.
    """
    frames = [sitk.GetImageFromArray(one.numpy()) for one in series.data]
    image = sitk.JoinSeries(frames, series.start, series.step)
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(series.frame.direction, (3, 3))
    image.SetSpacing([*series.frame.spacing, series.step])
    image.SetOrigin([*series.frame.origin, series.start])
    image.SetDirection(direction.ravel().tolist())
    write_sitk(image, path)


def _frame_of(reader: sitk.ImageFileReader) -> Frame:
    width, height, depth = reader.GetSize()[:3]
    direction = np.reshape(reader.GetDirection(), (4, 4))[:3, :3]
    origin, spacing = reader.GetOrigin(), reader.GetSpacing()
    return Frame(
        (depth, height, width), (origin[0], origin[1], origin[2]), (spacing[0], spacing[1], spacing[2]),
        tuple(direction.ravel().tolist()),
    )  # fmt: skip
