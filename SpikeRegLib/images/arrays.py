"""NumPy arrays and tensors as volumes: where their voxels lie is said by an affine or a spacing, or taken as 1 mm.

The array stays as it is, and so does everything that is made on its grid: `Registration.warped.data` of a fixed array
has its axes. What differs from file to file is the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import check_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume

Array = np.ndarray | torch.Tensor
# mm along the three axes of an array, in their order; one number for all three.
Spacing = float | Sequence[float]


def is_array(value: Any) -> bool:
    """Whether this is an array or a tensor."""
    return isinstance(value, (np.ndarray, torch.Tensor))


def array_frame(
    shape: Sequence[int], role: str, *, spacing: Spacing | None = None, affine: np.ndarray | None = None
) -> Frame:
    """Where the voxels of an array lie.

    Args:
        shape: of the array, three axes.
        role: what messages call it.
        spacing: mm along its axes, in their order; the axes then are the patient's z, y and x, as in arrays that
            SimpleITK gives of an image without rotation.
        affine: 4x4, from indices along the axes, in their order, to RAS mm, as nibabel has it.

    Raises:
        InputError: both are given, or one that is no grid in space.
    """
    first, second, third = (int(n) for n in shape)
    try:
        if affine is None:
            steps = np.broadcast_to(np.asarray(1.0 if spacing is None else spacing, dtype=float), (3,))
            matrix = np.eye(4)[:, [2, 1, 0, 3]] * [*steps, 1.0]
        else:
            matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=float).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise InputError(f"{role}: needs a spacing of one or three numbers, or an affine of 4x4 numbers") from error
    if spacing is not None and affine is not None:
        raise InputError(f"{role}: an affine has the spacing in it; give one of them")
    columns = matrix[:3, [2, 1, 0]]  # a frame counts (i, j, k), the reverse of the array's axes
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(matrix).all() or lengths.min() <= 0 or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise InputError(f"{role}: spacing or affine is unusable; give positive, finite millimetres")
    if affine is None and np.any(steps <= 0):
        raise InputError(f"{role}: the spacing must be positive, got {steps.tolist()}")
    x, y, z = (float(value) for value in matrix[:3, 3])
    i, j, k = (float(value) for value in lengths)
    direction = tuple(float(value) for value in (columns / lengths).ravel())
    frame = Frame((first, second, third), (x, y, z), (i, j, k), direction)
    check_frame(frame, role)
    return frame


def image_values(array: Array, role: str) -> torch.Tensor:
    """[D, H, W] float32 of an array of any numbers.

    Raises:
        InputError: it has not three axes, or no real numbers.
    """
    return torch.from_numpy(_numbers(array, role).astype(np.float32))


def label_values(array: Array, role: str) -> torch.Tensor:
    """[D, H, W] int32 of a segmentation or mask, Booleans included.

    Raises:
        InputError: it has not three axes, or values that are no whole numbers of 32 bits.
    """
    values = _numbers(array, role)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    if not np.array_equal(whole, values):
        raise InputError(f"{role}: not all voxels are whole numbers of 32 bits; give a segmentation")
    return torch.from_numpy(whole)


def _numbers(array: Array, role: str) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.float() if array.dtype is torch.bfloat16 else array  # NumPy has no such type
    values = np.asarray(array)
    if values.ndim != 3:
        raise InputError(f"{role}: an array {list(values.shape)} does not fit; give [D, H, W]")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{role}: an array of {values.dtype} is no image; give real numbers")
    return values


def array_volume(array: Array, frame: Frame, role: str, *, labels: bool = False) -> Volume:
    """The volume of an array on its grid.

    Raises:
        InputError: see `image_values` and `label_values`; or the shape is another one than the grid's.
    """
    data = (label_values if labels else image_values)(array, role)
    if tuple(data.shape) != tuple(frame.shape):
        raise InputError(f"{role}: an array {list(data.shape)} does not fit; give {list(frame.shape)}, or a Volume")
    return Volume(data, frame)
