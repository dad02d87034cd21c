"""Poisson input coding: spikes instead of a constant current, seeded."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.spiking.neurons import NeuronDynamics, simulate_counts, simulate_varying
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import SpikingUNet, poisson_spikes


def network(**options) -> SpikingUNet:
    torch.manual_seed(0)
    spec = velocity_unet(encoder=(4, 8), decoder=(4,), timesteps=options.pop("timesteps", 4))
    return SpikingUNet(spec, **options).eval()


def test_mean_rate_of_the_input_is_its_intensity():
    image = torch.full((1, 1, 24, 24, 24), 0.3)
    mean = torch.stack(list(poisson_spikes(image, 8, seed=0))).mean()
    assert mean.item() == pytest.approx(0.3, abs=0.005)  # 110,592 draws: standard error 0.0014


def test_input_spikes_are_zeros_and_ones_and_differ_between_steps():
    first, second = poisson_spikes(torch.full((1, 1, 16, 16, 16), 0.5), 2, seed=3)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)


def test_same_seed_same_field_other_seed_other_field():
    image = torch.rand(1, 2, 16, 16, 16)
    one, again, other = (network(input_coding="poisson", seed=s)(image) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_poisson_approaches_direct_coding_with_many_steps():
    """The layer-wise mean of the input spikes is the image, so first-layer rates converge."""
    image = torch.rand(1, 2, 16, 16, 16)
    errors = []
    for steps in (4, 256):
        direct, poisson = network(timesteps=steps), network(timesteps=steps, input_coding="poisson")
        layer = direct.spec.layers[0]
        rates = [n._layer(layer, [image]) / steps for n in (direct, poisson)]
        errors.append((rates[0] - rates[1]).abs().mean().item())
    assert errors[1] < errors[0] / 4


def test_constant_drive_gives_the_counts_of_the_plain_simulation():
    drive, dynamics = torch.randn(1000) * 3, NeuronDynamics(timesteps=5, leak=0.9)
    assert torch.equal(simulate_varying([drive] * 5, dynamics), simulate_counts(drive, dynamics))


def test_unknown_coding_is_refused():
    with pytest.raises(ValueError, match="input_coding"):
        network(input_coding="rate")
