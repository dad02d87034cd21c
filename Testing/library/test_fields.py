"""Fields in voxels: warping against scipy, true composition, exponentials that invert, up-sampling by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.linalg import expm

from SpikeRegLib.space.fields import compose, exponential, upsample, warp
from SpikeRegLib.space.filters import gaussian

SHAPE = (12, 14, 16)


def smooth(amplitude: float, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    field = gaussian(torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(seed)), 2.0)
    return amplitude * field / field.abs().max()


def points(shape: tuple[int, int, int]) -> torch.Tensor:
    """[1, 3, D, H, W], the voxel position of every voxel as (x, y, z)."""
    z, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    return torch.stack((x, y, z))[None]


def test_warp_equals_scipy() -> None:
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    displacement = smooth(3.0)
    place = (points(SHAPE) + displacement)[0].flip(0).numpy()  # (z, y, x)
    expected = ndimage.map_coordinates(image[0, 0].numpy(), place, order=1, mode="nearest")
    np.testing.assert_allclose(warp(image, displacement)[0, 0].numpy(), expected, atol=1e-4)


def test_components_are_x_y_z_along_the_last_axis_first() -> None:
    image = torch.rand(1, 2, *SHAPE)
    shift = torch.zeros(1, 3, *SHAPE)
    shift[:, 0], shift[:, 2] = 2, 1
    torch.testing.assert_close(warp(image, shift)[..., :-1, :, :-2], image[..., 1:, :, 2:], atol=1e-5, rtol=0)
    nearest = warp(image, shift, mode="nearest")
    torch.testing.assert_close(nearest[..., :-1, :, :-2], image[..., 1:, :, 2:], atol=0, rtol=0)


def test_warping_by_a_composition_is_warping_twice() -> None:
    """M(x + u(x)) with u = first, then second. Exact for an image that linear interpolation reproduces."""
    ramp = points(SHAPE)
    first, second = smooth(1.0, 1), smooth(1.0, 2)
    inside = (..., slice(3, -3), slice(3, -3), slice(3, -3))
    once = warp(ramp, compose(first, second))
    twice = warp(warp(ramp, second), first)
    torch.testing.assert_close(once[inside], twice[inside], atol=1e-4, rtol=0)


def test_composition_with_nothing_changes_nothing() -> None:
    field, nothing = smooth(2.0), torch.zeros(1, 3, *SHAPE)
    torch.testing.assert_close(compose(field, nothing), field)
    torch.testing.assert_close(compose(nothing, field), field, atol=1e-5, rtol=0)


def test_exponentials_of_opposite_velocities_are_inverse() -> None:
    velocity = smooth(1.5)
    forward, backward = exponential(velocity), exponential(-velocity)
    assert (forward + backward).abs().max() > 0.1, "the inverse is not just the opposite"
    for there, back in ((forward, backward), (backward, forward)):
        error = compose(there, back)[..., 3:-3, 3:-3, 3:-3].norm(dim=1)
        assert error.mean() < 0.02 and error.max() < 0.15


def test_exponential_of_a_linear_velocity_is_the_matrix_exponential() -> None:
    matrix = np.array([[0.05, -0.2, 0.0], [0.2, 0.05, 0.0], [0.0, 0.1, -0.1]])
    place = points(SHAPE)
    centre = place.mean((2, 3, 4), keepdim=True)
    relative = place - centre
    velocity = torch.einsum("ab,nbdhw->nadhw", torch.tensor(matrix, dtype=torch.float32), relative)
    expected = torch.einsum("ab,nbdhw->nadhw", torch.tensor(expm(matrix), dtype=torch.float32), relative) - relative
    inside = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    got = exponential(velocity, squarings=8)[inside]
    assert (got - expected[inside]).norm(dim=1).max() < 0.02 * expected[inside].norm(dim=1).max()


def test_upsampling_puts_coarse_voxel_n_at_fine_voxel_n_times_factor() -> None:
    coarse = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(3))
    fine = upsample(coarse, (7, 9, 11), 2)
    torch.testing.assert_close(fine[..., ::2, ::2, ::2], 2 * coarse)
    torch.testing.assert_close(fine[..., 1::2, ::2, ::2], (coarse[..., :-1, :, :] + coarse[..., 1:, :, :]))
    even = upsample(coarse, (8, 10, 12), 2)
    torch.testing.assert_close(even[..., :7, :9, :11], fine)
    torch.testing.assert_close(even[..., 7, :, :], even[..., 6, :, :])


def test_a_full_resolution_field_is_only_cut_or_continued() -> None:
    field = torch.randn(1, 3, 6, 6, 6)
    assert torch.equal(upsample(field, (6, 6, 6), 1), field)
    cut = upsample(field, (5, 6, 7), 1)
    assert torch.equal(cut[..., :6], field[:, :, :5])
    assert torch.equal(cut[..., 6], field[:, :, :5, :, 5])


@pytest.mark.parametrize("moved", ["image", "displacement"])
def test_gradients_of_a_warp_first_used_in_inference_mode(moved: str) -> None:
    shape = (5, 7, 6)
    arguments = {"image": torch.rand(1, 1, *shape), "displacement": smooth(0.7, shape=shape)}
    with torch.inference_mode():
        warp(**arguments)
    arguments[moved].requires_grad_()
    warp(**arguments).square().sum().backward()
    gradient = arguments[moved].grad
    assert gradient is not None and gradient.abs().sum() > 0
