"""The network spec: what the paper's network costs, what is stored, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from SpikeRegLib.spiking.activity import dense_macs
from SpikeRegLib.spiking.spec import SPECS, Layer, NetworkSpec, named_spec, paper_unet, velocity_unet
from SpikeRegLib.spiking.traffic import parameters
from SpikeRegLib.spiking.unet import AnalogUNet

PAPER_GRID = (160, 192, 224)


def test_the_papers_network_costs_what_the_paper_says() -> None:
    macs = dense_macs(paper_unet(), PAPER_GRID)
    total = sum(macs.values())
    assert total == 80_524_738_560
    assert f"{total / 1e9:.2f}" == "80.52"
    assert f"{macs['dec3.conv'] / 1e9:.2f}" == "47.56"
    assert round(100 * macs["dec3.conv"] / total) == 59


def test_the_papers_network_has_1_70_million_parameters() -> None:
    network = AnalogUNet(paper_unet())
    assert f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}" == "1.70"


def test_dense_cost_equals_what_torch_counts() -> None:
    """Independent of the formula: the shapes that torch's convolutions really produce."""
    spec, grid = paper_unet(), (32, 48, 16)
    network, counted = AnalogUNet(spec).eval(), {}

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        weights = network.weights[layer.name.replace(".", "_")]
        # A transposed convolution of kernel = stride uses one tap for each output voxel.
        counted[layer.name] = output[0, 0].numel() * weights.numel() // (layer.stride**3 if layer.transposed else 1)

    with torch.inference_mode():
        network(torch.rand(1, 2, *grid), recorder=record)
    assert counted == dense_macs(spec, grid)


@pytest.mark.parametrize("name", ["velocity-2mm", "paper"])
def test_json_round_trip(name: str) -> None:
    spec = named_spec(name)
    assert NetworkSpec.from_json(spec.to_json()) == spec
    assert NetworkSpec.from_json(spec.with_timesteps(9).to_json()).timesteps == 9


def test_strides_and_multiples() -> None:
    assert (velocity_unet().output_stride(), velocity_unet().input_multiple()) == (2, 16)
    assert (paper_unet().output_stride(), paper_unet().input_multiple()) == (1, 16)


def test_leaks_of_the_papers_network_mirror() -> None:
    spec = paper_unet()
    assert [spec.leak_of(f"enc{i}.conv") for i in range(4)] == [0.90, 0.85, 0.80, 0.75]
    assert [spec.leak_of(f"dec{i}.up") for i in range(4)] == [0.75, 0.80, 0.85, 0.90]
    assert spec.leak_of("bottleneck") == 1.0


A, B = Layer("a", ("image",), 2, 4), Layer("b", ("image",), 2, 4)
HEAD = Layer("head", ("a",), 4, 3, neuron=False)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (Layer("c", ("nowhere",), 4, 4), "layer c of spec test reads .*nowhere"),
        (Layer("c", ("d",), 4, 4), "layer c of spec test reads"),
        (Layer("a", ("b",), 4, 4), "layer a of spec test has the name of an earlier one"),
        (Layer("c", ("a", "b"), 8, 4), "layer c of spec test needs one up-sampling factor"),
        (Layer("c", ("a", "b"), 9, 4, upsample=(1, 1)), "layer c of spec test expects 9 input channels but is given 8"),
        (Layer("c", ("a", "image"), 6, 4, upsample=(1, 1)), "layer c of spec test reads the image together"),
        (Layer("c", ("a",), 4, 4, merge="sum"), "layer c of spec test must merge"),
        (Layer("c", ("a",), 4, 4, merge="average"), "layer c of spec test averages"),
        (Layer("c", ("a",), 4, 4, kernel=2), "layer c of spec test needs an odd kernel"),
        (Layer("c", ("a",), 4, 4, kernel=3, stride=2, transposed=True), "layer c of spec test is transposed"),
        (Layer("c", ("a",), 4, 3, neuron=False), "layer c of spec test has no neuron"),
    ],
)
def test_a_bad_layer_is_refused_by_name(bad: Layer, problem: str) -> None:
    NetworkSpec("test", (A, B, HEAD))
    with pytest.raises(ValueError, match=problem):
        NetworkSpec("test", (A, B, bad, HEAD))


@pytest.mark.parametrize("head", [replace(HEAD, out_channels=4), replace(HEAD, neuron=True)])
def test_a_spec_ends_in_a_head_for_a_field(head: Layer) -> None:
    with pytest.raises(ValueError, match="head"):
        NetworkSpec("test", (A, head))


@pytest.mark.parametrize("change", [{"output": "affine"}, {"timesteps": 0}, {"leak": (("enc0", 1.5),)}, {"layers": ()}])
def test_a_bad_spec_is_refused_by_name(change: dict) -> None:
    with pytest.raises(ValueError, match=r"spec velocity-2mm"):
        replace(velocity_unet(), **change)


@pytest.mark.parametrize("damage", ["layers", "leak", "unknown"])
def test_json_that_is_no_spec_is_a_value_error(damage: str) -> None:
    fields = json.loads(velocity_unet().to_json())
    if damage == "unknown":
        fields["colour"] = "red"
    else:
        del fields[damage]
    with pytest.raises(ValueError, match="not a network spec"):
        NetworkSpec.from_json(json.dumps(fields))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown network spec 'vnet'; known: .*paper.*velocity-2mm"):
        named_spec("vnet")


# Layers, parameters and multiply-accumulates on 64^3 voxels: what weights were trained for and energies
# were measured with. A change here makes every released file of that name useless.
SIZES = {
    "velocity-2mm": (14, 1784523, 1945370624),
    "velocity-1mm": (14, 452127, 626786304),
    "velocity-2mm-light": (14, 1000403, 1008500736),
    "velocity-1mm-light": (14, 252487, 306946048),
    "field-codes-2mm": (12, 1763552, 944242688),
    "structures-2mm": (13, 2537864, 3109552128),
    "paper": (18, 1700339, 3067609088),
}


def test_networks_keep_their_size() -> None:
    specs = [named_spec(name) for name in SPECS]
    macs = [sum(dense_macs(spec, (64, 64, 64)).values()) for spec in specs]
    found = [(len(s.layers), sum(map(parameters, s.layers)), n) for s, n in zip(specs, macs, strict=True)]
    assert dict(zip(SPECS, found, strict=True)) == SIZES
