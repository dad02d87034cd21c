"""Maps beside the images of a refinement: their channels, their gradient, and what they do for a field."""

from __future__ import annotations

import torch

from SpikeRegLib.anatomy.channels import CHANNELS, channels_of
from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.refinement.feature_maps import FeatureDifference, FeatureMaps
from SpikeRegLib.refinement.refine import refine
from SpikeRegLib.refinement.schedule import Level, RefinementSchedule
from SpikeRegLib.space.grids import Grid

FRAME = Grid((33, 33, 33), 1.0)
EVERYWHERE = ([0, 0, 0], [32, 32, 32])


def ball(shift: float = 0.0, spacing_mm: float = 2.0) -> torch.Tensor:
    """A smooth ball of 8 mm, moved along x by so many mm."""
    axis = torch.arange(0, 33, spacing_mm)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    away = ((z - 15) ** 2 + (y - 15) ** 2 + (x - 15 - shift) ** 2).sqrt()
    return torch.sigmoid((8 - away) / 1.5)


def maps(shift: float, spacing_mm: float = 2.0) -> FeatureMaps:
    fixed, moving = ball(0.0, spacing_mm)[None], ball(shift, spacing_mm)[None]
    grid = FRAME.coarser(spacing_mm)
    return FeatureMaps(fixed, moving, torch.ones(grid.shape), grid)


def test_the_channels_tell_any_two_structures_apart():
    pure = channels_of(torch.eye(CLASSES)[:, :, None, None])[:, :, 0, 0]
    assert pure.shape == (CHANNELS, CLASSES) and not pure[:, 0].any()
    apart = (pure[:, :, None] - pure[:, None]).square().sum(0)
    others = apart[~torch.eye(CLASSES, dtype=torch.bool)]
    assert float(others.min()) > 1.3 and float(others.max()) < 2.7 and abs(float(others.mean()) - 2) < 0.3


def test_channels_mix_as_shares_do():
    shares = torch.rand(CLASSES, 3, 4, 5).softmax(0)
    pure = channels_of(torch.eye(CLASSES)[:, :, None, None])[:, :, 0, 0]
    assert torch.allclose(channels_of(shares), torch.einsum("kc,cdhw->kdhw", pure, shares), atol=1e-6)


def test_the_velocity_is_the_gradient_of_the_value():
    difference = FeatureDifference(maps(3.0), 2.0, EVERYWHERE, FRAME)
    grid = FRAME.coarser(4.0)
    zero = torch.zeros(3, *grid.shape)
    value, velocity = difference.value_and_velocity(zero, grid, 0.0)
    assert value == difference.value(zero, grid) < 0
    # Along what moves everything by the same, where the slopes are those of the middle of two voxels.
    for component in range(3):
        step = torch.zeros_like(zero)
        step[component] = 0.02
        slope = (difference.value(step, grid) - difference.value(-step, grid)) / 0.04 / grid.spacing_mm
        # Each node of the field stands for eight voxels; slopes are taken over two voxels of 2 mm.
        along = float(velocity[component].sum()) * 8 / 4
        assert abs(slope - along) < 0.05 * max(abs(slope), 1e-3), component
    assert float(velocity[0].sum()) > 10 * abs(float(velocity[1].sum()))


def test_maps_count_alike_on_images_of_any_spacing():
    """The velocity is in the units of the images' own: four times finer images have slopes and weights of their own."""
    grid = FRAME.coarser(4.0)
    zero = torch.zeros(3, *grid.shape)
    coarse, fine = (
        FeatureDifference(maps(3.0), spacing_mm, EVERYWHERE, FRAME).value_and_velocity(zero, grid, 2.0)[1]
        for spacing_mm in (2.0, 1.0)
    )
    assert torch.allclose(fine * 16, coarse, rtol=1e-4)


