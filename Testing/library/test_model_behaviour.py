"""What a model file keeps beside layers and weights: how its neurons behave and how it reads its image."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from SpikeRegLib import models
from SpikeRegLib.errors import InputError
from SpikeRegLib.models import load_field, load_model, save_model
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.spiking.behaviour import behaviour_of
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import code_unet, velocity_unet
from SpikeRegLib.spiking.unet import SpikingUNet

SPEC = velocity_unet("tiny", encoder=(4, 6), decoder=(4,))
IMAGE = torch.rand(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(4))
BEHAVIOURS = {
    "leak": {"dynamics": NeuronDynamics(leak=0.9)},
    "hard reset": {"dynamics": NeuronDynamics(reset="hard")},
    "reset potential": {"dynamics": NeuronDynamics(reset="hard", reset_potential=-0.25)},
    "start": {"dynamics": NeuronDynamics(initial_potential=0.0)},
    "refractory period": {"dynamics": NeuronDynamics(refractory=1)},
    "poisson": {"input_coding": "poisson"},
    "seed": {"input_coding": "poisson", "seed": 7},
}


def network(**behaviour) -> SpikingUNet:
    """Fires, with weights that half precision holds exactly."""
    torch.manual_seed(2)
    made = SpikingUNet(SPEC, **behaviour).eval()
    with torch.no_grad():
        for weight in made.weights.values():
            weight.copy_(2 * weight.half())
    return made


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_saved_network_behaves_as_before(name: str, tmp_path: Path) -> None:
    made, path = network(**BEHAVIOURS[name]), tmp_path / "model.safetensors"
    save_model(made, path, {})
    loaded = load_model(path)
    assert isinstance(loaded, SpikingUNet)
    assert behaviour_of(loaded) == behaviour_of(made)
    with torch.no_grad():
        wanted, plain = made(IMAGE), network()(IMAGE)
        assert torch.equal(loaded(IMAGE), wanted)
    assert not torch.equal(plain, wanted), "a loss of it would not be seen"


def test_another_number_of_time_steps_leaves_the_rest(tmp_path: Path) -> None:
    made, path = network(dynamics=NeuronDynamics(reset="hard", refractory=1)), tmp_path / "model.safetensors"
    save_model(made, path, {})
    loaded = load_model(path, timesteps=8)
    assert isinstance(loaded, SpikingUNet)
    wanted = replace(made.base_dynamics, timesteps=8)
    assert all(loaded.dynamics_of(layer) == wanted for layer in loaded.spec.spiking_layers)


def test_the_encoder_of_a_neural_field_behaves_as_before(tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    dynamics = NeuronDynamics(reset="hard", reset_potential=-0.5, refractory=2)
    encoder = SpikingUNet(code_unet(), dynamics=dynamics, input_coding="poisson", seed=3)
    options = replace(FieldSizes(), first_omega=2.0, decoder_seed=5, cell_phase=False)
    made = FieldNetwork(encoder, options)
    save_model(made, path, {})
    loaded = load_field(path)
    assert isinstance(loaded.encoder, SpikingUNet)
    assert behaviour_of(loaded.encoder) == behaviour_of(encoder) and loaded.options == options
    assert all(torch.equal(loaded.state_dict()[n], v) for n, v in made.state_dict().items() if ".weights." not in n)


def test_a_file_without_a_word_of_it_has_plain_neurons_and_a_direct_image(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(), path, {})
    assert metadata(path).keys() == {"format", "kind", "spec", "facts"}, "the files of before, to the byte"
    loaded = load_model(path)
    assert isinstance(loaded, SpikingUNet) and loaded.input_coding == "direct"
    assert all(loaded.dynamics_of(layer).rounds for layer in loaded.spec.spiking_layers)


def test_a_reader_that_knows_plain_neurons_alone_refuses_the_others(tmp_path: Path) -> None:
    """It would load them, and register with another network than was saved."""
    for name, behaviour in BEHAVIOURS.items():
        save_model(network(**behaviour), tmp_path / f"{name}.safetensors", {})
        assert metadata(tmp_path / f"{name}.safetensors")["format"] != models.FORMAT


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("reset", "soft as silk", "reset must be"),
        ("reset", 3, "reset: must be like 'soft'"),
        ("leak", 0, "leak: must be between"),
        ("leak", "0.5", "leak: must be like 1.0"),
        ("leak", float("nan"), "NaN is no number"),
        ("reset_potential", 1e30, "reset_potential: must be between"),
        ("initial_potential", float("nan"), "NaN is no number"),
        ("refractory", 10**9, "refractory: must be between"),
        ("refractory", True, "refractory: must be like 0"),
        ("refractory", 1.5, "refractory: must be like 0"),
        ("input_coding", "morse", "input_coding must be"),
        ("seed", -1, "seed: must be between"),
        ("seed", 10**40, "seed: must be between"),
        ("stranger", 1, "neurons: needs the entries leak, reset"),
    ],
)
def test_impossible_neurons_are_refused_by_name(entry: str, value: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(dynamics=NeuronDynamics(refractory=1)), path, {})
    header = metadata(path)
    neurons = {**json.loads(header["neurons"]), entry: value}
    save_file(load_file(path), path, metadata={**header, "neurons": json.dumps(neurons)})
    with pytest.raises(InputError) as caught:
        load_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: its neurons cannot be built (") and message in text and "\n" not in text


def test_neurons_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(input_coding="poisson"), path, {})
    for text in ("", "[]", "null", "{"):
        save_file(load_file(path), path, metadata={**metadata(path), "neurons": text})
        with pytest.raises(InputError, match="its neurons cannot be built"):
            load_model(path)


def test_every_field_of_the_dynamics_is_kept() -> None:
    assert behaviour_of(network()).keys() == (asdict(NeuronDynamics()).keys() - {"timesteps"}) | {
        "input_coding",
        "seed",
    }
