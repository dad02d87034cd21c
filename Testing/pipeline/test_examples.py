"""The examples run as they are, on the bundled pair with few iterations, and give what they say."""

from __future__ import annotations

import csv
import re
import runpy
import sys
from pathlib import Path

import cohorts
import pytest

from SpikeRegLib import read_labels, read_points
from SpikeRegLib.quality.metrics import dice

EXAMPLES = Path(__file__).parents[2] / "Examples"
QUICK = ("--iterations", "2")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs an example in an empty folder; what it printed."""

    def run_example(name: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def test_every_example_is_tested_and_named_in_the_list():
    examples = {path.stem for path in EXAMPLES.glob("*.py")} - {"bundled"}
    assert examples == {
        "look_at_the_numbers", "carry_labels_and_points", "cohort_with_landmarks", "slurm_cohort"
    }  # fmt: skip
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.py)" in listed for name in examples)


@pytest.mark.slow
def test_the_numbers_are_shown(run):
    said = run("look_at_the_numbers", "--preset", "any-anatomy", *QUICK)
    before, after = map(float, re.search(r"lncc: ([\d.]+) before, ([\d.]+) after", said).groups())
    assert "verdict: check" in said and after > before + 0.5


@pytest.mark.slow
def test_labels_and_points_are_carried_to_the_fixed_image(run, tmp_path):
    run("carry_labels_and_points", "--preset", "any-anatomy", *QUICK)
    from bundled import FIXED_LABELS, MOVING_LABELS, centres

    overlap = dice(read_labels(FIXED_LABELS), read_labels(tmp_path / "carried" / "labels.nii.gz"))
    assert sum(overlap.values()) / len(overlap) > 0.5
    points = read_points(tmp_path / "carried" / "points.mrk.json")
    fixed, moving = centres(FIXED_LABELS), centres(MOVING_LABELS)
    assert (points - fixed).norm(dim=1).mean() < 4.0 < 0.5 * (moving - fixed).norm(dim=1).mean()


@pytest.mark.slow
def test_a_cohort_goes_on_after_a_pair_that_fails(run, tmp_path):
    run("cohort_with_landmarks", *QUICK)
    from bundled import FIXED, MOVING

    with (tmp_path / "cohort" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["forwards", "backwards"]
    for row in rows:
        assert float(row["landmarks_after_mm"]) < 0.5 < float(row["landmarks_before_mm"])
        assert (tmp_path / "cohort" / row["id"] / "result.json").is_file()
    table = tmp_path / "table.csv"
    table.write_text(f"id,fixed,moving,fixed_points,moving_points\nlost,{FIXED},{MOVING},no.csv,no.csv\n")
    run("cohort_with_landmarks", str(table), "--out", "second")
    with (tmp_path / "second" / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["id"] == "lost" and "no.csv: no such file" in row["problem"]


@pytest.mark.slow
def test_jobs_of_a_queue_do_the_rows_of_a_table(tmp_path):
    table = cohorts.make_cohort(tmp_path, 4)
    words = ["--out", str(tmp_path / "out"), "--jobs", "2", "--here", *cohorts.command(tmp_path)[7:]]
    process = cohorts.start([sys.executable, str(EXAMPLES / "slurm_cohort.py"), str(table), *words])
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "4 rows: " in out and len(cohorts.finished(tmp_path)) == 4
