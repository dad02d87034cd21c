"""Training losses against scipy, MONAI and fields whose derivatives are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.similarity.known_lncc import KnownCorrelation
from SpikeRegLib.similarity.lncc_gradient import LocalCorrelation
from SpikeRegLib.similarity.losses import bending_energy, diffusion, lncc, lncc_map, soft_dice
from SpikeRegLib.space.filters import gaussian

SHAPE = (12, 13, 14)


def textures(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two related images in [0, 1], double precision."""
    random = torch.Generator().manual_seed(seed)
    one, two = torch.rand(2, *SHAPE, generator=random, dtype=torch.float64)
    return one, (one * 0.6 + two * 0.4).square()


def positions() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SHAPE), indexing="ij")
    return x, y, z


@pytest.mark.parametrize("window", [3, 5, 9])
def test_lncc_equals_numpy_in_each_cube(window: int) -> None:
    fixed, moving = textures()
    got, reach = lncc_map(fixed, moving, window=window, epsilon=0.0), window // 2
    for place in ((reach, reach, reach), (6, 6, 6), (5, 7, 13 - reach)):
        cube = tuple(slice(p - reach, p + reach + 1) for p in place)
        correlation = np.corrcoef(fixed[cube].numpy().ravel(), moving[cube].numpy().ravel())[0, 1]
        assert float(got[place]) == pytest.approx(correlation**2, rel=1e-9)


@pytest.mark.parametrize("window", [5, 9])
def test_lncc_equals_monai(window: int) -> None:
    losses = pytest.importorskip("monai.losses.image_dissimilarity", reason="monai is not installed: no second opinion")
    reference = losses.LocalNormalizedCrossCorrelationLoss(
        spatial_dims=3, kernel_size=window, kernel_type="rectangular", smooth_nr=0.0, smooth_dr=1e-9, reduction="none"
    )
    fixed, moving = textures()
    expected = -reference(fixed[None, None], moving[None, None])[0, 0]
    torch.testing.assert_close(lncc_map(fixed, moving, window=window, epsilon=0.0), expected, rtol=1e-6, atol=1e-9)
    # The small epsilon that makes flat regions count as nothing costs textured ones less than one per cent.
    assert float(lncc(fixed, moving, window=window)) == pytest.approx(float(expected.mean()), rel=0.01)


def test_the_usual_window_is_five_voxels_where_a_field_is_climbed_and_nine_where_one_is_trained() -> None:
    fixed, moving = textures()
    known = torch.ones(SHAPE, dtype=torch.float64)
    assert torch.equal(lncc(fixed, moving), lncc(fixed, moving, window=9))
    assert LocalCorrelation(fixed).value(moving) == LocalCorrelation(fixed, window=5, noise=1e-5).value(moving)
    usual = KnownCorrelation(fixed, counts=known).value(moving, known)
    assert usual == KnownCorrelation(fixed, window=5, noise=1e-5, counts=known).value(moving, known)
    assert RefinementSchedule(()).window == 5


def test_lncc_ignores_gain_and_offset_and_is_one_for_equal_images() -> None:
    fixed, moving = (gaussian(x, 0.8).float() for x in textures())
    same = lncc(fixed, moving)
    assert float(lncc(fixed, fixed)) > 0.99
    # Away from the border: beyond it both images count as zero, which an offset does not follow.
    inside = torch.zeros(SHAPE)
    inside[4:-4, 4:-4, 4:-4] = 1
    for other in (0.5 * moving + 0.3, 0.9 - 0.5 * moving):
        got, expected = lncc(fixed, other, mask=inside), lncc(fixed, moving, mask=inside)
        assert float(got) == pytest.approx(float(expected), abs=0.02)
    assert 0 <= float(same) <= 1


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_flat_regions_give_nothing(level: float) -> None:
    fixed = torch.full((20, 20, 20), level)
    textured = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(2))
    inside = (slice(4, -4),) * 3
    assert lncc_map(fixed, fixed)[inside].max() < 1e-3
    assert lncc_map(fixed, textured)[inside].max() < 1e-3
    assert lncc_map(torch.zeros(20, 20, 20), torch.zeros(20, 20, 20)).abs().max() == 0


def test_lncc_grows_towards_alignment_and_its_gradient_says_so() -> None:
    fixed = gaussian(textures(3)[0], 1.0)
    similar = [float(lncc(fixed, torch.roll(fixed, shift, -1))) for shift in (0, 1, 2)]
    assert similar[0] > similar[1] > similar[2]
    moving = torch.roll(fixed, 1, -1).requires_grad_()
    lncc(fixed, moving).backward()
    assert moving.grad is not None
    with torch.no_grad():
        step = 1e-3 * moving.grad / moving.grad.norm()
        assert lncc(fixed, moving + step) > lncc(fixed, moving)


def test_a_mask_limits_the_mean() -> None:
    fixed, moving = textures()
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[3:6, 2:9, 4:10] = True
    assert float(lncc(fixed, moving, mask=mask)) == pytest.approx(float(lncc_map(fixed, moving)[mask].mean()))


@pytest.mark.parametrize("spacing", [1.0, 2.0, 0.5])
def test_diffusion_of_a_linear_field_is_its_squared_slope(spacing: float) -> None:
    x, y, z = (p * spacing for p in positions())
    field = torch.stack((0.3 * x - 0.1 * y, 0.2 * z, torch.full_like(x, 5.0)))
    expected = (0.3**2 + 0.1**2 + 0.2**2) / 3  # the mean over the three components
    assert float(diffusion(field, spacing)) == pytest.approx(expected)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 0.5])
def test_bending_energy_of_a_quadratic_field_is_its_curvature(spacing: float) -> None:
    x, y, z = (p * spacing for p in positions())
    field = torch.stack((0.05 * x * x, 0.02 * y * z, 3 * x - y + 0.2 * z))
    expected = (0.1**2 + 2 * 0.02**2) / 3  # mixed derivatives count twice
    assert float(bending_energy(field, spacing)) == pytest.approx(expected)


def test_affine_fields_do_not_bend_and_constant_ones_do_not_diffuse() -> None:
    x, y, z = positions()
    assert float(bending_energy(torch.stack((x + 2 * y, z, -x)), 1.0)) == pytest.approx(0, abs=1e-20)
    assert float(diffusion(torch.ones(3, *SHAPE), 1.0)) == 0


def test_dice_of_hard_labels_is_the_overlap() -> None:
    fixed, warped = torch.zeros(3, 6, 6, 6), torch.zeros(3, 6, 6, 6)
    fixed[0, :4], warped[0, 2:] = 1, 1  # 4 and 4 planes, 2 shared: 1/2
    fixed[1, :2], warped[1, :1] = 1, 1  # 2 and 1 planes, 1 shared: 2/3
    warped[2, 5] = 1  # absent from the fixed map: left out
    assert float(soft_dice(fixed, warped)) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert float(soft_dice(fixed, fixed)) == 1


def test_dice_of_soft_labels_is_highest_for_equal_ones() -> None:
    share = torch.from_numpy(ndimage.gaussian_filter(np.eye(8)[None, :, :, None].repeat(8, 3), 1.0)).float()
    shifted = torch.roll(share, 1, 1)
    assert float(soft_dice(share, share)) == pytest.approx(1)
    assert float(soft_dice(share, shifted)) < 0.99
