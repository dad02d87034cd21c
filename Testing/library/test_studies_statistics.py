"""The statistics of the published comparisons, against cases worked by hand and against scipy's own intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from SpikeRegLib.studies.paired_statistics import compare, pair_bootstrap, subject_bootstrap, tost, wilcoxon_tost


def test_tost_of_a_case_worked_by_hand():
    # mean 0.002, standard deviation 0.001 * sqrt(2.5), n = 5: t = (0.005 - 0.002) / (sd / sqrt 5) = 3 sqrt 2.
    differences = np.array([0.000, 0.001, 0.002, 0.003, 0.004])
    t = 3 * math.sqrt(2)
    # Student's t with 4 degrees of freedom has a closed distribution function.
    y = t / math.sqrt(4 + t * t)
    p = 0.5 - 0.75 * (y - y**3 / 3)
    assert tost(differences, 0.005) == pytest.approx(p, rel=1e-9)


def test_tost_agrees_with_the_ninety_percent_interval():
    random = np.random.default_rng(3)
    for mean in np.linspace(-0.008, 0.008, 33):
        differences = mean + 0.01 * random.standard_normal(40)
        interval = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
        inside = bool(interval.low > -0.005 and interval.high < 0.005)
        assert (tost(differences, 0.005) < 0.05) == inside


def test_equivalence_looks_at_both_sides():
    differences = np.random.default_rng(1).normal(0.001, 0.004, 40)
    for test in (tost, wilcoxon_tost):
        assert test(differences, 0.005) == pytest.approx(test(-differences, 0.005))
        assert test(differences + 0.1, 0.005) > 0.99


def test_signed_rank_equivalence_of_a_case_worked_by_hand():
    # All five differences lie inside the margin: the smallest p of five signs, 1 / 2^5, on both sides.
    assert wilcoxon_tost(np.array([-0.002, -0.001, 0.0005, 0.001, 0.003]), 0.005) == pytest.approx(1 / 32)


def test_pair_bootstrap_is_as_wide_as_theory_says():
    differences = np.random.default_rng(2).standard_normal(40)
    expected = differences.std() / math.sqrt(40)
    assert pair_bootstrap(differences).std() == pytest.approx(expected, rel=0.03)


def test_subject_bootstrap_sees_that_pairs_share_subjects():
    """Where the difference belongs to the fixed subject, many pairs of few subjects say little more than the few."""
    names = [f"s{n}" for n in range(8)]
    effect = dict(zip(names, np.random.default_rng(5).standard_normal(8), strict=True))
    pairs = [(a, b) for a in names for b in names if a != b]
    differences = np.array([effect[a] for a, _ in pairs])
    by_subject = subject_bootstrap(differences, pairs).std()
    assert by_subject > 2 * pair_bootstrap(differences).std()
    assert by_subject > 0.8 * np.std(list(effect.values())) / math.sqrt(8)


def test_compare_pairs_by_name_and_leaves_out_what_one_lacks():
    second = {"a_b": 0.7, "b_c": 0.6, "c_a": 0.5, "d_a": 0.1}
    first = {"c_a": 0.501, "b_c": 0.599, "a_b": 0.702}
    found = compare(first, second, margin=0.005)
    assert found.pairs == 3
    assert found.mean == pytest.approx((0.001 - 0.001 + 0.002) / 3)
    assert found.ci95[0] <= found.mean <= found.ci95[1]
    with pytest.raises(ValueError, match="0 common pairs"):
        compare(first, {}, margin=0.005)
