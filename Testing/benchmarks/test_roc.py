"""The area under the curve, with draws."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

from roc import area_under_curve


def test_it_is_the_share_of_pairs_in_the_right_order_and_a_draw_counts_half():
    random = np.random.default_rng(0)
    score, wrong = random.integers(0, 4, 60), random.random(60) < 0.4
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in score[wrong] for good in score[~wrong]]
    assert area_under_curve(score, wrong) == pytest.approx(np.mean(pairs))
    assert area_under_curve(wrong.astype(int), wrong) == 1 and area_under_curve(-1 * wrong, wrong) == 0


@pytest.mark.parametrize("wrong", [True, False])
def test_nothing_to_tell_apart_has_no_area(wrong):
    assert area_under_curve(np.arange(5.0), np.full(5, wrong)) is None
