"""Coarse levels optimised both ways: the mean of both directions, and nothing that either alone would have refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_refine import SHAPE, SHORT, pull, smooth_field, textured

from SpikeRegLib.errors import Cancelled
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement import both_ways
from SpikeRegLib.refinement.both_ways import refine_both_ways
from SpikeRegLib.refinement.feature_maps import FeatureMaps
from SpikeRegLib.refinement.refine import Level, refine
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.known import Known

SCHEDULE = replace(SHORT, levels=(Level.usual(2.0, 15), Level.usual(1.0, 6)), both_ways=1)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fixed, moving, and the displacement between them."""
    moving, field = textured(), smooth_field(5.0)
    return pull(moving, field), moving, field


def test_a_known_warp_is_recovered(pair):
    fixed, moving, field = pair
    found = refine_both_ways(fixed, moving, spacing_mm=1.0, schedule=SCHEDULE)
    inside = fixed > 0.1
    missed = (found.displacement - field)[:, inside].square().sum(0).sqrt().mean()
    moved = field[:, inside].square().sum(0).sqrt().mean()
    assert missed < 0.25 * moved and found.accepted
    assert found.similarity_after > 0.95 > found.similarity_before
    assert len(found.iterations) == len(SCHEDULE.levels)


def test_the_finest_levels_start_between_both_directions(pair, monkeypatch):
    """One way alone and the other, inverted; the start lies in the middle, on the fixed image's side."""
    fixed, moving, _ = pair
    given = []

    def seen(*images, initial=None, **how):
        found = refine(*images, initial=initial, **how)
        given.append((images, initial, found))
        return found

    monkeypatch.setattr(both_ways, "refine", seen)
    found = refine_both_ways(fixed, moving, spacing_mm=1.0, schedule=SCHEDULE)
    (there, none, first), (back, nothing, second), (again, start, last) = given
    assert found.iterations == (first.iterations[0] + second.iterations[0], *last.iterations)
    assert there == (fixed, moving) == again and back == (moving, fixed) and none is nothing is None
    inverted = 2 * start - first.field
    # What lies at x in the fixed image goes to x + u(x), and from there back.
    grid = second.grid
    whole, returned = grid.to_voxels(inverted), grid.to_voxels(second.field)
    error = whole + pull_each(returned, whole)
    assert float(error.abs().max()) < 0.15 and float(error.abs().mean()) < 0.01 and float(whole.abs().max()) > 0.5


def pull_each(field: torch.Tensor, through: torch.Tensor) -> torch.Tensor:
    return torch.stack([pull(component, through) for component in field])


def test_masks_maps_and_what_is_known_change_places(pair, monkeypatch):
    fixed, moving, _ = pair
    maps = FeatureMaps(fixed[None], moving[None], torch.ones(SHAPE), Grid(SHAPE, 1.0))
    whole = torch.ones(2, *SHAPE)
    part = whole.clone()
    part[:, :8] = 0
    told = []

    def seen(*images, **how):
        told.append(how)
        return refine(*images, **how)

    monkeypatch.setattr(both_ways, "refine", seen)
    refine_both_ways(
        fixed,
        moving,
        spacing_mm=1.0,
        schedule=SCHEDULE,
        mask=(fixed > 0.1).float(),
        maps=maps,
        known=Known(whole, part),
    )
    there, back, again = told
    assert there["maps"] is maps is again["maps"] and torch.equal(back["maps"].fixed, moving[None])
    assert torch.equal(back["known"].fixed, part) and torch.equal(there["known"].fixed, whole)
    assert torch.equal(back["mask"], (moving > 1e-3).float()) and torch.equal(again["mask"], (fixed > 0.1).float())
    assert [len(how["schedule"].levels) for how in told] == [1, 1, 1]


def test_noise_that_cannot_be_aligned_is_left_alone(pair):
    torch.manual_seed(0)
    fixed, _, _ = pair
    found = refine_both_ways(fixed, torch.rand(SHAPE), spacing_mm=1.0, schedule=SCHEDULE)
    assert found.similarity_after >= found.similarity_before


def test_progress_never_goes_back_and_a_listener_can_stop_it(pair):
    fixed, moving, _ = pair
    heard = []

    def listener(progress: Progress) -> None:
        heard.append(progress.fraction)
        if progress.fraction > 0.8:
            raise Cancelled

    with pytest.raises(Cancelled):
        refine_both_ways(fixed, moving, spacing_mm=1.0, schedule=SCHEDULE, listener=listener)
    assert heard == sorted(heard) and len(heard) > 20
