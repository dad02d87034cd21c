"""Correlations of what is known alone, and fields that go on where nothing is known."""

from __future__ import annotations

import pytest
import torch
from test_refine import noise

from SpikeRegLib.similarity.known_lncc import KnownCorrelation
from SpikeRegLib.similarity.lncc_gradient import LocalCorrelation
from SpikeRegLib.similarity.losses import known_lncc_map, lncc, lncc_map
from SpikeRegLib.space.filters import box_sum
from SpikeRegLib.space.known import continued

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
