"""Correlations of what is known alone, and fields that go on where nothing is known."""

from __future__ import annotations

import pytest
import torch
from test_refine import noise

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.refinement.level_images import Images, LevelImages, content_of
from SpikeRegLib.similarity.chance import above_chance
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.known_lncc import KnownCorrelation
from SpikeRegLib.similarity.lncc_gradient import LocalCorrelation
from SpikeRegLib.similarity.losses import known_lncc_map, lncc, lncc_map
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.filters import box_sum, gaussian
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.known import Known, continued, counting

SHAPE = (18, 20, 22)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    return noise(SHAPE, 1.5, 0).abs().clamp(0, 1), noise(SHAPE, 1.5, 1).abs().clamp(0, 1)


def block(*sizes: slice) -> torch.Tensor:
    known = torch.ones(SHAPE)
    known[sizes] = 0
    return known


def test_where_all_is_known_the_correlation_is_the_ordinary_one() -> None:
    fixed, moving = images()
    inner = torch.zeros(SHAPE)  # at the border one counts what is there, the other zeros around it
    inner[2:-2, 2:-2, 2:-2] = 1
    value, gradient = LocalCorrelation(fixed, window=5, weight=inner).value_and_gradient(moving)
    every = KnownCorrelation(fixed, window=5, weight=inner, counts=torch.ones(SHAPE))
    found = every.value_and_gradient(moving, torch.ones(SHAPE))
    assert found[0] == pytest.approx(value, rel=1e-4) and value > 0.01
    assert torch.allclose(found[1], gradient, atol=1e-4 * float(gradient.abs().max()))


def test_the_gradient_is_that_of_the_value_for_fixed_knowledge() -> None:
    fixed, moving = (image.double() for image in images())
    counts, known = (x.double() for x in (block(slice(2, 8), slice(3, 9), slice(0, 7)), block(slice(9, 15))))
    at = KnownCorrelation(fixed, window=5, noise=1e-3, weight=torch.rand(SHAPE).double(), counts=counts)
    value, gradient = at.value_and_gradient(moving, known)
    assert at.value(moving, known) != 0
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        way = torch.randn(SHAPE, generator=generator).double()
        step = 1e-5
        slope = [at.value_and_gradient(moving + sign * step * way, known)[0] for sign in (1, -1)]
        assert (slope[0] - slope[1]) / (2 * step) == pytest.approx(float((gradient * way).sum()), rel=1e-3)
    assert value == pytest.approx(at.value(moving, known))


def test_what_is_not_known_changes_no_correlation() -> None:
    fixed, moving = images()
    known = block(slice(4, 10), slice(5, 12), slice(6, 13))
    other = torch.where(known > 0, moving, 7 - 3 * moving)
    at = KnownCorrelation(fixed, window=5, counts=torch.ones(SHAPE))
    assert at.value(other, known) == pytest.approx(at.value(moving, known), rel=1e-5)
    gradients = [at.value_and_gradient(image, known)[1] for image in (moving, other)]
    assert torch.allclose(*gradients, atol=1e-6) and float(gradients[0][known == 0].abs().max()) == 0
    assert float(lncc(fixed, other, known=known)) == pytest.approx(float(lncc(fixed, moving, known=known)), rel=1e-5)


def test_known_local_correlation_is_that_of_the_image_cut_to_what_is_known() -> None:
    fixed, moving = images()
    known = block(slice(10, None))
    cut = known_lncc_map(fixed[:10], moving[:10], torch.ones(10, *SHAPE[1:]), window=5)
    assert torch.allclose(known_lncc_map(fixed, moving, known, window=5)[:10], cut, atol=1e-5)
    inner = (slice(3, 7), slice(3, -3), slice(3, -3))
    assert torch.allclose(cut[inner], lncc_map(fixed[:10], moving[:10], window=5)[inner], atol=1e-4)


def test_nothing_in_common_correlates_with_nothing() -> None:
    fixed, moving = images()
    left, right = block(slice(9, None)), block(slice(None, 9))
    assert KnownCorrelation(fixed, counts=left).value(moving, right) == 0
    assert float(lncc(fixed, moving, known=left * right)) == 0


