"""Volumes as few bytes for the page: whole numbers of steps, packed, with a NIfTI header that says where they lie."""

from __future__ import annotations

import base64
import gzip
import struct
from typing import Any

import numpy as np

from SpikeRegLib.images.frames import Frame

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER_BYTES = 352  # the header of 348 and four bytes that say that no extension follows
_UNSIGNED_BYTE, _ALIGNED, _MM = 2, 2, 2  # NIfTI's codes


def quantised(values: np.ndarray, frame: Frame, step: float) -> dict[str, Any]:
    """What the page holds of a volume, ready for JSON.

    A voxel's value is `first + step * (code - 1)`, a multiple of `step` and wrong by at most half of it; code 0 stands
    for no value (NaN).

    Args:
        values: [D, H, W]; NaN where there is nothing to show.
        frame: where they lie.
        step: distance of two values that are told apart, in the unit of `values`, above 0; coarser where 65,535 of
            them do not reach from the lowest value to the highest.

    Returns:
        shape (D, H, W), spacing (mm along i, j, k), matrix (4x4, LPS mm to indices i, j, k), header (NIfTI-1, of one
        byte a voxel on this grid), bytes a code (1 or 2, little-endian), first, step, and the codes. Header and codes
        are in base64, the codes packed by gzip.
    """
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 0.0)
    step = max(step, (high - low) / 65_533)
    low = step * float(np.floor(low / step))  # so that every value shown is a whole number of steps
    codes = np.zeros(values.shape, np.float64)
    codes[known] = np.rint((values[known].astype(np.float64) - low) / step) + 1
    kind = "u1" if codes.max() <= 255 else "<u2"
    packed = gzip.compress(codes.astype(kind).tobytes(), 6, mtime=0)  # 9 packs no better, in twice the time
    return {
        "shape": list(frame.shape),
        "spacing": list(frame.spacing),
        "matrix": frame.inverse_matrix.tolist(),
        "header": base64.b64encode(nifti_header(frame)).decode("ascii"),
        "bytes": np.dtype(kind).itemsize,
        "first": low,
        "step": step,
        "codes": base64.b64encode(packed).decode("ascii"),
    }


def nifti_header(frame: Frame) -> bytes:
    """The 352 bytes before the voxels of a NIfTI-1 file of unsigned bytes on `frame`. Source: nifti1.h, NIH."""
    header = bytearray(_HEADER_BYTES)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *frame.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _UNSIGNED_BYTE, 8)
    struct.pack_into("<8f", header, 76, 1.0, *frame.spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, float(_HEADER_BYTES), 1.0, 0.0)
    struct.pack_into("<B", header, 123, _MM)
    struct.pack_into("<2h", header, 252, 0, _ALIGNED)
    struct.pack_into("<12f", header, 280, *(_LPS_TO_RAS @ frame.matrix)[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header)
