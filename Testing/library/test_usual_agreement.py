"""The structure that falls short of its usual overlap most."""

from __future__ import annotations

import pytest

from SpikeRegLib.quality.usual import furthest_below_usual, sideless, usual_agreement, write_usual
from SpikeRegLib.quality.verdict import judge


def test_the_structure_that_falls_short_most_is_named_and_thin_ones_tell_nothing() -> None:
    usual = usual_agreement()
    found = {
        "left hippocampus": 0.5 * usual["hippocampus"], "right hippocampus": usual["hippocampus"],
        "right thalamus": 0.7 * usual["thalamus"], "left inferior lateral ventricle": 0.0, "left nothing": 0.0,
    }  # fmt: skip
    assert usual["inferior lateral ventricle"] < 0.6 < usual["hippocampus"]
    lowest = furthest_below_usual(found)
    assert lowest["lowest_structure"] == "left hippocampus" and lowest["lowest_share"] == pytest.approx(0.5)
    assert (lowest["lowest_agreement"], lowest["lowest_usual"]) == (found["left hippocampus"], usual["hippocampus"])
    assert furthest_below_usual({}) == {} == furthest_below_usual({"left inferior lateral ventricle": 0.1})


def test_the_reason_names_structure_overlap_and_place() -> None:
    anatomy = {
        "agreement": 0.8, "lowest_share": 0.4, "lowest_structure": "left hippocampus", "lowest_agreement": 0.32,
        "lowest_usual": 0.8, "lowest_at_mm": [25.0, 20.0, -10.0],
    }  # fmt: skip
    verdict = judge({"anatomy": anatomy, "similarity": {"lncc_before": 0.1, "lncc_after": 0.8}})
    assert verdict["level"] == "check"
    assert verdict["reasons"] == [
        "the left hippocampus overlaps little (Dice 0.32, usually 0.80) at left 25, posterior 20, inferior 10 mm"
    ]


def test_both_sides_count_for_what_is_usual(tmp_path) -> None:
    path = tmp_path / "usual.json"
    write_usual([{"left caudate": 0.7, "right caudate": 0.9}, {"left caudate": 0.8}, {"third ventricle": 0.5}], path)
    assert path.read_text() == '{\n "caudate": 0.8,\n "third ventricle": 0.5\n}\n'
    assert sideless("right caudate") == sideless("left caudate") == "caudate" and sideless("brain stem") == "brain stem"