def linear_field() -> torch.Tensor:
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (40, 44, 36)), indexing="ij")
    return torch.stack((0.1 * x - 0.05 * z, 0.2 * y + 1, 0.1 * z - 0.1 * x))


def test_a_field_goes_on_through_a_hole_as_it_is_around_it() -> None:
    field, known = linear_field(), torch.ones(40, 44, 36, dtype=torch.bool)
    known[10:30, 12:33, 8:25] = False
    spoilt = torch.where(known, field, torch.full_like(field, 50.0))
    found = continued(spoilt, known, torch.ones_like(known), fade=10.0)
    assert torch.equal(found[:, known], field[:, known])
    assert float((found - field).norm(dim=0)[~known].mean()) < 0.05
    assert float((found - field).norm(dim=0).max()) < 0.3


def test_outside_the_field_of_view_a_field_falls_to_a_third_over_the_given_length() -> None:
    field, within = torch.full((3, 64, 24, 24), 2.0), torch.ones(64, 24, 24, dtype=torch.bool)
    within[20:] = False
    found = continued(field, within, within, fade=10.0)[:, :, 12, 12]
    assert torch.equal(found[:, :20], field[:, :20, 12, 12])
    assert float((found[:, 19:-1] - found[:, 20:]).abs().max()) < 0.3  # smoothly
    assert float(found[0, 29]) == pytest.approx(2 / torch.e, rel=0.15)
    assert float(found[0, 50]) < 0.4


def test_what_is_known_everywhere_is_left_alone() -> None:
    field, known = linear_field(), torch.ones(40, 44, 36, dtype=torch.bool)
    assert continued(field, known, known, fade=10.0) is field
    assert float(box_sum(continued(field, ~known, ~known, fade=10.0), 3).abs().max()) == 0


# A pair of which a part is left out and another lies outside of a field of view -------------------------------------

GRID = Grid((30, 32, 34), 2.0)
LEFT_OUT, BEYOND = (slice(6, 14), slice(8, 16), slice(5, 13)), (slice(24, None), slice(None), slice(None))
LEFT_OUT_TOO = (slice(8, 16), slice(18, 26), slice(20, 28))  # in the moving image


def parts() -> Known:
    """In each image a block is left out, the moving one ends at a plane."""
    fixed, moving = torch.ones(2, 2, *GRID.shape)
    fixed[0][LEFT_OUT] = 0
    moving[0][LEFT_OUT_TOO] = 0
    moving[:, BEYOND[0]] = 0
    return Known(fixed, moving)


def partly(*, spoilt: bool = False, known: Known | None = None) -> Pair:
    """Two images that agree in part; other values where they are not known, if they are to be spoilt."""
    first, second = (noise(GRID.shape, 2.0, seed).abs().clamp(0, 1) for seed in (0, 1))
    fixed, moving = first.clone(), (0.7 * first + 0.3 * second).clone()
    if spoilt:
        fixed[LEFT_OUT] = noise(GRID.shape, 1.0, 2)[LEFT_OUT]
        moving[BEYOND], moving[LEFT_OUT_TOO] = 0.9, noise(GRID.shape, 1.0, 3)[LEFT_OUT_TOO]
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[3:-3, 3:-3, 3:-3] = True
    frame = Frame(GRID.shape, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    return Pair(frame, fixed, moving, mask, Comparison(), known)


def a_field() -> torch.Tensor:
    """[3, D, H, W] in voxels, smooth, up to one voxel."""
    field = torch.stack([noise(GRID.shape, 4.0, seed) for seed in (5, 6, 7)])
    return field / field.abs().max()


def test_a_voxel_counts_as_far_as_both_images_know_it_and_only_from_nine_tenths_on() -> None:
    share = torch.tensor([0.0, 0.5, 0.9, 0.95, 1.0])
    torch.testing.assert_close(counting(share), torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0]), atol=1e-5, rtol=0)
    counts = parts().counts
    assert not any(bool(counts[part].any()) for part in (LEFT_OUT, LEFT_OUT_TOO, BEYOND))
    assert int(counts.sum()) == counts.numel() - 2 * 8**3 - 6 * 32 * 34 and bool(((counts == 0) | (counts == 1)).all())
    fixed, moving = torch.full((2, 2, 1, 1, 1), 0.97)
    assert float(Known(fixed, moving).counts) == pytest.approx((0.97**2 - 0.9) / 0.1, rel=1e-4)


