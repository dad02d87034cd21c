"""Landmarks of a study: in LPS mm as everywhere here, or in voxels as Learn2Reg and DIR-Lab list them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.points import read_points


def read_landmarks(path: Path, frame: Frame, first_voxel: int | None) -> torch.Tensor:
    """Read landmarks, in the order of the file.

    Args:
        path: any file of points where they are in mm; else text with i, j and k in every line, between commas or
            spaces, along the axes of `frame`.
        frame: of the image to which they belong.
        first_voxel: None for LPS mm; else the number of the first voxel, 0 or 1.

    Returns:
        [N, 3] float64 LPS mm.

    Raises:
        InputError: missing or unreadable file, no points, or a point outside the image by more than a voxel.
    """
    if first_voxel is None:
        return read_points(path)
    try:
        rows = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        index = np.array([[float(cell) for cell in row] for row in rows if row])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as points ({error}); give i, j and k in every line") from error
    if index.ndim != 2 or index.shape[1] != 3 or not np.isfinite(index).all():
        raise InputError(f"{path}: cannot be read as points; give three numbers, i, j and k, in every line")
    index -= first_voxel
    outside = ((index < -1) | (index > np.asarray(frame.size))).any(1)
    if outside.any():
        raise InputError(
            f"{path}: point {int(outside.argmax()) + 1} lies outside the image of {'x'.join(map(str, frame.size))} "
            "voxels; check that it belongs to this image"
        )
    return torch.from_numpy(frame.to_mm(index))
