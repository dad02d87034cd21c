"""Both twins as networks: one walk over the spec, three execution modes with the same counts, fields of any size."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity

from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.spiking.intensity import standardise
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet


def counts(network: SpikingUNet, x: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
    network.mode = mode
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        network(x, recorder=lambda layer, inputs, output: seen.update({layer.name: output.clone()}))
    return seen


@pytest.mark.parametrize("timesteps", [1, 2, 4, 8])
@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_every_mode_gives_the_same_counts_in_every_layer(spec: NetworkSpec, timesteps: int) -> None:
    network = random_spiking(spec.with_timesteps(timesteps))
    x = image((16, 24, 16))
    events = counts(network, x, "events")
    for mode in ("closed_form", "surrogate"):
        for name, output in counts(network, x, mode).items():
            assert torch.equal(output, events[name]), (mode, name)
    for layer in spec.spiking_layers:
        fired = events[layer.name]
        assert torch.equal(fired, fired.round()) and fired.min() == 0 and fired.max() <= timesteps
        assert 0 < fired.mean() < timesteps, f"{layer.name} tells the modes nothing"


@pytest.mark.parametrize(
    "dynamics",
    [
        NeuronDynamics(leak=0.9),
        NeuronDynamics(reset="hard", reset_potential=-0.25),
        NeuronDynamics(refractory=1, initial_potential=0.0),
    ],
    ids=["leak", "hard", "refractory"],
)
def test_modes_agree_for_other_dynamics(dynamics: NeuronDynamics) -> None:
    network = random_spiking(tiny_velocity().with_timesteps(8), dynamics)
    x = image((16, 16, 16))
    events, closed = counts(network, x, "events"), counts(network, x, "closed_form")
    assert all(torch.equal(closed[name], events[name]) for name in events)
    plain = counts(random_spiking(tiny_velocity().with_timesteps(8)), x, "closed_form")
    assert not torch.equal(plain["enc1.conv"], events["enc1.conv"])


def test_modes_agree_under_bfloat16_autocast() -> None:
    network = random_spiking(tiny_velocity())
    x = image((16, 16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        events, closed = counts(network, x, "events"), counts(network, x, "closed_form")
    assert closed["enc1.conv"].dtype == torch.bfloat16
    assert all(torch.equal(closed[name], events[name]) for name in events)


def test_leaks_of_the_spec_and_of_the_dynamics_multiply() -> None:
    network = SpikingUNet(tiny_paper(), dynamics=NeuronDynamics(leak=0.5))
    leaks = {layer.name: network.dynamics_of(layer).leak for layer in network.spec.spiking_layers}
    assert leaks["enc0.conv"] == pytest.approx(0.45)
    assert leaks["bottleneck"] == 0.5


@pytest.mark.parametrize("twin", [AnalogUNet, SpikingUNet])
@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_any_size_gives_a_field_of_that_size(twin: type[RegistrationUNet], spec: NetworkSpec) -> None:
    network = twin(spec).eval()
    for shape in ((33, 47, 61), (16, 17, 31)):
        with torch.inference_mode():
            field = network.displacement(image(shape))
        assert field.shape == (1, 3, *shape)
        assert field.isfinite().all()


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_the_spec_predicts_the_shapes_of_every_layer(spec: NetworkSpec) -> None:
    shape, seen = (33, 47, 18), {}
    network = AnalogUNet(spec).eval()
    with torch.inference_mode():
        network(image(shape), recorder=lambda layer, inputs, output: seen.update({layer.name: tuple(output.shape[2:])}))
    assert seen == {name: grid for name, grid in spec.shapes(shape).items() if name != "image"}


def smooth_output(amplitude: float) -> torch.Tensor:
    noise = torch.randn(1, 3, 16, 20, 18, generator=torch.Generator().manual_seed(8))
    field = gaussian(noise, 2.5)
    return amplitude * field / field.abs().max()


def test_the_negative_velocity_gives_the_inverse_map() -> None:
    network, velocity = AnalogUNet(tiny_velocity()), smooth_output(1.5)
    shape = (32, 40, 36)
    forward, backward = (network.integrate(velocity, shape, sign=sign) for sign in (1.0, -1.0))
    assert forward.abs().max() > 2  # voxels of the input grid, twice those of the head's
    for there, back in ((forward, backward), (backward, forward)):
        error = compose(there, back)[:, :, 4:-4, 4:-4, 4:-4].norm(dim=1)
        assert error.mean() < 0.02
        assert error.max() < 0.2


def test_a_constant_velocity_moves_by_itself_in_its_own_direction() -> None:
    """Twice the head's voxels along (x, y, z); the inverse exactly the other way."""
    velocity = torch.tensor([0.5, -0.25, 1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 8, 8, 8)
    network = AnalogUNet(tiny_velocity())
    expected = (2 * velocity[..., :1, :1, :1]).expand(1, 3, 16, 15, 16)
    torch.testing.assert_close(network.integrate(velocity, (16, 15, 16)), expected)
    torch.testing.assert_close(network.integrate(velocity, (16, 15, 16), sign=-1.0), -expected)


def test_a_displacement_network_has_no_free_inverse() -> None:
    network = AnalogUNet(tiny_paper())
    with pytest.raises(ValueError, match="tiny-paper predicts a displacement"):
        network.integrate(torch.zeros(1, 3, 16, 16, 16), (16, 16, 16), sign=-1.0)


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper()], ids=lambda spec: spec.output)
def test_the_field_is_float32_where_convolutions_are_bfloat16(spec: NetworkSpec) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert AnalogUNet(spec).eval()(image((16, 16, 16))).dtype == torch.float32


def test_standardising_removes_gain_and_offset() -> None:
    x = image((12, 12, 12)) * 0.5 + 0.2
    x[..., :3] = 0
    other = torch.where(x > 0, 0.6 * x + 0.15, x)
    torch.testing.assert_close(standardise(other), standardise(x), rtol=0, atol=1e-5)
    inside = standardise(x)[x > 0]
    assert (standardise(x)[x == 0] == 0).all()
    assert abs(float(inside.mean()) - 0.5) < 0.01 and abs(float(inside.std()) - 0.2) < 0.01


def test_surrogate_gradients_reach_every_parameter() -> None:
    network = random_spiking(tiny_velocity())
    network.mode = "surrogate"
    network(image((16, 16, 16))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_names_of_layers_need_not_be_python_names() -> None:
    layers = (Layer("a.b.c", ("image",), 2, 4), Layer("the.head", ("a.b.c",), 4, 3, kernel=1, neuron=False))
    spec = NetworkSpec("dotted", layers)
    assert "weights.a_b_c" in dict(AnalogUNet(spec).named_parameters())
