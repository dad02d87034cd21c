"""judge(): every rule at its two bounds, its words, and the worst level wins."""

from __future__ import annotations

import copy

import pytest

from SpikeRegLib.verdict import RULES, judge

FINE = {
    "similarity": {"lncc_before": 0.1, "lncc_aligned": 0.4, "lncc_after": 0.7},
    "deformation": {
        "folding_percent": 0.0, "sdlogj": 0.3, "jacobian_min": 0.2, "jacobian_max": 3.0, "inverse_consistency_mm": 0.05,
    },
    "dice": {"before_mean": 0.3, "after_mean": 0.8},
    "tre_mm": {"before_mean": 9.0, "after_mean": 1.5},
}  # fmt: skip


def with_value(table: str, field: str, value: float) -> dict:
    result = copy.deepcopy(FINE)
    result[table][field] = value
    return result


def test_a_fine_result_is_good_and_says_why():
    verdict = judge(FINE)
    assert verdict["level"] == "good"
    assert verdict["reasons"] == ["the images agree (LNCC 0.10 before, 0.70 after), nothing folds, "
                                  "forward and inverse match"]  # fmt: skip


def test_what_was_not_measured_is_not_judged():
    assert judge({**FINE, "dice": None, "tre_mm": None})["level"] == "good"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.field)
def test_each_rule_reaches_check_and_poor_just_beyond_its_bounds(rule):
    beyond = 1e-6 if rule.higher_is_worse else -1e-6
    expected = [
        (rule.check, "good"),
        (rule.check + beyond, "check"),
        (rule.poor, "check"),
        (rule.poor + beyond, "poor"),
    ]
    for value, level in expected:
        result = with_value(rule.table, rule.field, value)
        if rule.field == "lncc_after":  # not worse than before, which is a rule of its own
            result["similarity"]["lncc_before"] = 0.0
        if rule.field == "after_mean":
            result[rule.table]["before_mean"] = 99.0 if rule.table == "tre_mm" else 0.0
        verdict = judge(result)
        assert verdict["level"] == level, value
        assert level == "good" or verdict["reasons"] == [rule.text.format(value=value, measure="LNCC")]


@pytest.mark.parametrize(
    ("table", "after", "words"),
    [
        ("similarity", {"lncc_before": 0.8}, "similarity is worse than before"),
        ("dice", {"before_mean": 0.81}, "overlap of the segmentations is worse than before"),
        ("tre_mm", {"before_mean": 1.4}, "landmark agreement is worse than before"),
    ],
)
def test_worse_than_before_is_poor(table, after, words):
    verdict = judge({**FINE, table: {**FINE[table], **after}})
    assert verdict["level"] == "poor" and len(verdict["reasons"]) == 1 and words in verdict["reasons"][0]


def test_a_figure_that_could_not_be_measured_is_poor():
    verdict = judge(with_value("deformation", "sdlogj", float("nan")))
    assert verdict == {"level": "poor", "reasons": ["deformation.sdlogj could not be measured (nan)"]}


def test_the_worst_level_wins_and_every_reason_is_kept():
    result = with_value("deformation", "folding_percent", 0.05)
    result["tre_mm"]["after_mean"] = 7.0
    verdict = judge(result)
    assert verdict["level"] == "poor"
    assert verdict["reasons"] == ["0.050 % of the voxels fold", "landmarks are 7.0 mm apart on average"]


def test_a_similarity_across_contrasts_is_never_good_on_its_own():
    similarity = {"measure": "contrast-matched lncc", "lncc_before": 0.1, "lncc_aligned": 0.4, "lncc_after": 0.8}
    alone = judge({"similarity": similarity})
    assert alone["level"] == "check" and "cannot confirm" in alone["reasons"][0]
    confirmed = judge({"similarity": similarity, "tre_mm": {"before_mean": 8.0, "after_mean": 1.0}})
    assert confirmed["level"] == "good"
