"""Tables of what a result says of itself, from their result files."""

from __future__ import annotations

from cohort_tables import markdown_table, read

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
        for name, row in read("phantom")["phantoms"].items()
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
