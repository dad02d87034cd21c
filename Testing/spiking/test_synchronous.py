"""All layers at once: single spikes are passed on in the step in which they are fired."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity

from SpikeRegLib.spiking.neurons import simulate_varying
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.spiking.synchronous import SynchronousUNet
from SpikeRegLib.spiking.unet import SpikingUNet, convolve

SPECS = pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=lambda spec: spec.name)


def trains(network: SpikingUNet, steps: int, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What each layer fired in each step, 0 or 1."""
    found: dict[str, list[torch.Tensor]] = {}
    synchronous = SynchronousUNet(network, steps)
    with torch.no_grad():
        synchronous(
            x,
            recorder=lambda layer, inputs, output: found.setdefault(layer.name, []).append(
                output / network.spec.timesteps
            ),
        )
    return found


@SPECS
def test_one_step_is_the_network_of_one_step(spec: NetworkSpec) -> None:
    network, x = random_spiking(spec.with_timesteps(1)), image((16, 24, 16))
    network.mode = "events"
    with torch.no_grad():
        torch.testing.assert_close(SynchronousUNet(network, 1)(x), network(x), atol=1e-5, rtol=1e-4)


def test_a_layer_reads_the_spikes_of_the_same_step() -> None:
    network, x = random_spiking(tiny_velocity().with_timesteps(4)), image((16, 24, 16))
    fired = trains(network, 4, x)
    first, second = network.spec.spiking_layers[:2]
    assert second.inputs == (first.name,)
    network.mode = "events"
    counts: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        network(x, recorder=lambda layer, inputs, output: counts.update({layer.name: output.clone()}))
        weight, bias = network.count_weights(second)
        drives = [convolve(second, 4 * spikes, weight, bias) for spikes in fired[first.name]]
    assert torch.equal(sum(fired[first.name]), counts[first.name]), "the image is a constant current"
    assert torch.equal(sum(fired[second.name]), simulate_varying(drives, network.dynamics_of(second)))
    assert not torch.equal(sum(fired[second.name]), counts[second.name]), "when spikes arrive matters"
    assert all(set(spikes.unique().tolist()) <= {0.0, 1.0} for train in fired.values() for spikes in train)


@SPECS
def test_what_is_read_settles_as_steps_go_on(spec: NetworkSpec) -> None:
    network, x = random_spiking(spec.with_timesteps(4)), image((16, 24, 16))
    with torch.no_grad():
        late, later, latest = (SynchronousUNet(network, steps)(x) for steps in (4, 64, 128))
    assert (later - latest).norm() < 0.25 * (late - latest).norm()


def test_it_needs_a_step_and_a_constant_image() -> None:
    network = random_spiking(tiny_velocity())
    with pytest.raises(ValueError, match="at least one step"):
        SynchronousUNet(network, 0)
    poisson = SpikingUNet(tiny_velocity(), input_coding="poisson")
    with pytest.raises(ValueError, match="direct"):
        SynchronousUNet(poisson, 4)
