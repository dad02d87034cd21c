"""A reader of HDF5 files that follows the File Format Specification 3.0 to the letter, and refuses whatever it does not
allow: of what transform files need, and no more. ITK's own reader forgives much that other programs need not."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

UNDEFINED = 2**64 - 1
# Where a superblock of version 0 is written: children of a node for chunks, and the smallest global heap.
MOST_CHILDREN, SMALLEST_HEAP = 64, 4096


def read_hdf5(path: Path) -> dict[str, Any]:
    """Groups as dictionaries; of a dataset its numbers, or its text."""
    return _File(path.read_bytes()).root()


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken: dict[int, int] = {}

    def root(self) -> dict[str, Any]:
        assert self._take(0, 96)[:8] == b"\x89HDF\r\n\x1a\n"
        versions, sizes = self._data[8:13], self._data[13:16]
        assert versions == bytes(5) and sizes == b"\x08\x08\0"  # addresses and lengths of eight bytes
        assert struct.unpack_from("<HHI", self._data, 16) == (4, 16, 0)  # as the HDF5 library has them
        assert struct.unpack_from("<4Q", self._data, 24) == (0, UNDEFINED, len(self._data), UNDEFINED)
        name, header, cached, reserved = struct.unpack_from("<QQII", self._data, 56)
        assert (name, cached, reserved) == (0, 0, 0) and not any(self._data[80:96])
        content = self._object(header)
        ends = sorted(self._taken.items())
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends)), "two objects overlap"
        return content

    def _take(self, address: int, size: int) -> bytes:
        """Bytes of an object of its own."""
        assert address % 8 == 0 and address + size <= len(self._data)
        assert self._taken.setdefault(address, address + size) == address + size
        return self._data[address : address + size]

    def _object(self, address: int) -> Any:
        version, reserved, count, references, size = struct.unpack_from("<BBHII", self._data, address)
        assert (version, reserved, references) == (1, 0, 1)
        content = self._take(address, 16 + size)[16:]
        assert not any(self._data[address + 12 : address + 16])
        messages: list[tuple[int, bytes]] = []
        while content:
            kind, length, flags = struct.unpack_from("<HHB", content)
            assert length % 8 == 0 and flags == 0 and not any(content[5:8])
            messages.append((kind, content[8 : 8 + length]))
            content = content[8 + length :]
        assert len(messages) == count
        return self._group(messages) if messages[0][0] == 2 else self._dataset(dict(messages))

    def _group(self, messages: list[tuple[int, bytes]]) -> dict[str, Any]:
        (_, info), (kind, constants), *links = messages
        # All links are here: neither a heap nor a tree has more.
        assert struct.unpack_from("<BBQQ", info) == (0, 0, UNDEFINED, UNDEFINED)
        assert kind == 10 and not any(constants)
        group = {}
        for kind, link in links:
            version, flags, length = struct.unpack_from("<BBB", link)
            assert (kind, version, flags) == (6, 1, 0)
            (address,) = struct.unpack_from("<Q", link, 3 + length)
            group[link[3 : 3 + length].decode()] = self._object(address)
        return group

    def _dataset(self, messages: dict[int, bytes]) -> Any:
        version, rank, flags, size = struct.unpack_from("<BBB5xQ", messages[1])
        assert (version, rank, flags) == (1, 1, 0)
        version, allocated, written, defined = messages[5][:4]
        assert version == 2 and allocated in (1, 2, 3) and written in (0, 1, 2) and not defined
        version, layout = messages[8][:2]
        assert version == 3
        width = struct.unpack_from("<I", messages[3], 4)[0]
        if layout == 1:
            address, length = struct.unpack_from("<QQ", messages[8], 2)
            assert length == size * width
            data = self._take(address, length)
        else:
            assert layout == 2
            data = self._chunks(messages[8], messages[11], size, width)
        return self._texts(data)[0] if messages[3][0] == 0x19 else _floats(data, messages[3])

    def _chunks(self, layout: bytes, filters: bytes, size: int, width: int) -> bytes:
        dimensions, address, nodes, element = struct.unpack_from("<BQII", layout, 2)
        assert dimensions == 2 and element == width
        assert filters[:8] == b"\x01\x02" + bytes(6)
        # Shuffled, then deflated, both as the HDF5 library asks for it: it may be left out where it does not pay.
        assert struct.unpack_from("<HHHHII", filters, 8) == (2, 0, 1, 1, width, 0)
        assert struct.unpack_from("<HHHHII", filters, 24) == (1, 0, 1, 1, 1, 0)
        node = self._take(address, 24 + 24 * (MOST_CHILDREN + 1) + 8 * MOST_CHILDREN)
        kind, level, count, left, right = struct.unpack_from("<BBHQQ", node, 4)
        assert node[:4] == b"TREE" and (kind, level, left, right) == (1, 0, UNDEFINED, UNDEFINED)
        assert 0 < count <= MOST_CHILDREN and (count - 1) * nodes < size <= count * nodes
        whole = b""
        for number in range(count):
            length, left_out, first, byte, child = struct.unpack_from("<IIQQQ", node, 24 + 32 * number)
            assert (left_out, first, byte) == (0, number * nodes, 0)
            planes = np.frombuffer(zlib.decompress(self._take(child, length)), np.uint8)
            assert planes.size == nodes * width
            whole += planes.reshape(width, nodes).T.tobytes()
        assert struct.unpack_from("<IIQQ", node, 24 + 32 * count) == (0, 0, count * nodes, 0)
        return whole[: size * width]

    def _texts(self, data: bytes) -> list[str]:
        texts = []
        for length, address, wanted in struct.iter_unpack("<IQI", data):
            objects = self._heap(address)
            assert len(objects[wanted]) == length
            texts.append(objects[wanted].decode("ascii"))
        return texts

    def _heap(self, address: int) -> dict[int, bytes]:
        version, size = struct.unpack_from("<B3xQ", self._data, address + 4)
        heap = self._take(address, size)
        assert heap[:4] == b"GCOL" and version == 1 and not any(heap[5:8]) and size >= SMALLEST_HEAP
        objects, at = {}, 16
        while True:
            number, references, reserved, length = struct.unpack_from("<HHIQ", heap, at)
            assert reserved == 0
            if number == 0:  # what is free, its head included
                assert references == 0 and length == size - at and not any(heap[at + 16 :])
                return objects
            assert references == 1 and number not in objects
            objects[number] = heap[at + 16 : at + 16 + length]
            at += 16 + length + -length % 8


def _floats(data: bytes, datatype: bytes) -> np.ndarray:
    """Numbers from what their datatype says of their bits, and nothing else."""
    kind, order, sign, unused, width = struct.unpack_from("<BBBBI", datatype)
    begin, precision, exponent, bits, mantissa, digits, bias = struct.unpack_from("<HHBBBBI", datatype, 8)
    # Version 1, floating point; little-endian, padded with zeros, the first digit of the mantissa implied.
    assert (kind, order, unused) == (0x11, 0x20, 0) and begin == 0 and precision == 8 * width
    stored = np.frombuffer(data, f"<u{width}").astype(np.uint64)

    def part(first: int, count: int) -> np.ndarray:
        return (stored >> np.uint64(first)) & np.uint64(2**count - 1)

    fraction, power = part(mantissa, digits) / 2.0**digits, part(exponent, bits).astype(np.int64)
    size = np.where(power > 0, np.ldexp(1 + fraction, power - bias), np.ldexp(fraction, 1 - bias))
    assert 1 + bits + digits == precision and (power < 2**bits - 1).all()
    return np.where(part(sign, 1) > 0, -size, size)
