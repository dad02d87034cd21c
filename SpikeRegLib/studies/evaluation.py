"""All pairs of a study measured, one after another, and put together: figures of pairs, of labels, means and SDs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.figures import FIGURES
from SpikeRegLib.studies.measure import Measured, measure
from SpikeRegLib.studies.pairs import Study
from SpikeRegLib.studies.results import check_results, expected, is_voxel_field, transform_of
from SpikeRegLib.system import interrupt

SCHEMA = 1


def evaluate_study(
    study: Study,
    results: Path,
    *,
    groups: Mapping[int, int] | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every pair of a study that can be measured.

    Args:
        study: the pairs, transforms fixed to moving.
        results: the folder with a transform for each, see `results.transform_of`.
        groups: label -> group, to merge labels first.
        told: hears a line after every pair.

    Returns:
        What evaluation.json says. `pairs`: id -> `subjects`, `displacements` (mm or voxels, as in its file), `figures`
        (name -> value) and `labels` (label -> name -> value). `failed`: the pairs that could not be measured, with `id`
        and `reason`. `summary` and `labels`: name -> `mean`, `sd` and `pairs`, over the pairs. Standard deviations
        divide by the number of pairs, as Learn2Reg's do. `definitions`: name -> what it is.

    Raises:
        InputError: no transform of any pair, or no pair that can be measured.
        Cancelled: a signal told the run to stop.
    """
    check_results(results, study)
    found: dict[str, Any] = {}
    failed: list[dict[str, str]] = []
    for number, pair in enumerate(study.pairs, 1):
        interrupt.check()
        path = transform_of(results, pair)
        try:
            if path is None:
                raise InputError(f"{expected(results, pair)}: no such file; register the pair first")
            measured = measure(pair, path, labels=study.labels, groups=groups)
        except InputError as error:
            failed.append({"id": pair.id, "reason": " ".join(str(error).split())})
            told(f"{number}/{len(study.pairs)} {pair.id}: {failed[-1]['reason']}")
            continue
        found[pair.id] = _entry(measured, pair.subjects, path)
        told(f"{number}/{len(study.pairs)} {pair.id}")
    if not found:
        raise InputError(f"{results}: none of {len(failed)} pairs can be measured; the first: {failed[0]['reason']}")
    summary = _summary([pair["figures"] for pair in found.values()])
    names = sorted({label for pair in found.values() for label in pair["labels"]}, key=int)
    return {
        "schema": SCHEMA,
        "study": study.name,
        "results": str(results),
        "pairs": found,
        "failed": failed,
        "summary": summary,
        "labels": {
            label: _summary([pair["labels"][label] for pair in found.values() if label in pair["labels"]])
            for label in names
        },
        "definitions": {name: FIGURES[name].definition for name in summary},
        "sd": "divides by the number of pairs",
    }


def _entry(measured: Measured, subjects: tuple[str, str], path: Path) -> dict[str, Any]:
    return {
        "subjects": list(subjects),
        "displacements": "voxels" if is_voxel_field(path) else "mm",
        "figures": {name: measured.figures[name] for name in FIGURES if name in measured.figures},
        "labels": {str(label): row for label, row in measured.labels.items()},
    }


def _summary(rows: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """name -> mean and standard deviation over the rows that have it, and how many these are."""
    rows = list(rows)
    summary = {}
    for name in FIGURES:
        values = np.array([row[name] for row in rows if name in row])
        if len(values):
            sd = float(values.std()) if np.isfinite(values).all() else float("nan")
            summary[name] = {"mean": float(values.mean()), "sd": sd, "pairs": len(values)}
    return summary
