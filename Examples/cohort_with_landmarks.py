"""Register a small cohort whose landmarks pull, and write one table.

    python Examples/cohort_with_landmarks.py [TABLE.csv] [--out FOLDER] [--weight W] [--iterations N]

TABLE.csv has the columns id, fixed, moving, fixed_points and moving_points: files, points in the same order in both.
Without it, the bundled pair is registered in both directions. Every pair gets a folder; summary.csv has one line a
pair. A pair that fails is named there with the reason, and the others go on.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from bundled import FIXED, FIXED_LABELS, MOVING, MOVING_LABELS, centres

from SpikeRegLib import SpikeRegError, register, write_outputs

COLUMNS = ("id", "verdict", "landmarks_before_mm", "landmarks_after_mm", "folding_percent", "problem")


def bundled_rows() -> list[dict[str, Any]]:
    """The bundled pair forwards and backwards, with the centres of some structures as landmarks."""
    there, back = (FIXED, centres(FIXED_LABELS)), (MOVING, centres(MOVING_LABELS))
    return [
        {"id": name, "fixed": fixed, "moving": moving, "fixed_points": fixed_points, "moving_points": moving_points}
        for name, (fixed, fixed_points), (moving, moving_points) in (
            ("forwards", there, back),
            ("backwards", back, there),
        )
    ]


def summary(row: dict[str, Any], out: Path, weight: float, iterations: int | None) -> dict[str, Any]:
    """Register one row and write its folder; its line of the table."""
    try:
        registration = register(
            row["fixed"], row["moving"], preset="any-anatomy", refine_iterations=iterations,
            fixed_points=row["fixed_points"], moving_points=row["moving_points"], landmark_weight=weight,
        )  # fmt: skip
        write_outputs(registration, out / row["id"])
    except SpikeRegError as error:  # of one line, with the remedy; anything else is a defect and ends the loop
        return {"id": row["id"], "problem": str(error)}
    result = registration.result
    return {
        "id": row["id"],
        "verdict": result["verdict"]["level"],
        "landmarks_before_mm": f"{result['tre_mm']['before_mean']:.2f}",
        "landmarks_after_mm": f"{result['tre_mm']['after_mean']:.2f}",
        "folding_percent": f"{result['deformation']['folding_percent']:.4f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, metavar="TABLE.csv")
    parser.add_argument("--out", type=Path, default=Path("cohort"), metavar="FOLDER")
    parser.add_argument("--weight", type=float, default=0.01, help="what 1 mm counts in units of similarity")
    parser.add_argument("--iterations", type=int, help="of the optimisation, per level (default: the preset's)")
    options = parser.parse_args()
    if options.table is None:
        rows = bundled_rows()
    else:
        with options.table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for row in rows:
            line = summary(row, options.out, options.weight, options.iterations)
            table.writerow(line)
            file.flush()  # what is done stays, however the loop ends
            print(", ".join(f"{name} {value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
