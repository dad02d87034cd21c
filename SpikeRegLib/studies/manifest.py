"""Manifests: a CSV file with one pair a line, the same for `spikereg cohort`, which registers, and `evaluate`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.pairs import Study, StudyPair, check_ids

_KINDS = ("seg", "points")
_PATHS = ("fixed", "moving", "fixed_seg", "moving_seg", "fixed_points", "moving_points")
COLUMNS = ("id", *_PATHS)


def read_manifest(path: Path) -> Study:
    """Read the pairs of a manifest.

    Columns: `id`; `fixed_seg` and `moving_seg`, or `fixed_points` and `moving_points`, or all four; and where they are
    known `fixed` and `moving` (images), `fixed_subject` and `moving_subject`. Others, such as options of a
    registration, are not read. Paths are relative to the folder of the manifest. Without subjects, a file stands for
    one, and a pair that shares no file with another pair is a subject of its own.

    Raises:
        InputError: missing or unreadable file; a column that is missing or comes twice; a line with too many or too few
            cells; no pairs; ids that are no plain names or come twice; half of two files that belong together, or none.
    """
    rows = _rows(path)
    check_ids([row["id"] for _, row in rows], str(path))
    pairs = [_pair(row, path, number) for number, row in rows]
    used = Counter(subject for pair in pairs for subject in pair.subjects)
    shared = [max(used[subject] for subject in pair.subjects) > 1 for pair in pairs]
    return Study(
        str(path),
        tuple(
            pair if joined or row.get("fixed_subject") else replace(pair, subjects=(pair.id, pair.id))
            for pair, joined, (_, row) in zip(pairs, shared, rows, strict=True)
        ),
    )


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); give a table with a heading line") from error
    head = lines[0][1] if lines else []
    for name in head:
        if name and head.count(name) > 1:
            raise InputError(f"{path}: the column {name} comes twice; give it once")
    if "id" not in head:
        raise InputError(f"{path}: has no column id; give a heading line such as id,fixed_seg,moving_seg")
    if not any({f"fixed_{kind}", f"moving_{kind}"} <= set(head) for kind in _KINDS):
        raise InputError(
            f"{path}: has no columns fixed_seg and moving_seg, nor fixed_points and moving_points; add those to measure"
        )
    for number, cells in lines[1:]:
        if len(cells) != len(head):
            raise InputError(f"{path}: line {number} has {len(cells)} cells and the heading {len(head)}; repair it")
    return [(number, dict(zip(head, cells, strict=True))) for number, cells in lines[1:]]


def _pair(row: dict[str, str], path: Path, number: int) -> StudyPair:
    files = {name: path.parent / row[name] for name in _PATHS if row.get(name)}
    for kind in _KINDS:
        if (f"fixed_{kind}" in files) != (f"moving_{kind}" in files):
            missing = "moving" if f"fixed_{kind}" in files else "fixed"
            raise InputError(f"{path}: line {number} has no {missing}_{kind}; give both or neither")
    measured = [kind for kind in _KINDS if f"fixed_{kind}" in files]
    if not measured:
        raise InputError(f"{path}: line {number} has neither segmentations nor points; give one of these pairs")
    return StudyPair(
        row["id"],
        fixed=files.get("fixed"),
        moving=files.get("moving"),
        fixed_seg=files.get("fixed_seg"),
        moving_seg=files.get("moving_seg"),
        fixed_points=files.get("fixed_points"),
        moving_points=files.get("moving_points"),
        subjects=(
            row.get("fixed_subject") or str(files[f"fixed_{measured[0]}"]),
            row.get("moving_subject") or str(files[f"moving_{measured[0]}"]),
        ),
    )


def manifest_text(rows: Iterable[dict[str, str]]) -> str:
    """The text of a manifest; columns that no row fills are left out.

    Args:
        rows: column -> cell, of `COLUMNS`.
    """
    rows = list(rows)
    used = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