def test_maps_move_what_images_do_not_tell_apart():
    """Two images that look alike everywhere, with structures 4 mm apart in them."""
    torch.manual_seed(0)
    noise = torch.rand(33, 33, 33)
    levels = (Level(2.0, 20, 4.0, 4.0, 1.0, maps=3.0),)
    pair = maps(4.0)
    kept = refine(noise, noise, spacing_mm=1.0, schedule=RefinementSchedule(levels))
    moved = refine(noise, noise, spacing_mm=1.0, schedule=RefinementSchedule(levels), maps=pair)
    assert float(kept.field.abs().max()) < 0.5 and moved.accepted
    middle = moved.field[0, 4, 4, 3:6]
    assert float(middle.mean()) > 0.3
    difference = FeatureDifference(pair, 2.0, EVERYWHERE, FRAME)
    zero = torch.zeros_like(moved.field)
    assert difference.value(moved.grid.to_voxels(moved.field), moved.grid) > 0.8 * difference.value(zero, moved.grid)
    unweighted = RefinementSchedule((Level(2.0, 20, 4.0, 4.0, 1.0),))
    assert torch.equal(refine(noise, noise, spacing_mm=1.0, schedule=unweighted, maps=pair).field, kept.field)


def test_where_nothing_counts_nothing_pulls():
    pair = maps(4.0)._replace(weight=torch.zeros(17, 17, 17))
    grid = FRAME.coarser(4.0)
    value, velocity = FeatureDifference(pair, 2.0, EVERYWHERE, FRAME).value_and_velocity(
        torch.zeros(3, *grid.shape), grid, 2.0
    )
    assert value == 0 and not velocity.any()


def test_a_field_that_comes_after_is_seen_through():
    difference = FeatureDifference(maps(4.0), 2.0, EVERYWHERE, FRAME)
    grid = FRAME.coarser(4.0)
    shift = torch.zeros(3, *grid.shape)
    shift[0] = 1.0  # 4 mm
    through = difference.value(shift, grid)
    difference.move_through(shift, grid)
    assert abs(difference.value(torch.zeros_like(shift), grid) - through) < 0.02 * abs(through) + 1e-3
    difference.move_through(None, grid)
    assert difference.value(torch.zeros_like(shift), grid) < 3 * through


def test_the_weight_of_a_level_is_that_of_the_nearest_spacing():
    schedule = RefinementSchedule((Level(4.0, 5, 4.0, 6.9, 2.0, maps=3.0), Level(1.0, 5, 2.0, 1.7, 0.8, maps=0.5)))
    assert [schedule.maps_weight(spacing) for spacing in (4.0, 1.0, 2.0, 8.0)] == [3.0, 0.5, 0.5, 3.0]
    assert RefinementSchedule(()).maps_weight(2.0) == 0


CONTENT, CROPPED = ([8, 12, 5], [20, 22, 30]), (slice(3, 13), slice(5, 14), slice(1, 17))  # on 2 mm, a voxel around it


def test_maps_are_compared_in_the_box_of_the_image_alone():
    generator = torch.Generator().manual_seed(1)
    fixed, moving, weight = (torch.rand(n, 17, 17, 17, generator=generator) for n in (2, 2, 1))
    grid = FRAME.coarser(4.0)
    field = 0.3 * torch.randn(3, *grid.shape, generator=generator)
    inside = torch.zeros(17, 17, 17)
    inside[CROPPED] = weight[0][CROPPED]
    whole = FeatureDifference(FeatureMaps(fixed, moving, inside, FRAME.coarser(2.0)), 2.0, EVERYWHERE, FRAME)
    cropped = FeatureDifference(FeatureMaps(fixed, moving, weight[0], FRAME.coarser(2.0)), 2.0, CONTENT, FRAME)
    assert cropped.grid.shape == (10, 9, 16) and cropped.grid.offset_mm == (6.0, 10.0, 2.0)
    expected = (((moving - fixed) ** 2).sum(0) * inside).sum() / inside.sum()
    assert abs(cropped.value(torch.zeros_like(field), grid) + float(expected)) < 1e-5
    assert abs(cropped.value(field, grid) - whole.value(field, grid)) < 1e-5
    value, velocity = cropped.value_and_velocity(field, grid, 0.0)
    assert value == cropped.value(field, grid)
    # Slopes at the faces of the box have no neighbour on one side.
    within = velocity[:, 3:6, 4:6, 2:7]
    torch.testing.assert_close(
        within, whole.value_and_velocity(field, grid, 0.0)[1][:, 3:6, 4:6, 2:7], atol=1e-6, rtol=0
    )
