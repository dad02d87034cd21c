"""The voxels of a file whose header is known, read to the last byte: every checksum counts, and so does the length."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.headers import Header, damaged

_CHUNK = 1 << 17
_PADDING = 4096  # zeros that fill a file up to a block are no voxels


def stored_values(header: Header, path: str | os.PathLike[str]) -> np.ndarray:
    """Every value of the file as it is stored: [sizes, slowest axis first], in this machine's byte order.

    Args:
        header: of the file.
        path: of the header, for messages.

    Raises:
        InputError: fewer or more bytes than the header announces, or a checksum that does not hold.
    """
    try:
        raw = _unpacked(header, path) if header.packed else _plain(header, path)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path) from error
    values = raw.view(header.dtype).reshape(header.sizes[::-1])
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def whole_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, unpacked where it is gzip; its checksum is compared.

    Raises:
        InputError: the checksum does not hold, or the file cannot be read.
    """
    try:
        raw = Path(path).read_bytes()
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path) from error


def check_packed(path: str | os.PathLike[str]) -> None:
    """Compare the checksum of a gzip file whose content only ITK understands; other files pass.

    Raises:
        InputError: it does not hold.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        for _ in _blocks(Path(path), 0) if packed else ():
            pass
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path) from error


def _plain(header: Header, path: str | os.PathLike[str]) -> np.ndarray:
    with open(header.file, "rb") as file:
        file.seek(header.start + header.skip)
        raw = np.fromfile(file, np.uint8, header.bytes)
        _check_end(len(raw), header.bytes, iter(lambda: file.read(_CHUNK), b""), path)
    return raw


def _unpacked(header: Header, path: str | os.PathLike[str]) -> np.ndarray:
    raw, filled = np.empty(header.bytes, np.uint8), -header.skip
    blocks = _blocks(header.file, header.start)
    rest = b""
    for block in blocks:
        wanted = block[max(0, -filled) : len(raw) - filled]
        begin = max(0, filled)
        raw[begin : begin + len(wanted)] = np.frombuffer(wanted, np.uint8)
        filled += len(block)
        if filled >= len(raw):
            rest = block[len(block) - (filled - len(raw)) :]
            break
    _check_end(min(filled, len(raw)), len(raw), _first_of(rest, blocks), path)
    return raw


def _first_of(block: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield block
    yield from others


def _blocks(file: Path, start: int) -> Iterator[bytes]:
    """What a gzip or zlib stream holds, in pieces; at its end the checksum is compared."""
    unpacker = zlib.decompressobj(47)  # 47: either header
    with file.open("rb") as source:
        source.seek(start)
        while chunk := source.read(_CHUNK):
            while chunk:
                if unpacker.eof:
                    if not chunk.startswith(b"\x1f"):  # no further member of a gzip file
                        yield chunk
                        yield from iter(lambda: source.read(_CHUNK), b"")
                        return
                    unpacker = zlib.decompressobj(47)
                yield unpacker.decompress(chunk)
                chunk = unpacker.unused_data
    if not unpacker.eof:
        raise EOFError


def _check_end(found: int, announced: int, rest: Iterator[bytes], path: str | os.PathLike[str]) -> None:
    """Whether the voxels are there and nothing but a little padding follows them; reads on to the end."""
    if found < announced:
        raise damaged(path)
    surplus, padding = 0, True
    for block in rest:
        surplus += len(block)
        padding = padding and not block.strip(b"\0")
    if surplus and not (padding and surplus < _PADDING):
        raise InputError(
            f"{path}: holds {surplus} bytes more than the {announced} of voxels that its header announces; "
            "repair the header or export the image again"
        )
