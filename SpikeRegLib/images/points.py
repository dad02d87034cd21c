"""Landmarks: Slicer markups (.fcsv, .mrk.json) and plain CSV, as LPS mm."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.ranges import COORDINATE_MM, within

POINT_EXTENSIONS = (".fcsv", ".json", ".csv")
_FLIP = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)  # RAS <-> LPS


def read_points(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read landmarks, in the order of the file.

    `.fcsv` and `.json` follow the coordinate system their header names (Slicer's defaults where it names none: RAS for
    .fcsv without a header, LPS for .json) and the units, mm or um. `.csv` holds x,y,z in LPS mm, with or without a
    heading line.

    Returns:
        [N, 3] float64 LPS mm.

    Raises:
        InputError: missing or unreadable file, no points, a point that is not placed, or not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    readers = {".fcsv": _read_fcsv, ".json": _read_json, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown point file type; use .fcsv, .mrk.json or .csv")
    try:
        points = readers[path.suffix.lower()](path)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, csv.Error, OSError) as error:
        raise InputError(f"{path}: cannot be read as points ({error}); give x,y,z for every point") from error
    if len(points) == 0:
        raise InputError(f"{path}: holds no points; place some, or leave the option out")
    if not torch.isfinite(points).all():
        raise InputError(f"{path}: a coordinate is NaN or infinite; correct the point")
    try:
        within("coordinate in mm", float(points.flatten()[points.abs().argmax()]), *COORDINATE_MM)
    except ValueError as error:
        raise InputError(f"{path}: {error}; check the units") from error
    return points


def write_points(points: torch.Tensor, path: str | os.PathLike[str]) -> None:
    """Write [N, 3] LPS mm as .fcsv, .mrk.json or .csv (x,y,z, with a heading); the file appears complete or not at all.

    Raises:
        InputError: an unknown extension, or a folder that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    rows = [[float(v) for v in point] for point in points]
    if suffix == ".csv":
        text = "x,y,z\n" + "".join(f"{x:.6f},{y:.6f},{z:.6f}\n" for x, y, z in rows)
    elif suffix == ".fcsv":
        head = "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
        head += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        text = head + "".join(
            f"{n},{x:.6f},{y:.6f},{z:.6f},0,0,0,1,1,1,0,F-{n},,\n" for n, (x, y, z) in enumerate(rows, 1)
        )
    elif suffix == ".json":
        text = json.dumps(_markups(rows), indent=1)
    else:
        raise InputError(f"{path}: unknown point file type; use .fcsv, .mrk.json or .csv")
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_inside(points: torch.Tensor, frame: Frame, name: str) -> None:
    """Refuse landmarks outside the image (more than half a voxel beyond the outermost voxel centres).

    Raises:
        InputError: naming the file and the first such point.
    """
    index = frame.to_index(points.double().numpy())
    outside = ((index < -0.5) | (index > np.asarray(frame.size) - 0.5)).any(1)
    if outside.any():
        first = int(outside.argmax())
        where = ", ".join(f"{v:.1f}" for v in points[first].tolist())
        raise InputError(
            f"{name}: {int(outside.sum())} of {len(points)} points lie outside the image, the first is number "
            f"{first + 1} at LPS ({where}) mm; check image and coordinate system"
        )


def _read_fcsv(path: Path) -> torch.Tensor:
    """As Slicer reads it: what no header says is of Slicer 3, in RAS; x, y, z are always the second to fourth column.

    A header that Slicer versions read differently, or otherwise than it says, is refused: it would flip the points.
    """
    version, system, rows = "", "", []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        key, _, value = (part.strip() for part in line.lstrip("# ").partition("="))
        if line.startswith("#"):
            if key == "Markups fiducial file version":
                version = value
            elif key == "CoordinateSystem":
                system = {"0": "RAS", "1": "LPS"}.get(value, value)
            elif key == "columns" and [name.strip() for name in value.split(",")][1:4] != ["x", "y", "z"]:
                raise ValueError(f"columns {value}, where Slicer has x,y,z as the second to fourth")
        elif line.strip():
            rows.append(next(csv.reader([line]))[1:4])
    if version and not system:
        raise ValueError("a version but no coordinate system; add the line '# CoordinateSystem = LPS' or RAS")
    if system not in ("", "RAS") and not version:
        raise ValueError(
            f"coordinate system {system} but no version, which Slicer reads as RAS; "
            "begin it with '# Markups fiducial file version = 4.11'"
        )
    return _to_lps([_three(number, map(float, row)) for number, row in enumerate(rows, 1)], system or "RAS")


def _read_json(path: Path) -> torch.Tensor:
    lists = [markup for markup in read_json(path.read_bytes())["markups"] if markup]
    if len(lists) != 1:
        raise ValueError(f"{len(lists)} lists of points where one is expected; save each to a file of its own")
    points = []
    for number, point in enumerate(lists[0]["controlPoints"], 1):
        position = point.get("position")
        if point.get("positionStatus", "defined") != "defined" or position is None:
            raise ValueError(f"point {number} is not placed")
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in position):
            raise ValueError(f"point {number} has the position {position}")
        points.append(_three(number, position))
    system = str(lists[0].get("coordinateSystem", "LPS"))
    units = lists[0].get("coordinateUnits", "mm")
    unit = units[0] if isinstance(units, list) and units else units  # a DICOM code: value, scheme, meaning
    if unit not in ("mm", "um"):
        raise ValueError(f"coordinates in {unit}; save them in mm")
    found = _to_lps(points, {"0": "RAS", "1": "LPS"}.get(system, system))
    return found / 1000 if unit == "um" else found


def _read_csv(path: Path) -> torch.Tensor:
    rows = [
        row
        for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        if row and row[0].strip()[:1] != "#"
    ]
    columns = [0, 1, 2]
    names = [cell.strip().lower() for cell in rows[0]] if rows else []
    if {"x", "y", "z"} <= set(names):
        columns, rows = [names.index(axis) for axis in "xyz"], rows[1:]
    return _to_lps([[float(row[c]) for c in columns] for row in rows], "LPS")


def _three(number: int, values: Iterable[float]) -> list[float]:
    found = list(values)
    if len(found) != 3:
        raise ValueError(f"point {number} has {len(found)} coordinates")
    return found


def _to_lps(points: list[list[float]], system: str) -> torch.Tensor:
    if system not in ("LPS", "RAS"):
        raise ValueError(f"coordinate system {system}")
    tensor = torch.tensor(points, dtype=torch.float64).reshape(-1, 3)
    return tensor * _FLIP if system == "RAS" else tensor


def _markups(rows: list[list[float]]) -> dict[str, Any]:
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    points = [
        {"id": str(n), "label": f"F-{n}", "position": row, "positionStatus": "defined"} for n, row in enumerate(rows, 1)
    ]
    return {
        "@schema": schema + "markups-schema-v1.0.3.json#",
        "markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}],
    }