def test_a_mean_over_a_mask_runs_over_what_is_known_of_it() -> None:
    pair, known = partly(), parts().counts
    values = known_lncc_map(pair.fixed, pair.moving, known)
    both = known.bool() & pair.mask
    found = lncc(pair.fixed, pair.moving, mask=pair.mask, known=known)
    assert float(found) == pytest.approx(float(values[both].mean()), rel=1e-5)
    without = lncc(pair.fixed, pair.moving, known=known)
    assert float(without) == pytest.approx(float(values[known.bool()].mean()), rel=1e-5)


def test_what_is_not_known_of_a_pair_changes_no_figure_of_it() -> None:
    """On its grid, on a coarser one, and seen through a displacement, with which the edge of the moving one moves."""
    field = a_field()
    plain, spoilt = (partly(spoilt=spoil, known=parts()) for spoil in (False, True))
    for one, other in ((plain, spoilt), (plain.coarser(4.0), spoilt.coarser(4.0))):
        assert other.similarity() == pytest.approx(one.similarity(), rel=1e-4) and one.similarity() > 0.2
    assert spoilt.similarity(2.0 * field) == pytest.approx(plain.similarity(2.0 * field), rel=1e-4)
    seen = plain.seen_through(field)
    assert seen.similarity() == pytest.approx(plain.similarity(2.0 * field), rel=1e-4)
    assert abs(partly(spoilt=True).similarity() - partly().similarity()) > 0.02
    assert float((seen.known.counts - parts().counts)[23:25].abs().max()) > 0.5


def test_a_coarser_pair_is_the_same_pair_with_larger_voxels() -> None:
    pair = partly(known=parts())
    coarse = pair.coarser(4.0)
    assert pair.coarser(2.0) is pair and pair.coarser(1.0) is pair
    assert coarse.frame == Frame((16, 17, 18), (1.0, 2.0, 3.0), (4.0, 4.0, 4.0))
    assert coarse.mask.dtype == torch.bool and coarse.mask.shape == coarse.fixed.shape == (16, 17, 18)
    for line, fine in (
        (coarse.mask[:15, 8, 8], pair.mask[::2, 16, 16]),
        (coarse.mask[8, 8, :17], pair.mask[16, 16, ::2]),
    ):
        assert torch.equal(line, fine)
    # Smoothed no more than the voxels need: what varies over a few of them is still there.
    inner = (slice(4, -4),) * 3
    for small in (coarse, partly().coarser(4.0)):
        apart = small.fixed[:15, :16, :17] - pair.fixed[::2, ::2, ::2]
        assert float(apart[4:10, 10:-4, 8:-4].abs().max()) < 0.2
        assert 0.7 < float(small.fixed[inner].std() / pair.fixed[inner].std()) < 1.0
    counts = coarse.known.counts
    assert (
        not counts[3:7, 4:8, 3:7][1:-1, 1:-1, 1:-1].any()
        and not counts[13:].any()
        and bool((counts[9:11, 6, 4] == 1).all())
    )


def test_a_pair_tells_how_much_of_the_mask_is_compared() -> None:
    pair = partly(known=parts())
    nothing = torch.zeros(3, *GRID.shape)
    share = (parts().counts.bool() & pair.mask).sum() / pair.mask.sum()
    assert pair.known_percent(nothing) == pytest.approx(100 * float(share), rel=1e-4)
    assert partly().known_percent(nothing) == 100
    upward = nothing.clone()
    upward[2] = -8.0  # mm along z, four planes: the plane where the moving image ends is reached four later
    assert pair.known_percent(upward) > 100 * float(share) + 8


