"""`spikereg evaluate --compare`: two evaluations of the same pairs, with the statistics of `paired_statistics`."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from scipy import stats
from study_examples import study

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.comparison import compare_evaluations
from SpikeRegLib.studies.paired_statistics import compare, subject_bootstrap, tost, wilcoxon_tost


def evaluation(values, **more):
    """An evaluation with these values of Dice, and other figures, for pairs of a chain of subjects."""
    pairs = {
        f"p{n}": {"subjects": [f"s{n}", f"s{n + 1}"], "figures": {"dice": value} | {k: v[n] for k, v in more.items()}}
        for n, value in enumerate(values)
    }
    return {"schema": 1, "pairs": pairs}


def write(path, table):
    path.write_text(json.dumps(table))
    return str(path)


FIRST = np.random.default_rng(1).normal(0.8, 0.03, 16)
SECOND = FIRST - np.random.default_rng(2).normal(0.002, 0.004, 16)


def test_figures_are_compared_by_the_paired_statistics_with_the_subjects_of_the_pairs():
    found = compare_evaluations(evaluation(FIRST), evaluation(SECOND))
    names = [f"p{n}" for n in range(16)]
    subjects = {name: (f"s{n}", f"s{n + 1}") for n, name in enumerate(names)}
    expected = compare(
        dict(zip(names, FIRST, strict=True)), dict(zip(names, SECOND, strict=True)), margin=0.005, subjects=subjects
    )
    assert found["figures"]["dice"] == expected.as_result() and found["margin"] == 0.005
    assert expected.difference_p == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue)
    assert expected.wilcoxon_p == pytest.approx(stats.wilcoxon(FIRST - SECOND).pvalue)
    assert expected.subject_ci95[0] < expected.mean < expected.subject_ci95[1]


def test_equivalence_is_tested_of_one_figure_and_non_inferiority_only_where_more_is_better():
    tre = {"tre_mm": np.linspace(1, 2, 16)}, {"tre_mm": np.linspace(1.1, 2.2, 16)}
    one, other = (evaluation(FIRST, **columns) for columns in tre)
    found = compare_evaluations(one, other)["figures"]
    assert "tost_p" in found["dice"] and "non_inferiority_p" in found["dice"]
    assert "tost_p" not in found["tre_mm"] and found["tre_mm"]["mean"] == pytest.approx(-0.15)
    found = compare_evaluations(one, other, metric="tre_mm", margin=0.5)["figures"]
    assert found["tre_mm"]["margin"] == 0.5 and "non_inferiority_p" not in found["tre_mm"]
    assert "tost_p" not in found["dice"]
    with pytest.raises(InputError, match="--margin: needed"):
        compare_evaluations(one, other, metric="tre_mm")
    with pytest.raises(InputError, match="--metric: hd95_mm is not in both"):
        compare_evaluations(one, other, metric="hd95_mm")


def test_pairs_without_a_value_and_figures_from_before_are_left_out():
    one = evaluation(FIRST, tre_mm=[1.0] * 9 + [None] * 7, dice_before=FIRST)
    other = evaluation(SECOND[:14], tre_mm=np.linspace(2, 3, 14).tolist(), dice_before=SECOND)
    found = compare_evaluations(one, other)["figures"]
    assert found["dice"]["pairs"] == 14 and found["tre_mm"]["pairs"] == 9
    assert list(found) == ["dice", "tre_mm"]


def test_equal_methods_are_equivalent_and_differ_in_nothing():
    same = compare_evaluations(evaluation(FIRST), evaluation(FIRST))["figures"]["dice"]
    assert same["difference_p"] == same["wilcoxon_p"] == 1.0
    assert same["tost_p"] == 0.0 and same["equivalent_by_subjects"] and same["wilcoxon_tost_p"] < 0.001
    apart = compare_evaluations(evaluation(FIRST), evaluation(FIRST + 0.01))["figures"]["dice"]
    assert apart["tost_p"] > 0.99 and apart["difference_p"] < 1e-9 and not apart["equivalent_by_subjects"]
    assert tost(np.full(5, 0.25), 0.125) == 1.0 and wilcoxon_tost(np.zeros(5), 0.005) == pytest.approx(1 / 32)


def test_a_pair_inside_one_subject_counts_as_often_as_the_subject_is_drawn():
    """With one pair a subject, the bootstrap over subjects is that over pairs: a mean of the values drawn."""
    values = np.random.default_rng(3).normal(size=30)
    names = [(f"s{n}", f"s{n}") for n in range(30)]
    assert subject_bootstrap(values, names).std() == pytest.approx(values.std() / np.sqrt(30), rel=0.05)


def test_two_evaluations_of_the_command_are_compared(tmp_path, capsys):
    for name, miss in (("a", 0.0), ("b", 2.5)):
        example = study(tmp_path / name, wrong_by=miss)
        words = [str(example.results), "--manifest", str(example.manifest), "--out", str(tmp_path / name / "out")]
        assert main(["evaluate", *words]) == 0
    capsys.readouterr()
    files = [str(tmp_path / name / "out" / "evaluation.json") for name in "ab"]
    assert main(["evaluate", "--compare", *files, "--margin", "0.01", "--out", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())
    dice = found["figures"]["dice"]
    assert dice["pairs"] == 3 and dice["mean"] > 0.05 and f"{dice['mean']:+.4f}" in printed
    assert "within 0.01: TOST p = " in printed and "not shown to be equivalent" in printed
    assert found["figures"]["tre_mm"]["mean"] == pytest.approx(-2.5 * 1.1, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no evaluation"),
        ('{"schema": 7, "pairs": {}}', "schema 7"),
        ('{"schema": 1, "pairs": {"a": {"figures": {}}}}', "is no evaluation"),
        ('{"schema": 1, "pairs": {"a": {"subjects": ["x"], "figures": {}}}}', "is no evaluation"),
        ('{"schema": 1, "pairs": {"a": {"subjects": ["x", "y"], "figures": {"dice": "0.5"}}}}', "figures of a"),
        ('{"schema": 1, "pairs": {"a": {"subjects": ["x", {}], "figures": {}}}}', "subjects of a"),
        ('{"schema": 1, "pairs": []}', "is no evaluation"),
    ],
)
def test_what_is_no_evaluation_is_refused_by_name(tmp_path, capsys, text, problem):
    (tmp_path / "a.json").write_text(text)
    assert main(["evaluate", "--compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 2
    printed = capsys.readouterr().err
    assert f"{tmp_path / 'a.json'}: " in printed and problem in printed and printed.count("\n") == 1


def test_fewer_than_three_common_pairs_are_refused(tmp_path, capsys):
    one = write(tmp_path / "a.json", evaluation(FIRST[:2]))
    assert main(["evaluate", "--compare", one, write(tmp_path / "b.json", evaluation(SECOND))]) == 2
    assert "--compare: the evaluations have 2 pairs in common and the tests need 3" in capsys.readouterr().err
    assert main(["evaluate", "--compare", one, str(tmp_path / "none.json")]) == 2
    assert f"{tmp_path / 'none.json'}: cannot be read" in capsys.readouterr().err


def test_figures_that_are_not_common_are_refused():
    empty = evaluation(FIRST)
    for pair in empty["pairs"].values():
        pair["figures"] = {}
    with pytest.raises(InputError, match="no figure in common"):
        compare_evaluations(empty, evaluation(FIRST))


def test_without_scipy_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    files = [write(tmp_path / f"{name}.json", evaluation(values)) for name, values in (("a", FIRST), ("b", SECOND))]
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert main(["evaluate", "--compare", *files, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert "pip install spikereg[studies]" in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("margin", ["0", "-1", "nan", "inf"])
def test_a_margin_is_above_zero(tmp_path, capsys, margin):
    files = [write(tmp_path / f"{name}.json", evaluation(FIRST)) for name in "ab"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--compare", *files, f"--margin={margin}"])
    assert ended.value.code == 2 and "argument --margin: must be between 1e-09" in capsys.readouterr().err
