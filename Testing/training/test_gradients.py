"""Everything the objective differentiates against finite differences in double precision, on tiny grids."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from SpikeRegLib.similarity.losses import bending_energy, diffusion, lncc, soft_dice
from SpikeRegLib.space.fields import compose, exponential, upsample, warp
from SpikeRegLib.spiking.activity import synaptic_operations
from SpikeRegLib.spiking.neurons import NeuronDynamics, surrogate_counts, surrogate_floor
from SpikeRegLib.spiking.spec import Layer

GRID = (4, 5, 4)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def field(seed: int = 0) -> torch.Tensor:
    """Displacements within 0.1 and 0.4 voxels: no sample lies on a voxel, where interpolation has a kink."""
    return (0.1 + 0.3 * draw(1, 3, *GRID, seed=seed)).requires_grad_()


def image(channels: int = 1, seed: int = 1) -> torch.Tensor:
    return draw(1, channels, *GRID, seed=seed).requires_grad_()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (warp, (image(2), field())),
        (compose, (field(2), field(3))),
        (lambda v: exponential(v, squarings=3), (field(4),)),
        (lambda v: upsample(v, (7, 10, 8), 2), (field(5),)),
        (lambda f, m: lncc(f, m, window=3), (image(seed=6), image(seed=7))),
        (soft_dice, (image(3, seed=8), image(3, seed=9))),
        (lambda u: diffusion(u, 2.0), (field(10),)),
        (lambda u: bending_energy(u, 2.0), (field(11),)),
    ],
    ids=["warp", "compose", "exponential", "upsample", "lncc", "soft_dice", "diffusion", "bending_energy"],
)
def test_gradients_are_those_of_finite_differences(function, arguments: tuple[torch.Tensor, ...]) -> None:
    assert gradcheck(function, arguments, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        Layer("same", ("x",), 2, 3),
        Layer("strided", ("x",), 2, 3, stride=2),
        Layer("transposed", ("x",), 2, 3, kernel=2, stride=2, transposed=True),
    ],
    ids=lambda layer: layer.name,
)
def test_the_operations_penalty_weighs_every_spike_by_its_fan_out(layer: Layer) -> None:
    counts = (4 * image(2)).detach().requires_grad_()
    assert gradcheck(lambda n: synaptic_operations(layer, [n]), (counts,))


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_the_straight_through_gradient_is_that_of_the_ramp_the_steps_follow(steps: int) -> None:
    """clip(floor(y + 1/2), 0, T) runs within half a step of clip(y, 0, T). The gradient is the ramp's where it rises,
    also half a step beyond both ends (a neuron about to fire, or just saturated), and zero outside."""
    drive = torch.linspace(-1.5, steps + 1.5, 61, dtype=torch.float64) + 0.003
    y = drive.clone().requires_grad_()
    counts = surrogate_counts(y, NeuronDynamics(timesteps=steps))
    assert float((counts - drive.clamp(0, steps)).abs().max().detach()) <= 0.5
    (gradient,) = torch.autograd.grad(counts.sum(), y)
    assert torch.equal(gradient, ((drive > -0.5) & (drive < steps + 0.5)).double())
    inner = (drive > 0.01) & (drive < steps - 0.01)
    ramp = drive[inner].clone().requires_grad_()
    assert gradcheck(lambda x: x.clamp(0, steps), (ramp,))
    (expected,) = torch.autograd.grad(ramp.clamp(0, steps).sum(), ramp)
    assert torch.equal(gradient[inner], expected)
    shifted = (drive + 0.5).requires_grad_()
    (same,) = torch.autograd.grad(surrogate_floor(shifted, steps).sum(), shifted)
    assert torch.equal(same, gradient)
