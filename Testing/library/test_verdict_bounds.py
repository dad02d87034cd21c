"""Bounds of the verdict from a file: in whole or in part, and every mistake in one line."""

from __future__ import annotations

import pytest

from SpikeRegLib.errors import InputError
from SpikeRegLib.quality.bounds import Bound, default_bounds, load_bounds
from SpikeRegLib.quality.verdict import judge, place_words

RESULT = {
    "similarity": {"lncc_before": 0.1, "lncc_after": 0.5},
    "deformation": {"jacobian_min": 0.01, "jacobian_min_at_mm": [-31.6, 8.2, -4.4]},
}


def written(folder, text):
    path = folder / "clinic.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_replaces_what_it_names_and_nothing_else(tmp_path):
    bounds = load_bounds(written(tmp_path, "schema = 1\n[similarity]\nlncc_after = { check = 0.6, poor = 0.5 }\n"))
    assert bounds == {**default_bounds(), ("similarity", "lncc_after"): Bound(0.6, 0.5)}
    assert judge({"similarity": RESULT["similarity"]})["level"] == "good"
    verdict = judge({"similarity": RESULT["similarity"]}, bounds=bounds)
    assert verdict == {"level": "check", "reasons": ["the images agree poorly where they overlap (LNCC 0.50)"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = 2\n", "schema 2 is not known here; bounds of this version say schema = 1"),
        ("[dice]\nafter_mean = { check = 0.6, poor = 0.4 }\n", "schema None is not known"),
        ("schema = 1\n[dice]\nmean = { check = 0.6, poor = 0.4 }\n", "dice.mean: no figure with bounds; choose among"),
        ("schema = 1\ndice = 3\n", "dice.: no figure with bounds"),
        ("schema = 1\n[dice]\nafter_mean = 0.6\n", "dice.after_mean: give two numbers"),
        ("schema = 1\n[dice]\nafter_mean = { check = 0.6 }\n", "dice.after_mean: give two numbers"),
        ("schema = 1\n[dice]\nafter_mean = { check = 0.6, poor = true }\n", "True is no number"),
        ("schema = 1\n[dice]\nafter_mean = { check = nan, poor = 0.1 }\n", "nan is no number"),
        ("schema = 1\n[dice]\nafter_mean = { check = 0.4, poor = 0.6 }\n", "poor must be at most check, 0.4"),
        ("schema = 1\n[tre_mm]\nafter_mean = { check = 2, poor = 1 }\n", "poor must be at least check, 2"),
        ("schema = ", "not a valid TOML file"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_bounds(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        load_bounds(tmp_path / "none.toml")


def test_a_reason_names_the_place():
    assert place_words([12.4, -3.0, 7.7]) == "left 12, anterior 3, superior 8 mm"
    assert judge(RESULT)["reasons"] == [
        "volume shrinks to 0.01 of itself at right 32, posterior 8, inferior 4 mm",
    ]
