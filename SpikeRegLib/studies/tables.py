"""The tables of a study: CSV files for spreadsheets and statistics, and text to be read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

from SpikeRegLib.studies.figures import FIGURES, OF_LABELS

_MOST_LABELS = 60  # that are printed


def per_pair_csv(evaluation: Mapping[str, Any]) -> str:
    """One line a pair, then `mean` and `sd` over the pairs; what a pair lacks is empty.

    Args:
        evaluation: as `evaluate_study` returns it.
    """
    names = list(evaluation["summary"])
    rows: list[list[Any]] = [["id", *names]]
    for key, pair in evaluation["pairs"].items():
        rows.append([key, *(pair["figures"].get(name, "") for name in names)])
    for what in ("mean", "sd"):
        rows.append([what, *(evaluation["summary"][name][what] for name in names)])
    return _csv(rows)


def per_label_csv(evaluation: Mapping[str, Any]) -> str:
    """One line a label: in how many pairs it is, and mean and SD over them of each figure."""
    names = [figure.name for figure in OF_LABELS]
    rows: list[list[Any]] = [["label", "pairs", *(f"{name}_{what}" for name in names for what in ("mean", "sd"))]]
    for label, summary in evaluation["labels"].items():
        values = [summary[name][what] if name in summary else "" for name in names for what in ("mean", "sd")]
        rows.append([label, summary["dice"]["pairs"], *values])
    return _csv(rows)


def printed_table(evaluation: Mapping[str, Any]) -> list[str]:
    """Lines with mean ± SD over the pairs, for all labels together and for each, and the pairs that failed."""
    pairs, failed = evaluation["pairs"], evaluation["failed"]
    lines = [f"{evaluation['study']}: {len(pairs)} of {len(pairs) + len(failed)} pairs, mean ± SD over pairs"]
    lines += _aligned([[FIGURES[name].title, _of(summary, name)] for name, summary in evaluation["summary"].items()])
    labels = list(evaluation["labels"].items())
    if labels:
        head = ["label", *(figure.title for figure in OF_LABELS)]
        rows = [
            [label, *(_of(row[figure.name], figure.name) if figure.name in row else "-" for figure in OF_LABELS)]
            for label, row in labels[:_MOST_LABELS]
        ]
        lines += ["", *_aligned([head, *rows])]
        if len(labels) > _MOST_LABELS:
            lines.append(f"and {len(labels) - _MOST_LABELS} more labels in per_label.csv")
    if failed:
        lines += ["", "not measured:", *(f"  {pair['id']}: {pair['reason']}" for pair in failed)]
    return lines


def _of(summary: Mapping[str, float], name: str) -> str:
    digits = FIGURES[name].digits
    values = [f"{value:.{digits}f}" if math.isfinite(value) else "inf" for value in (summary["mean"], summary["sd"])]
    return values[0] if values[0] == "inf" else " ± ".join(values)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _csv(rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
