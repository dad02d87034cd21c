"""Separable filters against scipy, and gradients through cached bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from SpikeRegLib.space.filters import box_sum, gaussian

shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 11))


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(shapes, st.sampled_from((1, 3, 5, 9)))
def test_box_sum_equals_scipy(shape: tuple[int, int, int], window: int) -> None:
    volume = noise(shape)
    expected = ndimage.convolve(volume.numpy(), np.ones((window,) * 3), mode="constant")
    np.testing.assert_allclose(box_sum(volume, window).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.73])
def test_gaussian_equals_scipy_away_from_the_border(sigma: float) -> None:
    volume, margin = noise((14, 15, 16)), int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(volume.numpy(), sigma, mode="constant", radius=margin)
    inside = (slice(margin, -margin),) * 3
    np.testing.assert_allclose(gaussian(volume, sigma).numpy()[inside], expected[inside], atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(shapes, st.floats(0.1, 4))
def test_gaussian_keeps_constants_up_to_the_border(shape: tuple[int, int, int], sigma: float) -> None:
    volume = torch.full(shape, 0.7, dtype=torch.float64)
    torch.testing.assert_close(gaussian(volume, sigma), volume)


def test_no_sigma_is_identity() -> None:
    volume = noise((3, 4, 5))
    assert torch.equal(gaussian(volume, 0.0), volume)


@pytest.mark.parametrize("apply", [lambda x: box_sum(x, 3), lambda x: gaussian(x, 1.2)], ids=["box", "gaussian"])
def test_leading_axes_are_filtered_one_by_one(apply) -> None:
    volume = noise((2, 3, 4, 5, 6))
    expected = torch.stack([torch.stack([apply(channel) for channel in sample]) for sample in volume])
    torch.testing.assert_close(apply(volume), expected)


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be odd, got 4"):
        box_sum(torch.zeros(4, 4, 4), 4)


@pytest.mark.parametrize("apply", [lambda x: box_sum(x, 7), lambda x: gaussian(x, 2.345)], ids=["box", "gaussian"])
def test_gradients_pass_through_filters_first_used_in_inference_mode(apply) -> None:
    with torch.inference_mode():
        apply(torch.rand(5, 6, 13))
    volume = torch.rand(5, 6, 13, requires_grad=True)
    weight = torch.rand(5, 6, 13)
    (apply(volume) * weight).sum().backward()
    with torch.no_grad():
        change = torch.zeros(5, 6, 13)
        change[2, 3, 4] = 1
        expected = (apply(change) * weight).sum()
    assert volume.grad is not None
    torch.testing.assert_close(volume.grad[2, 3, 4], expected)
