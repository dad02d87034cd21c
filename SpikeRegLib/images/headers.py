"""What NIfTI, NRRD and MetaImage headers say of their voxels: checked before ITK, which some headers crash.

ITK reads origin and axes; here stands what it does not tell, or does not check: where the voxels lie, how many and of
which type they are, and in which unit the header measures.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from SpikeRegLib.errors import InputError

_LONGEST_HEADER = 1 << 20
_MOST_PACKED = 1100  # deflate makes nothing smaller than by 1,032
_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_NIFTI_UNITS = {1: 1e3, 3: 1e-3}
_META_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_ULONG_LONG": "u8", "MET_LONG_LONG": "i8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_NRRD_TYPES = {
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i1": ("signed char", "int8", "int8_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_UNITS_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1e-6),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e3),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}


@dataclass(frozen=True)
class NiftiForms:
    """Where a NIfTI header puts the voxels, twice: two matrices (i, j, k) -> RAS in the header's unit; None = unset.

    Attributes:
        sform, qform: [4, 4].
        codes: of both, in this order.
    """

    sform: np.ndarray | None
    qform: np.ndarray | None
    codes: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """What a header says of its voxels.

    Attributes:
        file: that holds the voxels: the header's own, or the one it names.
        start: byte of the file where the stream begins that holds them.
        packed: whether the stream is compressed (gzip or zlib).
        skip: bytes of the stream, unpacked, before the first voxel.
        sizes: of the stored axes, fastest first.
        dtype: of one stored value, with its byte order.
        scale: slope and intercept of what is stored, as floating point; None = as it is.
        vectors: "" for scalars; "first" or "last" says which stored axis holds components.
        turned: components are in RAS, not LPS.
        unit_mm: mm in the header's unit of length.
        itk_scales_spacing: whether ITK has applied that unit to the spacing.
        forms: of NIfTI.
    """

    file: Path
    start: int
    packed: bool
    skip: int
    sizes: tuple[int, ...]
    dtype: np.dtype
    scale: tuple[float, float] | None = None
    vectors: str = ""
    turned: bool = False
    unit_mm: float = 1.0
    itk_scales_spacing: bool = False
    forms: NiftiForms | None = None

    @property
    def bytes(self) -> int:
        """Of the voxels, unpacked."""
        return math.prod(self.sizes) * self.dtype.itemsize

    @property
    def holds_vectors(self) -> bool:
        """Whether these are three components on a 3-D grid."""
        axis = {"first": 0, "last": -1}.get(self.vectors)
        return axis is not None and self.sizes[axis] == 3 and len(self.sizes) == (4 if axis == 0 else 5)


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """The header of a NIfTI, NRRD or MetaImage file; None for what only ITK can judge.

    Raises:
        InputError: impossible, damaged, or of more voxels than there are bytes.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz", ".hdr", ".img", ".img.gz")):
            header = _nifti(path)
        elif name.endswith((".nrrd", ".nhdr")):
            header = _nrrd(path)
        elif name.endswith((".mha", ".mhd")):
            header = _meta(path)
        else:
            return None
        if header is not None:
            _check_room(header, path)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:  # ValueError: a name with a null byte
        raise damaged(path) from error
    return header


def damaged(path: str | os.PathLike[str], why: str = "the file is truncated or damaged") -> InputError:
    """The refusal of a file that has suffered."""
    return InputError(f"{path}: cannot be read, {why}; copy or download it again")


def _impossible(path: Path, what: str) -> InputError:
    return InputError(f"{path}: cannot be read, the header is impossible ({what}); repair it or export the image again")


def _check_room(header: Header, path: Path) -> None:
    """Whether the file can hold what its header announces: before memory is asked for."""
    present = os.path.getsize(header.file) - header.start
    needed = header.skip + header.bytes
    if needed > (present * _MOST_PACKED if header.packed else present):
        raise damaged(path)


# NIfTI ---------------------------------------------------------------------------------------------------------------


