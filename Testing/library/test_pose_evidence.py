"""A pose far from the headers' needs better grounds than the similarity that a search has maximised."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from SpikeRegLib.affine import align, reduced
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, foreground_mask

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))
from doubtful_inputs import SparsePair, lung_vessels


@pytest.fixture(scope="module")
def lungs() -> SparsePair:
    return lung_vessels(0)


def apart_mm(pair: SparsePair, matrix: np.ndarray) -> float:
    """Mean distance of the landmarks under a pose, fixed -> moving."""
    reached = pair.fixed_points.numpy() @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(reached - pair.moving_points.numpy(), axis=1).mean())


def test_vessels_of_two_lungs_end_nearer_than_the_headers_leave_them(lungs):
    found = align(lungs.fixed, lungs.moving)
    assert apart_mm(lungs, found.transform.matrix) < 0.3 * apart_mm(lungs, np.eye(4))


@pytest.mark.slow
def test_a_turned_chest_that_a_search_likes_better_is_not_believed(lungs, monkeypatch):
    """Each image known by one lung only, not the same one: the search turns the chest by 160 mm."""

    sides = iter((True, False))

    def other_lung(volume: Volume) -> torch.Tensor:
        inside = foreground_mask(volume)
        return inside & ((torch.arange(inside.shape[2]) < inside.shape[2] // 2) == next(sides))

    monkeypatch.setattr(reduced, "foreground_mask", other_lung)
    found = align(lungs.fixed, lungs.moving)
    assert apart_mm(lungs, found.transform.matrix) <= apart_mm(lungs, np.eye(4)) + 1e-6
    assert any("clearly better than the position that the headers give" in line for line in found.warnings)


def test_the_headers_pose_is_kept_where_nothing_fits_clearly_better():
    """Noise agrees with noise a little better somewhere: no reason to move it."""
    frame = Frame((40, 44, 36), (0.0, 0.0, 0.0), (4.0, 4.0, 4.0))
    images = [
        Volume(torch.rand(frame.shape, generator=torch.Generator().manual_seed(seed)) * 100 + 1, frame)
        for seed in (0, 1)
    ]
    found = align(*images)
    np.testing.assert_allclose(found.transform.matrix, np.eye(4), atol=1e-9)
    assert found.accepted_steps == [] and found.similarity_after == found.similarity_before


def test_two_regions_of_one_size_are_both_foreground_and_specks_are_not():
    data = torch.zeros(40, 40, 60)
    data[10:30, 10:30, 5:25] = 100.0
    data[10:30, 10:28, 35:55] = 100.0
    data[2:5, 2:5, 28:31] = 100.0
    mask = foreground_mask(Volume(data, Frame((40, 40, 60), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))
    assert torch.equal(mask, (data > 0) & (torch.arange(40)[:, None, None] > 6))
