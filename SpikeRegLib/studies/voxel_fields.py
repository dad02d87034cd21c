"""Displacement fields in voxels, as submissions to Learn2Reg hold them, and in mm, as everything here does.

A field in voxels is [3, D, H, W] with components along (i, j, k): the moving image's index minus the fixed one's.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError, last_line
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.quality.splines import spline_weights
from SpikeRegLib.system.foreign_prints import reading_with_itk
from SpikeRegLib.system.itk_names import itk_name


def read_voxel_field(path: Path, frame: Frame) -> torch.Tensor:
    """Read the displacement field of a submission.

    Args:
        path: `.nii.gz` or `.npz` of [I, J, K, 3]; or, as until 2021, `.npz` of [3, I, J, K] at half the resolution,
            whose vectors count in whole voxels all the same. That one is enlarged by quadratic splines, as Learn2Reg
            did (`scipy.ndimage.zoom(..., 2, order=2)`).
        frame: of the fixed image.

    Returns:
        [3, D, H, W] float32 voxels, components (i, j, k): from a fixed index to the moving one.

    Raises:
        InputError: unreadable, of another grid than the fixed image, or with NaN or infinite values.
    """
    array = _of_npz(path) if path.suffix.lower() == ".npz" else _of_nifti(path)
    size = frame.size
    if array.shape == (*size, 3):
        field = array.transpose(3, 2, 1, 0)
    elif array.shape == (3, *size):
        field = array.transpose(0, 3, 2, 1)
    elif array.ndim == 4 and array.shape[0] == 3 and tuple(2 * n for n in array.shape[1:]) == size:
        field = _doubled(array.astype(np.float32)).transpose(0, 3, 2, 1)
    else:
        raise InputError(
            f"{path}: a field of shape {list(array.shape)} where the fixed image asks for {[*size, 3]}; "
            "give the field on the grid of the fixed image"
        )
    found = torch.from_numpy(np.ascontiguousarray(field, np.float32))
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{path}: the displacement field has NaN or infinite values; repair or recompute it")
    return found


def _of_npz(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise InputError(f"{path}: holds {len(arrays.files)} arrays; give one displacement field")
            array: np.ndarray = arrays[arrays.files[0]]
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({last_line(error)}); give a complete .npz file") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {array.dtype} and no numbers; give one displacement field")
    return array


def _of_nifti(path: Path) -> np.ndarray:
    """[I, J, K, 3] of a NIfTI file of four axes."""
    try:
        with reading_with_itk():
            image = sitk.ReadImage(itk_name(path))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read ({last_line(error)}); give a complete .nii.gz file") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: vectors as ITK writes them, not four axes as in Learn2Reg; write a field in mm as transform.h5 "
            "into a folder of the pair's id"
        )
    array: np.ndarray = sitk.GetArrayFromImage(image)
    return array.T


def _doubled(field: np.ndarray) -> np.ndarray:
    for axis in (1, 2, 3):
        count = field.shape[axis]
        weights = spline_weights(np.linspace(0, count - 1, 2 * count), count, 2)
        field = np.moveaxis(np.tensordot(weights, field, (1, axis)), 0, axis)
    return field


def in_mm(field: torch.Tensor, frame: Frame) -> torch.Tensor:
    """A field in voxels as displacement in LPS mm, the moving image lying on the axes of `frame`.

    Args:
        field: [3, D, H, W] voxels, components (i, j, k).
        frame: of the fixed image.

    Returns:
        [3, D, H, W] float32 mm, components (x, y, z).
    """
    axes = torch.from_numpy(frame.matrix[:3, :3]).float()
    return torch.einsum("ab,bdhw->adhw", axes, field)


def in_voxels(displacement: torch.Tensor, frame: Frame, moving: Frame) -> torch.Tensor:
    """The moving image's index minus the fixed one's, at every voxel of the fixed image.

    Args:
        displacement: T(x) - x, [3, D, H, W] LPS mm on `frame`.
        frame: of the fixed image.
        moving: of the moving image.

    Returns:
        [3, D, H, W] float32 voxels, components (i, j, k).
    """
    to_moving = moving.inverse_matrix
    field = torch.einsum("ab,bdhw->adhw", torch.from_numpy(to_moving[:3, :3]).float(), displacement)
    change = torch.from_numpy(to_moving @ frame.matrix - np.eye(4))
    if float(change.abs().max()) > 1e-9:
        k, j, i = (torch.arange(n, dtype=torch.float64) for n in frame.shape)
        for a in range(3):
            of_plane = change[a, 0] * i[None, :] + change[a, 1] * j[:, None] + change[a, 3]
            for plane in range(frame.shape[0]):
                field[a, plane] += (of_plane + change[a, 2] * k[plane]).float()
    return field