def _nifti(path: Path) -> Header | None:
    """NIfTI-1 in one file or two; None for Analyze and NIfTI-2."""
    file = _partner(path, ".hdr") if ".img" in path.name.lower() else path
    raw = _unpacked_head(file, 348)
    if len(raw) < 348:
        raise damaged(path)
    order = "<" if struct.unpack("<i", raw[:4])[0] == 348 else ">"
    magic = raw[344:348]
    if struct.unpack(order + "i", raw[:4])[0] != 348 or magic not in (b"n+1\0", b"ni1\0"):
        return None

    def number(kind: str, at: int) -> float:
        return struct.unpack_from(order + kind, raw, at)[0]

    count, *sizes = struct.unpack_from(order + "8h", raw, 40)
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise _impossible(path, f"{count} axes of {', '.join(map(str, sizes[: max(count, 0)]))} voxels")
    kind, offset = number("h", 70), number("f", 108)
    if not math.isfinite(offset) or offset < 0:
        raise _impossible(path, f"voxels at byte {offset:g}")
    if kind not in _NIFTI_TYPES:
        return None
    voxels = file if magic == b"n+1\0" else _partner(file, ".img")
    slope, intercept = number("f", 112), number("f", 116)
    slope = slope if math.isfinite(slope) and slope else 1.0  # as ITK has it
    intercept = intercept if math.isfinite(intercept) else 0.0
    intent, units = int(number("h", 68)), raw[123]
    is_vector = count == 5 and sizes[3] == 1 and intent in (1006, 1007)
    return Header(
        file=voxels,
        start=0,
        packed=_is_gzip(voxels),
        skip=int(offset),
        sizes=tuple(sizes[:count]),
        dtype=np.dtype(order + _NIFTI_TYPES[int(kind)]),
        scale=None if (slope, intercept) == (1, 0) else (slope, intercept),
        vectors="last" if is_vector else "",
        turned=is_vector and intent == 1006,
        unit_mm=_NIFTI_UNITS.get(units & 7, 1.0),
        itk_scales_spacing=True,
        forms=_forms(raw, order),
    )


def _forms(raw: bytes, order: str) -> NiftiForms:
    qform_code, sform_code = struct.unpack_from(order + "2h", raw, 252)
    pixdim = np.array(struct.unpack_from(order + "8f", raw, 76))
    b, c, d, *offset = struct.unpack_from(order + "6f", raw, 256)
    sform, qform = np.eye(4), np.eye(4)
    sform[:3] = np.reshape(struct.unpack_from(order + "12f", raw, 280), (3, 4))
    rest = 1 - (b * b + c * c + d * d)
    if rest < 1e-7:  # half a turn
        length = math.sqrt(b * b + c * c + d * d) or 1.0
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = math.sqrt(rest)
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    qform[:3, :3] = turn * pixdim[1:4] * [1, 1, -1 if pixdim[0] < 0 else 1]
    qform[:3, 3] = offset
    return NiftiForms(
        sform if sform_code > 0 else None, qform if qform_code > 0 else None, (int(sform_code), int(qform_code))
    )


def _partner(path: Path, ending: str) -> Path:
    """The other file of a pair x.hdr, x.img, packed or not."""
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    plain = path.with_name(stem + ending)
    return plain if plain.is_file() else path.with_name(stem + ending + ".gz")


def _unpacked_head(path: Path, count: int) -> bytes:
    with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
        return file.read(count)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


# NRRD ----------------------------------------------------------------------------------------------------------------


