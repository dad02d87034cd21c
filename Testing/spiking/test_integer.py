"""The network in integers: spike for spike the same in both modes and in float32, and close to what was rounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity

from SpikeRegLib.networks import integer as integer_module
from SpikeRegLib.networks import integer_convolution
from SpikeRegLib.networks.integer import IMAGE_LEVELS, IntegerUNet
from SpikeRegLib.networks.rounding import NotRepresentable, RoundedWeights
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet, convolve, merge_inputs

needs_integers = pytest.mark.skipif(
    not integer_convolution.available(), reason="this torch lacks the integer convolution"
)
BOTH = [pytest.param(True, marks=needs_integers, id="onednn"), pytest.param(False, id="float32")]


def outputs(network: RegistrationUNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        network(x, recorder=lambda layer, inputs, output: seen.update({layer.name: output.clone()}))
    return seen


def in_mode(network: SpikingUNet, mode: str, native: bool) -> IntegerUNet:
    network.mode = mode
    return IntegerUNet(network, native=native)


@pytest.mark.parametrize("native", BOTH)
@pytest.mark.parametrize("timesteps", [1, 2, 4, 8])
@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_closed_form_and_events_agree_in_every_layer(spec: NetworkSpec, timesteps: int, native: bool) -> None:
    network, x = random_spiking(spec.with_timesteps(timesteps)), image((21, 24, 18))
    events = outputs(in_mode(network, "events", native), x)
    closed = outputs(in_mode(network, "closed_form", native), x)
    for layer in spec.layers:
        assert torch.equal(closed[layer.name], events[layer.name]), layer.name
        if layer.neuron:
            assert closed[layer.name].dtype == torch.uint8
            assert 0 < closed[layer.name].float().mean() < timesteps, f"{layer.name} tells the modes nothing"


@needs_integers
@pytest.mark.parametrize("shape", [(16, 24, 16), (33, 47, 26), (17, 18, 31)])
@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_integers_and_float32_with_the_same_weights_give_the_same_counts(
    spec: NetworkSpec, shape: tuple[int, int, int]
) -> None:
    network, x = random_spiking(spec), image(shape)
    native, exact = (outputs(IntegerUNet(network, native=choice), x) for choice in (True, False))
    assert all(torch.equal(native[name], exact[name]) for name in exact)


def as_they_are(
    parts: list[torch.Tensor], bias: torch.Tensor, *, largest_inputs: list[int]
) -> tuple[list[RoundedWeights], torch.Tensor]:
    """In place of `round_weights`: nothing is rounded, so that what is left is how convolutions are put together."""
    return [RoundedWeights(part, torch.ones(part.shape[:2])) for part in parts], bias


def drives(network: SpikingUNet, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Name, drive and the drive by plain convolution on merged inputs, for every layer."""
    integer = IntegerUNet(network, native=False)
    values: dict[str, torch.Tensor] = {"image": integer.prepared(x)}
    for layer in network.spec.layers:
        weight, bias = network.count_weights(layer)
        inputs = merge_inputs(layer, {name: value.float() for name, value in values.items()})
        merged = torch.cat(inputs, 1) / (IMAGE_LEVELS if layer.inputs == ("image",) else 1)
        yield layer.name, integer.convolutions[layer.name].drive(values, 0.0), convolve(layer, merged, weight, bias)
        values[layer.name] = integer._run(layer, values, None)


@pytest.mark.parametrize("shape", [(32, 32, 32), (33, 47, 26), (17, 18, 31), (16, 17, 1)])
@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
@torch.no_grad()
def test_layers_in_parts_are_the_layers_of_the_network(
    spec: NetworkSpec, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head split by taps, transposition by place; at every border, on cropped grids."""
    monkeypatch.setattr(integer_module, "round_weights", as_they_are)
    for name, drive, wanted in drives(random_spiking(spec), image(shape)):
        torch.testing.assert_close(drive, wanted, rtol=1e-5, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
@torch.no_grad()
def test_rounding_changes_drives_by_one_or_two_percent(spec: NetworkSpec) -> None:
    for name, drive, wanted in drives(random_spiking(spec), image((33, 32, 32))):
        assert 0 < float((drive - wanted).norm() / wanted.norm()) < 0.03, name


@pytest.mark.parametrize(
    "dynamics", [NeuronDynamics(leak=0.9), NeuronDynamics(reset="hard")], ids=["leak", "hard reset"]
)
def test_neurons_that_do_not_round_agree_too(dynamics: NeuronDynamics) -> None:
    network, x = random_spiking(tiny_velocity().with_timesteps(8), dynamics), image((16, 16, 16))
    events, closed = (outputs(in_mode(network, mode, False), x) for mode in ("events", "closed_form"))
    assert all(torch.equal(closed[name], events[name]) for name in events)


def test_a_batch_is_its_pairs() -> None:
    network = IntegerUNet(random_spiking(tiny_velocity()), native=integer_convolution.available())
    pairs = [image((17, 16, 18), seed) for seed in (0, 1)]
    with torch.inference_mode():
        assert torch.equal(network(torch.cat(pairs)), torch.cat([network(pair) for pair in pairs]))


def test_what_integers_cannot_hold_is_refused() -> None:
    with pytest.raises(NotRepresentable, match="constant current"):
        IntegerUNet(SpikingUNet(tiny_velocity(), input_coding="poisson"))
    with pytest.raises(NotRepresentable, match="counts up to 128"):
        IntegerUNet(SpikingUNet(tiny_velocity().with_timesteps(128)))


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_every_layer_is_rounded_for_the_largest_input_that_can_occur(spec: NetworkSpec) -> None:
    """Levels of the image, or a spike in every step: less would not be exact, more costs bits."""
    network = IntegerUNet(random_spiking(spec.with_timesteps(3)), native=False)
    largest = {layer.name: IMAGE_LEVELS if "image" in layer.inputs else 3 for layer in spec.layers}
    assert {name: convolution.largest for name, convolution in network.convolutions.items()} == largest
    bright = torch.zeros(1, 2, 32, 32, 32)
    bright[..., 8:24, 8:24, 8:24] = 1
    assert 0 < int(network.prepared(bright).max()) <= IMAGE_LEVELS