def test_each_image_is_filled_with_the_other_where_it_is_not_known() -> None:
    pair = partly(spoilt=True, known=parts())
    fixed, moving = pair.filled(pair.fixed, pair.moving)
    assert torch.equal(fixed[LEFT_OUT], pair.moving[LEFT_OUT]) and torch.equal(moving[BEYOND], pair.fixed[BEYOND])
    rest = parts().counts.bool()
    assert torch.equal(fixed[rest], pair.fixed[rest]) and torch.equal(moving[rest], pair.moving[rest])
    alone = partly()
    assert alone.filled(alone.fixed, alone.moving) == (alone.fixed, alone.moving)


@pytest.mark.parametrize("fade_mm", [10.0, 20.0])
def test_a_displacement_of_a_pair_goes_on_through_what_is_left_out_and_fades_beyond_the_view(fade_mm: float) -> None:
    fixed, moving = torch.ones(2, 2, *GRID.shape)
    fixed[0][LEFT_OUT] = 0
    moving[:, :, :, 15:] = 0
    pair = partly(known=Known(fixed, moving))
    pair = Pair(**{**pair.__dict__, "fade_mm": fade_mm})
    field = torch.zeros(3, *GRID.shape)
    field[1] = 0.8  # along y, so that the moving image ends where it does
    spoilt = field.clone()
    there = (slice(None), *LEFT_OUT)
    spoilt[there] = 3.0
    found = pair.continued(spoilt)
    torch.testing.assert_close(found[there], field[there], atol=0.02, rtol=0)
    # Half of a voxel is known at 14.5; from there on it falls to a third over the given length.
    assert float(found[1, 15, 14, 15 + round(fade_mm / 2)]) == pytest.approx(0.8 / torch.e, rel=0.25)
    assert partly().continued(spoilt) is spoilt


@pytest.mark.parametrize("spacing_mm", [2.0, 4.0])
def test_a_level_sees_only_what_is_known(spacing_mm: float) -> None:
    """Its value and the way it shows, wherever the images go on."""
    content = content_of(torch.ones(1, *GRID.shape))
    field, target, known = a_field(), GRID.coarser(4.0), parts()
    field = field[:, ::2, ::2, ::2][:, :16, :17, :18]
    field = torch.nn.functional.pad(field, (0, 1, 0, 1, 0, 1), mode="replicate")[:, :16, :17, :18].contiguous() / 2
    found = []
    for pair in (partly(), partly(spoilt=True)):
        images = Images(pair.fixed[None], pair.moving[None], pair.mask.float(), known)
        level = LevelImages(images, GRID, spacing_mm, content, 5)
        value, velocity = level.objective_and_velocity(field, target, 4.0, lambda _: None)
        assert value == pytest.approx(level.similarity(field, target), rel=1e-5)
        found.append((value, velocity))
    assert found[0][0] == pytest.approx(found[1][0], rel=2e-3) and found[0][0] > 0.1
    largest = float(found[0][1].abs().max())
    torch.testing.assert_close(found[0][1], found[1][1], atol=0.02 * largest, rtol=0)


def test_a_level_continues_a_field_as_the_pair_does() -> None:
    pair, field = partly(known=parts()), a_field()
    field[2] = 0
    images = Images(pair.fixed[None], pair.moving[None], pair.mask.float(), parts())
    level = LevelImages(images, GRID, 2.0, content_of(images.fixed), 5)
    torch.testing.assert_close(level.continued(field, GRID), pair.continued(field), atol=1e-4, rtol=0)
    without = LevelImages(images._replace(known=None), GRID, 2.0, content_of(images.fixed), 5)
    assert without.continued(field, GRID) is field


