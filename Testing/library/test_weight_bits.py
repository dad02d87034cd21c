"""8-bit weights: a quarter of the size, nearly the same function."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.models import load_model, save_model
from SpikeRegLib.spiking.spec import paper_unet, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet


@pytest.mark.parametrize("make", [velocity_unet, paper_unet])
def test_rounding_is_at_most_half_a_step_of_each_output_channel(make, tmp_path):
    torch.manual_seed(0)
    network = SpikingUNet(make())
    save_model(network, tmp_path / "m.safetensors", {}, weight_bits=8)
    loaded = load_model(tmp_path / "m.safetensors")
    for layer in network.spec.layers:
        name = layer.name.replace(".", "_")
        original, rounded = network.weights[name].detach(), loaded.weights[name].detach()
        axis = 1 if layer.transposed else 0
        others = [a for a in range(5) if a != axis]
        step = original.abs().amax(others, keepdim=True) / 127
        assert ((original - rounded).abs() <= step / 2 + 1e-7).all(), layer.name


def test_eight_bit_file_is_half_the_size_of_sixteen_and_gives_nearly_the_same_field(tmp_path):
    torch.manual_seed(0)
    network = AnalogUNet(velocity_unet()).eval()
    torch.nn.init.normal_(network.weights["head"], std=0.1)
    sizes, fields = [], []
    image = torch.rand(1, 2, 32, 32, 32)
    for bits in (16, 8):
        path = tmp_path / f"{bits}.safetensors"
        save_model(network, path, {}, weight_bits=bits)
        sizes.append(path.stat().st_size)
        with torch.no_grad():
            fields.append(load_model(path)(image))
    assert sizes[1] < 0.55 * sizes[0]
    assert (fields[0] - fields[1]).norm() < 0.03 * fields[0].norm()


def test_other_widths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="weight_bits"):
        save_model(AnalogUNet(velocity_unet()), tmp_path / "m.safetensors", {}, weight_bits=4)
    assert list(tmp_path.iterdir()) == []
