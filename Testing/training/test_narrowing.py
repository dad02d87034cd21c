"""A narrower network from a trained one: nothing is lost where the channels left out carry nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from SpikeRegLib.spiking.spec import NetworkSpec, named_spec, paper_unet, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet
from SpikeRegLib.training.narrowing import can_narrow, narrowed_state

WIDE = velocity_unet("wide", encoder=(5, 6, 7), decoder=(6, 4), stem_kernel=2)
NARROW = velocity_unet("narrow", encoder=(3, 4, 5), decoder=(4, 3), stem_kernel=2)
CODES = replace(WIDE.head, out_channels=8)


def trained(spec: NetworkSpec) -> AnalogUNet:
    """Weights, shifts, scales and statistics as after a training: nothing is at its initial value."""
    torch.manual_seed(3)
    network = AnalogUNet(spec)
    nn.init.normal_(network.weights["head"])
    nn.init.normal_(network.head_bias)
    if network.smoothing is not None:
        nn.init.normal_(network.smoothing.weight)
    for norm in network.norms.values():
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return network.eval()


def silence(network: AnalogUNet, narrow: NetworkSpec) -> None:
    """Shift all but the channels that `narrow` has room for so low that they are never positive."""
    for layer in narrow.spiking_layers:
        norm = network.norms[layer.name.replace(".", "_")]
        off = torch.randperm(norm.num_features)[layer.out_channels :]
        with torch.no_grad():
            norm.bias[off] = -100.0
            norm.weight[off] = 0.5


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (WIDE, NARROW),
        # With transposed convolutions and a skip that is averaged.
        (paper_unet(), replace(paper_unet(), name="same but bottleneck")),
        # Codes, of which there are more than three.
        (
            replace(WIDE, layers=(*WIDE.layers[:-1], CODES), output="codes"),
            replace(NARROW, layers=(*NARROW.layers[:-1], replace(CODES, in_channels=3)), output="codes"),
        ),
    ],
    ids=["concat", "transposed", "codes"],
)
def test_leaving_out_silent_channels_changes_nothing(wide: NetworkSpec, narrow: NetworkSpec) -> None:
    if narrow.smoothing:
        layers = []
        for layer in narrow.layers:
            if layer.name == "bottleneck":
                layer = replace(layer, out_channels=96)
            if layer.name == "dec0.up":
                layer = replace(layer, in_channels=96)
            layers.append(layer)
        narrow = replace(narrow, layers=tuple(layers))
    network = trained(wide)
    silence(network, narrow)
    small = AnalogUNet(narrow).eval()
    small.load_state_dict(narrowed_state(network, narrow))
    image = torch.rand(1, 2, 16, 32, 16)
    with torch.inference_mode():
        expected, found = network(image), small(image)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_channels_that_carry_most_are_kept() -> None:
    network = trained(WIDE)
    norm = network.norms["enc1_conv"]
    with torch.no_grad():
        norm.bias[:] = torch.tensor([9.0, 0.0, 9.0, 0.0, 9.0, 9.0])
    state = narrowed_state(network, NARROW)
    assert torch.equal(state["norms.enc1_conv.bias"], torch.full((4,), 9.0))


def test_only_a_narrower_version_of_the_same_layers_fits() -> None:
    assert can_narrow(NARROW, WIDE)
    assert not can_narrow(WIDE, NARROW)
    assert not can_narrow(WIDE, WIDE)
    assert not can_narrow(replace(NARROW, input_spacing_mm=1.0), WIDE)
    assert not can_narrow(velocity_unet("kernel", encoder=(3, 4, 5), decoder=(4, 3)), WIDE)
    for name in ("velocity-2mm", "velocity-1mm"):
        assert can_narrow(named_spec(f"{name}-light"), named_spec(name))
    with pytest.raises(ValueError, match="narrow is no narrower version of kernel"):
        narrowed_state(AnalogUNet(velocity_unet("kernel", encoder=(5, 6, 7), decoder=(6, 4))), NARROW)