@pytest.mark.parametrize("known", [None, parts()], ids=["all", "in part"])
def test_a_level_looks_at_the_box_of_the_image_alone_and_finds_what_the_whole_shows(known: Known | None) -> None:
    pair, target = partly(), GRID.coarser(4.0)
    mask = torch.zeros(GRID.shape)
    mask[8:20, 10:26, 11:24] = 1
    images = Images(pair.fixed[None], pair.moving[None], mask, known)
    field = 0.4 * a_field()[:, :16, :17, :18].contiguous()
    field = torch.nn.functional.pad(field, (0, 18 - field.shape[3], 0, 17 - field.shape[2], 0, 16 - field.shape[1]))
    found = []
    for content in (([0, 0, 0], [29, 31, 33]), ([5, 7, 8], [22, 28, 26])):
        level = LevelImages(images, GRID, 2.0, content, 5)
        found.append(level.objective_and_velocity(field, target, 0.0, lambda _: None))
    assert level.grid.shape == (23, 27, 24) and level.grid.offset_mm == (6.0, 10.0, 12.0)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    within = [velocity[:, 4:10, 5:13, 6:12] for _, velocity in found]
    torch.testing.assert_close(*within, atol=1e-3 * float(within[0].abs().max()), rtol=0)


def test_a_point_pulls_as_hard_as_an_image_that_gains_as_much() -> None:
    """What moving one node by a millimetre gains, times the unit of force, is the velocity of the images there."""
    pair, node, step = partly(), (14, 15, 16), 1e-4
    images = Images(pair.fixed[None].double(), pair.moving[None].double())
    level = LevelImages(images, GRID, 2.0, content_of(torch.ones(1, *GRID.shape)), 5)
    still = torch.zeros(3, *GRID.shape, dtype=torch.float64)
    velocity = level.objective_and_velocity(still, GRID, 0.0, lambda _: None)[1]
    for component in range(3):
        values = []
        for moved in (step, -step):
            field = still.clone()
            field[(component, *node)] = moved
            values.append(level.similarity(field, GRID))
        gain = (values[0] - values[1]) / (2 * GRID.spacing_mm * step)
        assert float(velocity[(component, *node)]) == pytest.approx(gain * level.unit_force(0.0), rel=0.02)
    # Smoothed like the images' velocity, which leaves so much of one point.
    point = torch.zeros(21, 21, 21)
    point[10, 10, 10] = 1
    peak = float(gaussian(point, 2.0)[10, 10, 10])
    assert level.unit_force(4.0) == pytest.approx(peak * level.unit_force(0.0), rel=0.05)


@pytest.mark.parametrize(("planes", "compared"), [(15, False), (26, True)])
def test_turned_over_a_pair_is_compared_only_where_enough_of_it_is_known(planes: int, compared: bool) -> None:
    """What is known up to the middle, both along z and y, does not meet itself however it is turned."""
    moving = torch.zeros(2, *GRID.shape)
    moving[:, :planes, : planes + 1] = 1
    pair = partly(known=Known(moving, moving))
    found = above_chance(pair)
    assert (found is not None) is compared
    assert found is None or 2 < found < 100


def test_a_window_of_which_less_than_a_fifth_is_known_is_not_compared() -> None:
    fixed, _ = images()
    known = torch.zeros_like(fixed)
    known[::2, ::2, ::3] = 1.0  # 9 of 125 in a window
    sparse = KnownCorrelation(fixed, counts=torch.ones_like(fixed))
    assert sparse.value(fixed, known) == 0.0 < sparse.value(fixed, torch.ones_like(fixed))


def test_a_field_goes_on_through_what_either_image_leaves_out() -> None:
    """Left out is what does not count, though it lies in the field of view."""
    shape = (16, 16, 16)
    whole, holed = torch.ones(2, *shape), torch.ones(2, *shape)
    holed[0, 6:10, 6:10, 6:10] = 0.0
    field = torch.ones(3, *shape)
    field[:, 7:9, 7:9, 7:9] = 9.0
    for known in (Known(whole, holed), Known(holed, whole)):
        assert float((known.continued(field, 2.0) - 1).abs().max()) < 0.1
    assert float(Known(whole, whole).continued(field, 2.0).max()) == 9.0
