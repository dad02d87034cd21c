"""Every figure in the documents is what the committed result files say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

import figures
import tables
from cohort_tables import p_value, read, seconds_compared

from SpikeRegLib.studies.paired_statistics import compare

REMEDY = "run `python Benchmarks/figures.py`"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not tables.measured(name), reason=f"the results behind {name} are not measured yet")


@pytest.mark.parametrize("path", sorted(tables.documents()), ids=lambda path: path.name)
def test_tables_are_written_from_the_results(path):
    assert path.read_text(encoding="utf-8") == tables.documents()[path], REMEDY


def test_every_marker_is_filled():
    for path in tables.documents():
        for part in path.read_text(encoding="utf-8").split("<!-- figures:")[1:]:
            name, text = part.split("<!-- end -->")[0].split(" -->", 1)
            filled = text.count("|") > 4 or "![" in text
            assert filled or not tables.measured(name), (path, name)


def test_fill_replaces_only_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures:x -->\nold\n<!-- end -->\nb\n")
    assert tables.fill(page, {"x": "new"}) == "a\n<!-- figures:x -->\nnew\n<!-- end -->\nb\n"


@pytest.mark.parametrize("plot", [pytest.param(name, marks=needs(name)) for name in figures.PLOTTED])
def test_plots_are_drawn_from_the_results(plot):
    from PIL import Image  # comes with matplotlib

    image = Image.open(figures.PLOTS / f"{plot}.png")
    assert image.text["Source"] == figures.digest(plot), REMEDY


@needs("cohort")
def test_cohort_has_every_method_on_the_same_forty_pairs():
    methods = read("cohort")["methods"]
    pairs = [row["pair"] for row in methods["affine"]["rows"]]
    assert len(set(pairs)) == len(pairs) >= 40
    for name, entry in methods.items():
        assert [row["pair"] for row in entry["rows"]] == pairs, name


@needs("cohort")
def test_published_comparisons_are_those_of_the_published_rows():
    data = read("cohort")
    dice = {name: {row["pair"]: row["dice"] for row in entry["rows"]} for name, entry in data["methods"].items()}
    assert data["comparisons"]
    for entry in data["comparisons"]:
        again = compare(dice[entry["first"]], dice[entry["second"]], margin=entry["margin"]).as_result()
        again = json.loads(json.dumps(again))
        for name in ("mean", "sd", "tost_p", "wilcoxon_tost_p", "non_inferiority_p", "difference_p", "wilcoxon_p"):
            assert entry[name] == pytest.approx(again[name], rel=1e-6, abs=1e-12)
        for name in ("ci95", "subject_ci95"):  # another numpy may draw other resamples
            assert entry[name] == pytest.approx(again[name], abs=0.1 * entry["sd"])


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [("a", "a", "spikereg takes 0.50 of greedy's"), ("a", "b", "no ratio"), ("a", None, "no ratio")],
)
def test_seconds_of_two_machines_are_not_divided_by_each_other(ours, theirs, said):
    rows = [{"pair": pair, "cpu_s": 2.0, "machine": ours} for pair in "xy"]
    greedy = [{"pair": "x", "cpu_s": 4.0, "machine": ours}, {"pair": "y", "cpu_s": 4.0, "machine": theirs}]
    assert said in seconds_compared(rows, greedy)


@needs("robustness")
def test_robustness_runs_are_compared_with_their_own_pair():
    rows = read("robustness")["rows"]
    assert len(rows) >= 40
    assert len({(row["pair"], row["corruption"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["drop"] == pytest.approx(row["dice_untouched"] - row["dice"])


def test_small_p_values_are_not_written_as_zero():
    assert [p_value(p) for p in (0.5, 0.0312, 0.00049, 1e-9)] == ["0.50", "0.031", "0.00049", "< 0.0001"]
