"""A PNG encoder in a few lines, so that the report needs no plotting library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_GRAY, _RGB, _INDEXED = 0, 2, 3


def data_uri(image: np.ndarray, palette: np.ndarray | None = None) -> str:
    """The image as a `data:` address for an <img> element.

    Args:
        image: uint8; [H, W] grey values, or indices when a palette is given, or [H, W, 3] RGB.
        palette: [256, 3] uint8 RGB.
    """
    return "data:image/png;base64," + base64.b64encode(encode(image, palette)).decode("ascii")


def encode(image: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """The bytes of a PNG file; arguments as `data_uri`. Source: PNG specification, ISO/IEC 15948."""
    height, width = image.shape[:2]
    kind = _RGB if image.ndim == 3 else _GRAY if palette is None else _INDEXED
    rows = np.ascontiguousarray(image, dtype=np.uint8).reshape(height, -1)
    scanlines = np.empty((height, rows.shape[1] + 1), np.uint8)
    if kind == _INDEXED:
        scanlines[:, 0], scanlines[:, 1:] = 0, rows  # filter "none": neighbouring indices are not alike
    else:
        scanlines[:, 0] = 2  # filter "up": the difference to the row above packs better
        scanlines[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    parts += [_chunk(b"IDAT", zlib.compress(scanlines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