def _nrrd(path: Path) -> Header | None:
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD"):
            return None
        fields: dict[str, str] = {}
        while line := _line(file, path):
            key, colon, value = line.partition(":")
            if colon and not line.startswith("#") and not value.startswith("="):
                fields[key.strip().lower()] = value.strip()
        start = file.tell()
    dimension, sizes = _whole(fields.get("dimension")), _wholes(fields.get("sizes"))
    if dimension is None or not 1 <= dimension <= 16 or len(sizes) != dimension or min(sizes) < 1:
        raise _impossible(path, f"dimension: {fields.get('dimension')}, sizes: {fields.get('sizes')}")
    kind = next((code for code, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    encoding = fields.get("encoding", "").lower()
    skips = [fields.get(name, "0") for name in ("line skip", "lineskip", "byte skip", "byteskip")]
    if kind is None or encoding not in ("raw", "gzip", "gz") or any(skip != "0" for skip in skips):
        return None
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (name.upper().startswith("LIST") or "%" in name):
        return None
    kinds = fields.get("kinds", "").lower().split()
    vectors = "first" if dimension == 4 and kinds and kinds[0] not in ("domain", "space", "???", "none") else ""
    units = fields.get("space units") if "space" in fields or "space dimension" in fields else fields.get("units")
    return Header(
        file=path if name is None else path.parent / name,
        start=start if name is None else 0,
        packed=encoding != "raw",
        skip=0,
        sizes=tuple(sizes),
        dtype=np.dtype((">" if fields.get("endian", "").lower() == "big" else "<") + kind),
        vectors=vectors,
        unit_mm=_unit_mm(re.findall(r'"([^"]*)"', units or ""), path),
    )


def _unit_mm(units: Sequence[str], path: Path) -> float:
    """Mm in the one unit of all axes that have one."""
    named = {unit.strip() for unit in units} - {"", "???", "none"}
    if not named:
        return 1.0
    factors = {_UNITS_MM.get(unit.lower()) for unit in named}
    if len(factors) > 1 or None in factors:
        raise InputError(
            f"{path}: the header measures in {', '.join(sorted(named))}; write all axes in mm (or in um, cm or m)"
        )
    return factors.pop() or 1.0


# MetaImage -----------------------------------------------------------------------------------------------------------


def _meta(path: Path) -> Header | None:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while (line := _line(file, path)) is not None:
            key, equals, value = line.partition("=")
            if not equals:
                continue
            key, value = key.strip(), value.strip()
            if fields.setdefault(key, value) != value:
                raise _impossible(path, f"{key} is given twice")
            if key == "ElementDataFile":
                break
        start = file.tell()
    if "ElementDataFile" not in fields and "NDims" not in fields:
        return None
    _check_meta(fields, path)
    kind, name = _META_TYPES.get(fields.get("ElementType", "")), fields["ElementDataFile"]
    words = name.split()
    if kind is None or not words or words[0] == "LIST" or len(words) > 1 or "%" in name:
        return None
    if _is_true(fields, "BinaryData") is False or _whole(fields.get("HeaderSize", "0")) != 0:
        return None
    local = name.upper() == "LOCAL"
    channels = _whole(fields.get("ElementNumberOfChannels", "1")) or 1
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    sizes = _wholes(fields["DimSize"])
    return Header(
        file=path if local else path.parent / name,
        start=start if local else 0,
        packed=bool(_is_true(fields, "CompressedData")),
        skip=0,
        sizes=tuple(sizes) if channels == 1 else (channels, *sizes),
        dtype=np.dtype((">" if big else "<") + kind),
        vectors="" if channels == 1 else "first",
        unit_mm=_unit_mm([fields.get("DistanceUnits", "")], path),
    )


def _check_meta(fields: Mapping[str, str], path: Path) -> None:
    """Refuse what MetaIO would write beyond its arrays for."""
    axes, sizes = _whole(fields.get("NDims")), _wholes(fields.get("DimSize"))
    if axes is None or not 1 <= axes <= 10:
        raise _impossible(path, f"NDims = {fields.get('NDims')}")
    if len(sizes) != axes or min(sizes) < 1:
        raise _impossible(path, f"NDims = {axes}, DimSize = {fields.get('DimSize')}")
    channels = _whole(fields.get("ElementNumberOfChannels", "1"))
    if channels is None or not 1 <= channels <= 4096:
        raise _impossible(path, f"ElementNumberOfChannels = {fields['ElementNumberOfChannels']}")
    if "ElementDataFile" not in fields:
        raise _impossible(path, "no ElementDataFile")
    for key in ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"):
        if key in fields and len(fields[key].split()) != axes:
            raise _impossible(path, f"{key} = {fields[key]}")
    for key in ("TransformMatrix", "Rotation", "Orientation"):
        if key in fields and len(fields[key].split()) != axes**2:
            raise _impossible(path, f"{key} = {fields[key]}")


def _is_true(fields: Mapping[str, str], key: str) -> bool | None:
    return fields[key][:1] in ("T", "t", "1") if key in fields else None


# Lines and numbers ---------------------------------------------------------------------------------------------------


def _line(file: BinaryIO, path: Path) -> str | None:
    """The next line of a header; None at the end of the file."""
    if file.tell() > _LONGEST_HEADER:
        raise _impossible(path, "it does not end")
    raw = file.readline(_LONGEST_HEADER)
    return raw.decode("utf-8", errors="replace").rstrip("\r\n") if raw else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[+-]?\d{1,18}", text.strip()) else None


def _wholes(text: str | None) -> list[int]:
    """The whole numbers of a line; [] if one is none."""
    found = [_whole(word) for word in (text or "").split()]
    return [] if None in found else [number for number in found if number is not None]
