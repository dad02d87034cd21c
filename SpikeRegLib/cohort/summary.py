"""What all rows of a cohort have in common: `summary.csv` and `summary.json`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from SpikeRegLib import __version__
from SpikeRegLib.cohort.folders import failure_of
from SpikeRegLib.cohort.manifest import Row
from SpikeRegLib.cohort.rows import DONE, FAILED, KEPT, Outcome, Plan, figures_of, known_result
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import finite_or_null
from SpikeRegLib.system.atomic_files import atomic_output

# Of a row that this run was not asked to do, and that has neither a result nor a reason why not.
MISSING = "missing"
# Columns of summary.csv that are figures of a result, in the reader's order.
FIGURES = (
    "verdict", "dice_before", "dice_after", "hd95_mm", "tre_before_mm", "tre_after_mm", "similarity_before",
    "similarity_after", "structure_agreement", "folding_percent", "sdlogj", "mean_mm", "inverse_consistency_mm",
    "spike_rate", "cpu_s", "wall_s", "peak_memory_mb", "preset", "version",
)  # fmt: skip
_ORDER = {"poor": 1, "check": 2, "good": 3}
_BEGINNINGS_OF_FORMULAS = "=+-@\t\r"


def on_disk(rows: Iterable[Row], plan: Plan) -> list[Outcome]:
    """How every row stands, from its folder, whoever did it; a result of other files or options does not count."""
    return [_on_disk(row, plan) for row in rows]


def _on_disk(row: Row, plan: Plan) -> Outcome:
    folder = Path(plan.out) / row.id
    failure = failure_of(folder)
    if failure is not None:
        code = failure.get("code")
        return Outcome(row.id, FAILED, {}, code if isinstance(code, int) else 1, str(failure.get("message", "")))
    try:
        known = known_result(row, plan)
    except InputError as error:
        return Outcome(row.id, FAILED, {}, error.exit_code, str(error))
    if known is not None:
        return Outcome(row.id, KEPT, figures_of(known))
    return Outcome(row.id, MISSING, {}, 1, "not done yet, or its files or options changed since")


def write_summary(outcomes: Sequence[Outcome], out: Path) -> None:
    """Write `summary.csv` and `summary.json`; each appears whole.

    Raises:
        InputError: they cannot be written.
    """
    write_table(outcomes, out / "summary.csv")
    with atomic_output(out / "summary.json") as temporary:
        table = finite_or_null(summary(outcomes))
        temporary.write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_table(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write all figures of all rows as CSV, or as TSV where the name ends so; it appears whole.

    Raises:
        InputError: it cannot be written.
    """
    with atomic_output(path) as temporary:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        temporary.write_bytes(_csv(outcomes, delimiter).encode("utf-8"))


def worst_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Failed rows, then poor, check and good ones; among equals in the order of their ids."""
    return sorted(outcomes, key=lambda each: (_ORDER.get(str(each.figures.get("verdict")), 0), each.id))


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The content of summary.json; what is done and has no verdict, as a segmentation, counts as done."""
    figures = [each.figures for each in outcomes if each.figures]
    states = [
        each.state if each.state in (FAILED, MISSING) else str(each.figures.get("verdict") or DONE) for each in outcomes
    ]
    return {
        "schema": 1,
        "versions": {"spikereg": __version__},
        "counts": {name: states.count(name) for name in (FAILED, MISSING, *_ORDER, DONE)},
        "figures": {name: _spread([row[name] for row in figures if _is_number(row.get(name))]) for name in FIGURES},
        "rows": [
            {"id": each.id, "state": each.state, **each.figures, "code": each.code, "message": each.message}
            for each in outcomes
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "count": len(values),
        "mean": fmean(values),
        "sd": stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _csv(outcomes: Iterable[Outcome], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(("id", "state", *FIGURES, "code", "message"))
    for each in outcomes:
        writer.writerow((each.id, each.state, *_cells(each.figures), each.code, _harmless(_message(each))))
    return text.getvalue()


def _message(outcome: Outcome) -> str:
    if outcome.message:
        return outcome.message
    return "; ".join([*outcome.figures.get("reasons", ()), *outcome.figures.get("warnings", ())])


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Figures as a spreadsheet reads them; what was not measured is empty."""
    values = (figures.get(name) for name in FIGURES)
    return [f"{v:.6g}" if isinstance(v, float) else "" if v is None else _harmless(str(v)) for v in values]


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] and text[0] in _BEGINNINGS_OF_FORMULAS else text
