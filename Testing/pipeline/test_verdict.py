"""judge(): every rule at its two bounds, its words, and the worst level wins."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import brains
import pytest
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import load_preset, preset_names
from SpikeRegLib.quality.bounds import default_bounds
from SpikeRegLib.quality.rules import RULES
from SpikeRegLib.quality.verdict import judge
from SpikeRegLib.similarity.chance import above_chance
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.pair import Pair

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))
from doubtful_inputs import blobs, noise
from doubtful_pairs import half

FINE = {
    "similarity": {"lncc_before": 0.1, "lncc_aligned": 0.4, "lncc_after": 0.7},
    "deformation": {
        "folding_percent": 0.0, "sdlogj": 0.3, "jacobian_min": 0.2, "jacobian_max": 3.0, "inverse_consistency_mm": 0.05,
    },
    "dice": {"before_mean": 0.3, "after_mean": 0.8},
    "tre_mm": {"before_mean": 9.0, "after_mean": 1.5},
    "predicted_error": {"mean_mm": 0.8, "p95_mm": 2.5},
    "anatomy": {
        "agreement": 0.8, "lowest_share": 0.9, "lowest_structure": "left hippocampus", "lowest_agreement": 0.7,
        "lowest_usual": 0.8, "lowest_at_mm": None,
        "images": {side: {"head": True, "reason": ""} for side in ("fixed", "moving")},
    },
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


def test_what_does_not_look_like_a_head_is_to_be_checked():
    result = copy.deepcopy(FINE)
    result["anatomy"]["images"]["moving"] = {"head": False, "reason": "4 of 32 structures are there"}
    verdict = judge(result)
    assert verdict["level"] == "check"
    assert verdict["reasons"] == ["the moving image does not look like a head (4 of 32 structures are there)"]


def test_what_was_not_measured_is_not_judged():
    assert judge({**FINE, "dice": None, "tre_mm": None, "anatomy": None})["level"] == "good"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.field)
def test_each_rule_reaches_check_and_poor_just_beyond_its_bounds(rule):
    beyond = 1e-6 if rule.higher_is_worse else -1e-6
    bound = default_bounds()[rule.table, rule.field]
    expected = [
        (bound.check, "good"),
        (bound.check + beyond, "check"),
        (bound.poor, "check"),
        (bound.poor + beyond, "poor"),
    ]
    for value, level in expected:
        result = with_value(rule.table, rule.field, value)
        if rule.field == "lncc_after":  # not worse than before, which is a rule of its own
            result["similarity"]["lncc_before"] = 0.0
        if rule.field == "after_mean":
            result[rule.table]["before_mean"] = 99.0 if rule.table == "tre_mm" else 0.0
        verdict = judge(result)
        assert verdict["level"] == level, value
        assert level == "good" or verdict["reasons"] == [
            rule.text.format(value=value, measure="LNCC", table=result[rule.table])
        ]


# What a person may rely on: the bounds are part of the result's meaning, and are changed only with new measurements.
BOUNDS = {
    ("similarity", "lncc_after"): (0.35, 0.20, False),
    ("similarity", "known_percent"): (75.0, 5.0, False),
    ("similarity", "above_chance"): (1.6, 1.25, False),
    ("deformation", "folding_percent"): (0.0, 0.1, True),
    ("deformation", "jacobian_min"): (0.05, -0.5, False),
    ("deformation", "sdlogj"): (0.7, 1.0, True),
    ("deformation", "inverse_consistency_mm"): (0.25, 1.0, True),
    ("anatomy", "agreement"): (0.6, 0.4, False),
    ("anatomy", "lowest_share"): (0.6, 0.1, False),
    ("dice", "after_mean"): (0.6, 0.4, False),
    ("tre_mm", "after_mean"): (2.0, 4.0, True),
    ("tre_mm", "after_max"): (5.0, 10.0, True),
    ("predicted_error", "mean_mm"): (2.0, 4.0, True),
    ("predicted_error", "worst_region_mm"): (2.2, 4.4, True),
    ("predicted_error", "p95_mm"): (5.0, 10.0, True),
}


def test_the_bounds_are_those_that_were_measured():
    bounds = default_bounds()
    assert {
        name: (bounds[name].check, bounds[name].poor, rule.higher_is_worse)
        for rule in RULES
        for name in [(rule.table, rule.field)]
    } == BOUNDS


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


def test_a_prediction_that_was_not_calibrated_is_not_judged():
    result = with_value("predicted_error", "mean_mm", 9.0)
    assert judge(result)["level"] == "poor"
    result["predicted_error"]["calibrated"] = False
    assert judge(result)["level"] == "good"


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
    pulled = {"similarity": similarity, "tre_mm": {"before_mean": 8.0, "after_mean": 1.0}}
    assert judge({**pulled, "refinement": {"landmark_weight": 0.1}})["level"] == "check"


def test_outside_brains_only_what_was_measured_apart_from_the_images_confirms_the_anatomy():
    images = {key: value for key, value in FINE.items() if key in ("similarity", "deformation")}
    alone = judge(images, anatomy="")
    assert alone["level"] == "check" and alone["reasons"] == [
        "nothing here confirms the anatomy; look at it, or give landmarks"
    ]
    assert judge(images, anatomy="brain")["level"] == "good"
    for table in ("dice", "tre_mm"):
        assert judge({**images, table: FINE[table]}, anatomy="")["level"] == "good"
    pulled = {**images, "tre_mm": FINE["tre_mm"], "refinement": {"landmark_weight": 0.01}}
    assert judge(pulled, anatomy="")["level"] == "check"


def test_every_shipped_preset_says_what_it_is_made_for():
    made_for = {name: load_preset(name).anatomy for name in preset_names()}
    assert {name for name, anatomy in made_for.items() if not anatomy} == {"any-anatomy", "nephi-any-anatomy"}


def test_landmarks_that_are_worth_what_the_images_lost_make_no_poor_result():
    lost = {**FINE, "dice": None, "similarity": {**FINE["similarity"], "lncc_before": 0.75}}
    lost["similarity"]["lncc_without_landmarks"] = 0.8
    verdict = judge({**lost, "refinement": {"landmark_weight": 0.05}})
    assert verdict["level"] == "check"
    assert verdict["reasons"] == ["the landmarks came together, and lowered the agreement of the images "
                                  "from 0.75 to 0.70"]  # fmt: skip
    for weight in (0.005, 0.0):
        assert judge({**lost, "refinement": {"landmark_weight": weight}})["level"] == "poor"


def held(image: torch.Tensor, other: torch.Tensor) -> float | None:
    """`above_chance` of two images on 4 mm voxels."""
    frame = Frame((image.shape[0], image.shape[1], image.shape[2]), (0.0, 0.0, 0.0), (4.0, 4.0, 4.0))
    return above_chance(Pair(frame, image, other, image > 0.01, Comparison()))


def of(volume: Volume) -> torch.Tensor:
    return volume.data / volume.data.max()


@pytest.mark.parametrize("width_mm", [5.0, 9.0, 18.0])
def test_blobs_agree_no_better_than_by_chance_however_smooth(width_mm):
    first, second = (of(blobs(seed, size=48, width_mm=width_mm)) for seed in (1, 2))
    assert held(first, second) < 1.2


def test_noise_agrees_with_a_brain_no_better_than_by_chance():
    brain = brains.on_grid(brains.sample("fixed"), (4.0, 4.0, 4.0)).data / 255
    noise = torch.rand(brain.shape, generator=torch.Generator().manual_seed(0))
    assert held(brain, noise) < 1.2
    assert held(brain, brain.flip(0)) < 1.2


def test_a_brain_agrees_with_another_far_better_than_by_chance(sample_run):
    assert sample_run.registration.result["similarity"]["above_chance"] > 1.8


def test_what_looks_the_same_when_turned_over_is_not_judged_by_that():
    axis = torch.linspace(-1, 1, 40)
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    assert held((0.8 - radius).clamp(0, 1), (0.82 - radius).clamp(0, 1)) is None


@pytest.mark.parametrize("moving", [noise(1, size=48), blobs(1, size=48)], ids=["noise", "blobs"])
def test_what_has_nothing_in_common_is_poor(known, quick, moving):
    fixed = known.fixed if moving.name == "noise" else blobs(2, size=48)
    verdict = register(fixed, moving, preset=quick, skip_affine=True, threads=1).result["verdict"]
    assert verdict["level"] == "poor" and any("turned over" in reason for reason in verdict["reasons"])


@pytest.mark.parametrize(("skip_affine", "level", "reason"), [
    (False, "check", "of the fixed anatomy is compared"), (True, "poor", "turned over"),
])  # fmt: skip
def test_half_a_head_far_from_its_place_is_found_or_else_poor(known, quick, skip_affine, level, reason):
    """Left where its headers put it, it was said too easily to need a look and no more."""
    lower, shift = half(known.moving, lower=True), (0.0, 0.0, 40.0)
    origin = tuple(at + by for at, by in zip(lower.frame.origin, shift, strict=True))
    moving = replace(lower, frame=replace(lower.frame, origin=origin))
    found = register(known.fixed, moving, preset=quick, skip_affine=skip_affine, threads=1)
    truth = known.truth.map_points(known.points) + torch.tensor(shift)
    within = truth[:, 2] <= moving.frame.corners()[:, 2].max()
    error = (found.transform.map_points(known.points) - truth).norm(dim=1)[within].mean()
    assert error > 20 if skip_affine else error < 1.5
    verdict = found.result["verdict"]
    assert verdict["level"] == level and any(reason in line for line in verdict["reasons"])
