"""Whether an ITK transform file has as many numbers as its own grid asks for: ITK crashes on some that have not."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from SpikeRegLib.errors import InputError

# Their fixed parameters are size, origin, spacing and direction cosines of a grid.
_GRIDS = ("BSpline", "DisplacementField")
_NAME_LENGTH = 256


def check_transform_file(path: str | os.PathLike[str]) -> None:
    """Check a text (.tfm, .txt) or MATLAB (.mat) transform file; others are left to ITK.

    Raises:
        InputError: it ends early, or a grid has another number of values than its size says.
    """
    path = Path(path)
    read = {".tfm": _of_text, ".txt": _of_text, ".mat": _of_matlab}.get(path.suffix.lower())
    for name, parameters, fixed in read(path) if read else ():
        if any(grid in name for grid in _GRIDS):
            _check_grid(name, parameters, fixed, path)


def _check_grid(name: str, parameters: int, fixed: Sequence[float], path: Path) -> None:
    axes = round((math.sqrt(9 + 4 * len(fixed)) - 3) / 2)  # of axes * (3 + axes) numbers
    sizes = fixed[:axes]
    size = " x ".join(f"{value:g}" for value in sizes)
    if axes * (3 + axes) != len(fixed) or not all(value >= 1 and value == value // 1 for value in sizes):
        raise _impossible(path, f"{name} on a grid of {size or 'no size'}")
    if math.prod(int(value) for value in sizes) * axes != parameters:
        raise _impossible(path, f"{name} on a grid of {size} with {parameters} parameters")


def _impossible(path: Path, what: str) -> InputError:
    return InputError(f"{path}: cannot be read as a transform ({what}); write it again")


def _of_text(path: Path) -> Iterator[tuple[str, int, list[float]]]:
    """Name, number of parameters and fixed parameters of every transform."""
    name, parameters = "", 0
    with path.open("rb") as file:
        for line in file:
            key, _, rest = line.partition(b":")
            if key.strip() == b"Transform":
                name, parameters = rest.strip().decode(errors="replace"), 0
            elif key.strip() == b"Parameters":
                parameters = len(rest.split())
            elif key.strip() == b"FixedParameters":
                try:
                    yield name, parameters, [float(word) for word in rest.split()]
                except ValueError as error:
                    raise _impossible(path, "a fixed parameter is no number") from error


def _of_matlab(path: Path) -> Iterator[tuple[str, int, list[float]]]:
    """The same of MATLAB's first binary format: matrices named after the transform and "fixed" by turns."""
    end = path.stat().st_size
    name, parameters = "", 0
    with path.open("rb") as file:
        while file.tell() < end:
            head = file.read(20)
            if len(head) < 20:
                raise _impossible(path, "it ends early")
            kind, rows, columns, _, length = struct.unpack("<5i", head)
            if kind not in (0, 10):  # double and single; else of another byte order, or no transform: ITK's to judge
                return
            word = file.read(length).rstrip(b"\0").decode(errors="replace") if 0 <= length <= _NAME_LENGTH else ""
            count, width = rows * columns, 4 if kind else 8
            if not word or min(rows, columns) < 0 or file.tell() + count * width > end:
                raise _impossible(path, "it ends early")
            values = file.read(count * width)
            if word == "fixed":
                yield name, parameters, list(struct.unpack(f"<{count}{'f' if kind else 'd'}", values))
            name, parameters = word, count
