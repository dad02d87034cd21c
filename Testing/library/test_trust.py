"""The predicted error: evidence that rises where a map is wrong, its calibration, worst places and figures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_refine import noise

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.known import Known
from SpikeRegLib.trust.calibration import (
    FARTHEST,
    prepared,
    read_calibration,
    shipped_calibration,
    write_calibration,
)
from SpikeRegLib.trust.evidence import EVIDENCE, _least_eigenvalue, evidence_of
from SpikeRegLib.trust.predicted_error import PredictedError, error_facts, predict_error, worst_places

SHAPE = (32, 36, 40)
CENTRE = (20, 12, 25)


def a_pair(spacing_mm: float = 2.0) -> Pair:
    """An image with itself, inside of an ellipsoid."""
    image = noise(SHAPE, 2.0, 0).abs().clamp(0, 1)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = sum(axis.square() for axis in axes) < 0.9
    frame = Frame(SHAPE, (-30.0, -20.0, 10.0), spacing=(spacing_mm,) * 3)
    return Pair(frame, image * mask, image * mask, mask, Comparison())


def bump(mm: float, sigma: float = 3.0) -> torch.Tensor:
    """[3, D, H, W]: so many mm along z, at `CENTRE`."""
    axes = torch.meshgrid(*(torch.arange(n) - c for n, c in zip(SHAPE, CENTRE, strict=True)), indexing="ij")
    field = torch.zeros(3, *SHAPE)
    field[2] = mm * torch.exp(-sum(axis.square() for axis in axes) / (2 * sigma**2))
    return field


def predicted(pair: Pair, field: torch.Tensor) -> PredictedError:
    return predict_error(pair, Deformation(field, pair.grid))


def test_the_least_eigenvalue_is_that_of_the_general_solver() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(50, 3, 3, generator=generator, dtype=torch.float64)
    tensors = rows @ rows.transpose(1, 2)
    found = _least_eigenvalue([[tensors[:, i, j] for j in range(3)] for i in range(3)])
    assert torch.allclose(found, torch.linalg.eigvalsh(tensors)[:, 0], atol=1e-9)


def test_where_the_map_is_right_the_images_leave_no_residual() -> None:
    pair = a_pair()
    found = evidence_of(pair, Deformation(torch.zeros(3, *SHAPE), pair.grid))
    assert list(found) == list(EVIDENCE) and all(values.shape == SHAPE for values in found.values())
    for name in ("dissimilarity", "residual_shift", "residual_flow", "strain", "bending", "length", "unevenness"):
        assert float(found[name][pair.mask].mean()) == pytest.approx(0, abs=0.02), name
    assert float(found["texture"][pair.mask].min()) > 0


def test_a_wrong_place_is_seen_where_it_is() -> None:
    pair = a_pair()
    right, wrong = predicted(pair, torch.zeros(3, *SHAPE)), predicted(pair, bump(8.0))
    assert float(wrong.expected.error_mm[CENTRE]) > float(right.expected.error_mm[CENTRE]) + 2.0
    far = (6, 30, 12)
    assert float(wrong.expected.error_mm[far]) < 0.5 * float(wrong.expected.error_mm[CENTRE])
    places = worst_places(wrong)
    place = torch.tensor([places[0]["place_mm"][axis] for axis in (2, 1, 0)])
    truth = torch.tensor(CENTRE) * 2.0 + torch.tensor([10.0, -20.0, -30.0])
    assert float((place - truth).norm()) < 12
    assert [there["mm"] for there in places] == sorted((there["mm"] for there in places), reverse=True)


def test_a_small_animal_is_looked_at_as_a_man_is() -> None:
    man, mouse = predicted(a_pair(2.0), bump(6.0)), predicted(a_pair(0.2), bump(0.6))
    assert torch.allclose(man.expected.error_mm, 10 * mouse.expected.error_mm, rtol=1e-3, atol=1e-4)
    assert torch.allclose(man.expected.bound_mm, 10 * mouse.expected.bound_mm, rtol=1e-3, atol=1e-4)


def test_the_bound_is_never_below_what_is_expected_and_evidence_that_was_never_met_changes_nothing_more() -> None:
    calibration = shipped_calibration()
    generator = torch.Generator().manual_seed(2)
    seen = calibration.mean + calibration.scale * 3 * torch.randn(500, len(EVIDENCE), generator=generator)
    expected = calibration.expected(seen)
    assert bool((expected.bound_mm >= expected.error_mm).all()) and bool((expected.error_mm >= 0).all())
    there, beyond = (calibration.mean + times * FARTHEST * calibration.scale for times in (1, 5))
    assert torch.allclose(calibration.expected(there).error_mm, calibration.expected(beyond).error_mm)


def test_a_calibration_is_read_as_it_was_written_and_refused_for_other_evidence(tmp_path) -> None:
    path, shipped = tmp_path / "calibration.json", shipped_calibration()
    write_calibration(shipped, path)
    pair = a_pair()
    evidence = prepared(evidence_of(pair, Deformation(bump(4.0), pair.grid)))
    assert torch.allclose(read_calibration(path).expected(evidence).error_mm, shipped.expected(evidence).error_mm)
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "evidence": table["evidence"][::-1]}))
    with pytest.raises(ValueError, match="made for other evidence"):
        read_calibration(path)


def test_what_is_not_compared_has_no_figures() -> None:
    pair = a_pair()
    nothing = predicted(replace(pair, mask=torch.zeros(SHAPE, dtype=torch.bool)), torch.zeros(3, *SHAPE))
    assert error_facts(nothing, None, {}) is None
    counts = torch.ones(SHAPE)
    counts[:, :18] = 0
    known = Known(counts[None], counts[None])
    half = predicted(replace(pair, known=known), torch.zeros(3, *SHAPE))
    assert not bool(half.mask[:, :18].any()) and bool(half.mask[:, 18:].any())
    other = replace(pair, known=known, moving=torch.cat([pair.moving[:, 18:].flip(1), pair.moving[:, 18:]], 1))
    seen = predicted(other, torch.zeros(3, *SHAPE))
    assert torch.allclose(seen.expected.error_mm[:, 24:], half.expected.error_mm[:, 24:], atol=0.02), (
        "nothing unknown counts"
    )
    image = half.on(pair.frame, torch.ones(SHAPE, dtype=torch.bool)).data
    assert bool(image[:, :18].isnan().all()) and not bool(image[:, 18:].isnan().any())


def test_the_figures_are_those_of_the_map_also_by_structure() -> None:
    pair = a_pair()
    found = predicted(pair, bump(8.0))
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[:, 20:], labels[:, :20] = 1, 7
    facts = error_facts(found, Volume(labels, pair.frame), {1: "behind", 7: "in front", 9: "absent"})
    assert facts is not None
    error = found.expected.error_mm[pair.mask].double()
    assert facts["mean_mm"] == pytest.approx(float(error.mean())) and facts["max_mm"] == float(error.max())
    assert facts["p95_mm"] == pytest.approx(float(torch.quantile(error, 0.95)))
    for limit in (2, 5):
        assert facts[f"above_{limit}_mm_percent"] == pytest.approx(100 * float((error > limit).double().mean()))
    assert facts["bound_90_mean_mm"] > facts["mean_mm"]
    assert facts["mean_mm"] < facts["worst_region_mm"] < facts["max_mm"]
    there = pair.frame.to_index(np.array(facts["worst_region_at_mm"]))[::-1]
    assert np.linalg.norm(there - np.array(CENTRE)) < 8
    assert facts["calibrated"] is True
    coarse = error_facts(predicted(a_pair(4.0), bump(8.0)), None, {})
    assert coarse is not None and coarse["calibrated"] is False
    assert set(facts["structures"]) == {"1", "7"}
    assert facts["structures"]["7"]["mean_mm"] > facts["structures"]["1"]["mean_mm"]
    assert facts["structures"]["7"]["name"] == "in front"


def test_the_map_lies_on_the_fixed_grid_and_says_nothing_outside() -> None:
    pair = a_pair()
    found = predicted(pair, bump(8.0))
    fixed = Frame((20, 30, 30), (28.0, 50.0, 12.0), (1.5, 2.0, 2.5), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    mask = torch.ones(fixed.shape, dtype=torch.bool)
    mask[:3] = False
    image = found.on(fixed, mask)
    assert image.frame == fixed and bool(image.data[:3].isnan().all()) and not bool(image.data[3:].isnan().any())
    place = fixed.to_mm(np.array([12, 14, 9]))
    voxel = pair.frame.to_index(place).round().astype(int)[::-1]
    around = found.expected.error_mm[tuple(slice(int(n) - 1, int(n) + 2) for n in voxel)]
    assert float(around.min()) <= float(image.data[9, 14, 12]) <= float(around.max())
