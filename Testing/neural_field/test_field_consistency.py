"""Exact Jacobians of the field, and the gradient inverse consistency built on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from field_examples import moving_decoders, random_codes, random_points

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.consistency import inverse_consistency, jacobians
from SpikeRegLib.neural_field.field import Decoders, NeuralField


def in_double() -> tuple[Decoders, Codes]:
    codes = random_codes(8.0, seed=1)
    return moving_decoders().double(), replace(codes, overall=codes.overall.double(), local=codes.local.double())


def away_from_faces(points: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Those with at least a tenth of a cell to every face, where the interpolated code has a kink."""
    phase = (points / spacing_mm) % 1
    return points[((phase > 0.1) & (phase < 0.9)).all(1) & (points > 1).all(1) & (points < 30).all(1)]


@pytest.mark.parametrize("inverse", [False, True])
def test_jacobians_agree_with_finite_differences(inverse):
    decoders, codes = in_double()
    points = away_from_faces(random_points(300, seed=3).double(), 8.0)
    assert len(points) > 40
    field = NeuralField(decoders, [codes])

    def mapped(x):
        return field.points(x, inverse=inverse)

    exact = jacobians(mapped, points)
    h = 1e-5
    steps = torch.eye(3, dtype=torch.float64) * h
    differences = torch.stack([(mapped(points + s) - mapped(points - s)) / (2 * h) for s in steps], 2).detach()
    assert float((exact - torch.eye(3)).abs().max()) > 0.05  # it does deform
    # A gate that opens within the step makes single differences wrong.
    error = (exact - differences).abs().amax((1, 2))
    assert float(error.quantile(0.9)) < 1e-6


def test_an_exact_inverse_pair_costs_nothing_even_with_an_offset():
    matrix = torch.tensor([[1.2, 0.1, 0.0], [-0.2, 0.9, 0.1], [0.0, 0.3, 1.1]], dtype=torch.float64)
    shift = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    points = random_points(50, seed=1).double()

    def there(x):
        return x @ matrix.t() + shift

    def back(y):
        return y @ torch.linalg.inv(matrix).t() + 4.0

    assert float(inverse_consistency(there, back, points)) < 1e-20
    missing = float(inverse_consistency(there, lambda y: y, points))
    assert missing == pytest.approx(float((matrix - torch.eye(3)).square().sum()), rel=1e-12)


def test_the_consistency_can_be_differentiated_again_on_the_cpu():
    decoders, codes = in_double()
    local = codes.local.clone().requires_grad_(True)
    weight = decoders.forward_map.last.weight
    points = away_from_faces(random_points(200, seed=4).double(), 8.0)

    def value() -> torch.Tensor:
        at = replace(codes, local=local)
        there = NeuralField(decoders, [at])
        return inverse_consistency(there.points, lambda y: there.points(y, inverse=True), points)

    by_code, by_weight = torch.autograd.grad(value(), (local, weight))
    for tensor, gradient in ((local, by_code), (weight, by_weight)):
        index = int(gradient.abs().argmax())
        flat = tensor.detach().view(-1)
        was, h = float(flat[index]), 1e-6
        flat[index] = was + h
        ahead = float(value().detach())
        flat[index] = was - h
        behind = float(value().detach())
        flat[index] = was
        assert float(gradient.flatten()[index]) == pytest.approx((ahead - behind) / (2 * h), rel=1e-4)
