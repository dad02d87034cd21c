"""ITK transform files (.h5) with compressed displacements in single precision, which ITK's own writer does not make.

ITK writes displacement fields in double precision and uncompressed. Its reader, on which SimpleITK and Slicer rest,
takes single precision and the filters of HDF5 as well. What is written here is HDF5 in the form that all its versions
read (HDF5 File Format Specification 3.0): superblock 0, object headers 1, links in the headers of their groups.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_NOWHERE = 2**64 - 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Children of a B-tree's node where the superblock says nothing else; fewest nodes of a field that are worth a chunk.
_CHILDREN, _SMALLEST_CHUNK = 64, 2**14
# How bytes are packed by what run lengths leave of a sample of them: level and strategy of zlib. Run lengths and codes
# for what repeats, codes alone (a fifth quicker), nothing where it is not worth its time.
_WAYS = ((0.3, (1, zlib.Z_RLE)), (0.9, (1, zlib.Z_HUFFMAN_ONLY)))
_AS_THEY_ARE = (0, zlib.Z_DEFAULT_STRATEGY)
_SAMPLE = 2**14
_DATASPACE, _LINK_INFO, _DATATYPE, _FILL_VALUE, _LINK, _LAYOUT, _GROUP_INFO, _FILTERS = 1, 2, 3, 5, 6, 8, 10, 11
_DOUBLE = struct.pack("<B3sIHHBBBBI", 0x11, b"\x20\x3f\0", 8, 0, 64, 52, 11, 0, 52, 1023)
_SINGLE = struct.pack("<B3sIHHBBBBI", 0x11, b"\x20\x1f\0", 4, 0, 32, 23, 8, 0, 23, 127)
# Of any length, made of bytes; where it is stored takes 16 of them.
_STRING = struct.pack("<B3sI", 0x19, b"\x01\0\0", 16) + struct.pack("<B3sIHH", 0x10, b"\0\0\0", 1, 0, 8)


@dataclass(frozen=True)
class Part:
    """A transform as ITK stores it.

    Attributes:
        kind: ITK's name of it, such as "AffineTransform_double_3_3".
        fixed: fixed parameters; None if it has none of either.
        parameters: [N] float64, stored as they are; or a field, [3, nodes] float32, stored node by node and compressed.
        step: a field is rounded to multiples of this, if given.
    """

    kind: str
    fixed: np.ndarray | None = None
    parameters: np.ndarray | None = None
    step: float | None = None


def write_parts(parts: Sequence[Part], path: Path) -> None:
    """Write an ITK transform file.

    Args:
        parts: in ITK's order: of a composite itself first, then that of its transforms which sees points last.
        path: of the new file.

    Raises:
        OSError: the file could not be written.
    """
    with path.open("wb") as file:
        _Writer(file).write(parts)


class _Writer:
    """Appends objects to a file and remembers where they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, parts: Sequence[Part]) -> None:
        self._file.write(bytes(96))  # the superblock, once everything else has its place
        heap = self._append(_heap([part.kind.encode() for part in parts]))
        groups = {}
        for number, part in enumerate(parts):
            kind = struct.pack("<IQI", len(part.kind), heap, number + 1)
            links = {"TransformType": self._dataset(_STRING, 1, _contiguous(self._append(kind), len(kind)))}
            if part.fixed is not None and part.parameters is not None:
                links["TransformFixedParameters"] = self._numbers(part.fixed)
                is_field = part.parameters.ndim == 2
                links["TransformParameters"] = self._field(part) if is_field else self._numbers(part.parameters)
            groups[str(number)] = self._group(links)
        root = self._group({"TransformGroup": self._group(groups)})
        end = self._file.tell()
        self._file.seek(0)
        versions = struct.pack("<8B2HI", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
        places = struct.pack("<4Q", 0, _NOWHERE, end, _NOWHERE)
        self._file.write(_SIGNATURE + versions + places + struct.pack("<QQII16x", 0, root, 0, 0))

    def _numbers(self, values: np.ndarray) -> int:
        """A dataset in double precision; its address."""
        data = values.astype("<f8").tobytes()
        return self._dataset(_DOUBLE, values.size, _contiguous(self._append(data), len(data)))

    def _field(self, part: Part) -> int:
        """A dataset in single precision, in compressed chunks; its address."""
        assert part.parameters is not None
        components, nodes = part.parameters.shape
        size = max(min(nodes, _SMALLEST_CHUNK), -(-nodes // _CHILDREN))
        chunks, values = -(-nodes // size), size * components
        ways = [_way(plane) for plane in _planes(part, chunks // 2 * size, size)]
        keys = b""
        for start in range(0, nodes, size):
            packed = _packed(_planes(part, start, size), ways)
            keys += struct.pack("<IIQQQ", len(packed), 0, start * components, 0, self._append(packed))
        keys += struct.pack("<IIQQ", 0, 0, chunks * values, 0)
        node = b"TREE" + struct.pack("<BBHQQ", 1, 0, chunks, _NOWHERE, _NOWHERE) + keys
        tree = self._append(node.ljust(24 + 24 * (_CHILDREN + 1) + 8 * _CHILDREN, b"\0"))
        layout = (_LAYOUT, struct.pack("<BBBQII", 3, 2, 2, tree, values, 4))
        shuffle, deflate = struct.pack("<HHHHII", 2, 0, 1, 1, 4, 0), struct.pack("<HHHHII", 1, 0, 1, 1, 1, 0)
        filters = (_FILTERS, b"\x01\x02" + bytes(6) + shuffle + deflate)
        return self._dataset(_SINGLE, nodes * components, layout, filters)

    def _dataset(self, datatype: bytes, size: int, *layout: tuple[int, bytes]) -> int:
        space = (_DATASPACE, struct.pack("<BBB5xQ", 1, 1, 0, size))
        return self._object(space, (_DATATYPE, datatype), (_FILL_VALUE, b"\x02\x02\x02\x00"), *layout)

    def _group(self, links: dict[str, int]) -> int:
        info = (_LINK_INFO, struct.pack("<BBQQ", 0, 0, _NOWHERE, _NOWHERE))
        named = [
            (_LINK, struct.pack("<BBB", 1, 0, len(name)) + name.encode() + struct.pack("<Q", address))
            for name, address in links.items()
        ]
        return self._object(info, (_GROUP_INFO, b"\0\0"), *named)

    def _object(self, *messages: tuple[int, bytes]) -> int:
        """An object header; its address."""
        content = b""
        for kind, message in messages:
            message += bytes(-len(message) % 8)
            content += struct.pack("<HHB3x", kind, len(message), 0) + message
        return self._append(struct.pack("<BBHII4x", 1, 0, len(messages), 1, len(content)) + content)

    def _append(self, data: bytes) -> int:
        """The address where `data` lies from now on."""
        self._file.write(bytes(-self._file.tell() % 8))
        address = self._file.tell()
        self._file.write(data)
        return address


def _contiguous(address: int, size: int) -> tuple[int, bytes]:
    return _LAYOUT, struct.pack("<BBQQ", 3, 1, address, size)


def _heap(texts: Sequence[bytes]) -> bytes:
    """A global heap with `texts`, numbered from 1; its free space is object 0."""
    content = b""
    for number, text in enumerate(texts, 1):
        content += struct.pack("<HHIQ", number, 1, 0, len(text)) + text + bytes(-len(text) % 8)
    size = max(4096, 16 + len(content) + 16)
    content += struct.pack("<HHIQ", 0, 0, 0, size - 16 - len(content))
    return (b"GCOL" + struct.pack("<B3xQ", 1, size) + content).ljust(size, b"\0")


def _planes(part: Part, start: int, size: int) -> np.ndarray:
    """[4, 3 * size] the bytes of a chunk of a field, those of equal rank together, as the filter `shuffle` has it."""
    assert part.parameters is not None
    given = part.parameters[:, start : start + size]
    chunk = np.zeros((size, len(given)), "<f4")  # the last one is filled up
    filled = chunk[: given.shape[1]]
    for component, values in enumerate(given):
        np.multiply(values, np.float32(1 / (part.step or 1)), out=filled[:, component])
    if part.step is not None:
        np.rint(filled, out=filled)
        filled *= np.float32(part.step)
    return np.ascontiguousarray(chunk.view(np.uint8).reshape(-1, 4).T)


def _way(plane: np.ndarray) -> tuple[int, int]:
    """How to pack such bytes: level and strategy."""
    sample = plane[max(0, plane.size - _SAMPLE) // 2 :][:_SAMPLE]
    left = len(_deflated(sample, (1, zlib.Z_RLE), zlib.Z_FINISH)) / sample.size
    return next((way for most, way in _WAYS if left < most), _AS_THEY_ARE)


def _packed(planes: np.ndarray, ways: Sequence[tuple[int, int]]) -> bytes:
    """Planes of bytes as one stream of zlib."""
    ends = (zlib.Z_FULL_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH)
    packed = [_deflated(plane, way, end) for plane, way, end in zip(planes, ways, ends, strict=True)]
    return b"".join((b"\x78\x01", *packed, struct.pack(">I", zlib.adler32(planes.data))))


def _deflated(plane: np.ndarray, way: tuple[int, int], end: int) -> bytes:
    packer = zlib.compressobj(way[0], zlib.DEFLATED, -15, 9, way[1])
    return packer.compress(plane.data) + packer.flush(end)
