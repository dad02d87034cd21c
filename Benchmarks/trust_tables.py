"""Tables of what a result says of itself, from their result files."""

from __future__ import annotations

import numpy as np
from cohort_tables import markdown_table, read
from roc import area_under_curve

LEVELS = ("good", "check", "poor")

CALIBRATION = {
    "cases": ("cases", "{}"),
    "true_mm": ("true error, mm", "{:.2f}"),
    "expected_mm": ("predicted, mm", "{:.2f}"),
    "bound_holds": ("below the 90 % bound", "{:.1%}"),
    "bound_holds_lowest": ("in the worst case", "{:.0%}"),
    "correlation": ("correlation", "{:.2f}"),
    "auc_2_mm": ("AUC of worse than 2 mm", "{:.2f}"),
}


def phantoms_table() -> str:
    """What `spikereg phantom` measured."""
    columns = {
        "moved_mean_mm": "moved, mean mm", "error_mean_mm": "error, mean mm", "error_p95_mm": "95th percentile",
        "error_max_mm": "most", "inverse_error_mean_mm": "inverse, mean mm", "predicted_mean_mm": "predicted, mean mm",
    }  # fmt: skip
    lines = [
        [name, *(f"{row[key]:.2f}" for key in columns), row["verdict"], "yes" if row["passed"] else "no"]
        for name, row in read("phantoms")["phantoms"].items()
    ]
    return markdown_table(["phantom", *columns.values(), "verdict", "tolerance kept"], lines)


def calibration_table() -> str:
    """Predicted and true errors."""
    data = read("error_calibration")
    lines = []
    for group in ("held out", "development"):
        for name, row in data[group].items():
            cells = ["-" if row[key] is None else text.format(row[key]) for key, (_, text) in CALIBRATION.items()]
            lines.append([f"{name} ({group})", *cells])
    return markdown_table(["points of", *(heading for heading, _ in CALIBRATION.values())], lines)


def verdict_table() -> str:
    """How often results that are right or wrong are called good, check and poor."""
    levels: dict[str, list[int]] = {}
    for rows in read("wrong_pairs").values():
        for row in rows:
            levels.setdefault(row["kind"], []).append(LEVELS.index(row["verdict"]["level"]))
    lines = [
        [kind, str(len(found)), *(str(found.count(level)) for level in range(len(LEVELS)))]
        for kind, found in sorted(levels.items(), key=lambda each: (each[0] != "right", each[0]))
    ]
    right = levels.pop("right")
    wrong = [level for found in levels.values() for level in found]
    higher = area_under_curve(np.array(right + wrong), np.arange(len(right) + len(wrong)) >= len(right))
    note = (
        f"{len(right) + len(wrong)} results; area under the curve {higher:.3f} (of a wrong result and a right one, "
        f"how often the wrong one has the worse verdict; a draw counts half). Called good: {wrong.count(0)} of "
        f"{len(wrong)} wrong ones, {right.count(0)} of {len(right)} right ones."
    )
    return "\n".join([markdown_table(["result", "cases", *LEVELS], lines), "", note])
