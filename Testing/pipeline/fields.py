"""Neural fields for the tests of the pipeline: small, untrained, and right about one shift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from SpikeRegLib.models import save_model
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.neural_field.settings import FieldSettings
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.presets.preset import load_preset, write_preset
from SpikeRegLib.spiking.spec import code_unet
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet

# LPS mm, the answer of every pair of these tests.
SHIFT = (5.0, -4.0, 3.0)


def write_model(path: Path, *, spiking: bool = False, seed: int = 0, sign: float = 1.0) -> Path:
    """A model that predicts about half of `sign * SHIFT`, whatever it sees; codes can change that."""
    torch.manual_seed(seed)
    unet = SpikingUNet if spiking else AnalogUNet
    network = FieldNetwork(unet(code_unet()), FieldSizes(width=16, frequencies=8))
    with torch.no_grad():
        network.decoders.forward_map.last.weight.uniform_(-0.05, 0.05)
        network.decoders.forward_map.last.bias.copy_(torch.tensor(SHIFT) * sign / 2 / network.options.code_spacing_mm)
    save_model(network, path, {"training_data": "none"})
    return path


def write_field_preset(path: Path, preset: str, spacing_mm: float = 2.0, **field) -> Path:
    """A shipped preset on coarse voxels with other settings of its field."""
    shipped = load_preset(preset)
    settings = replace(shipped.field or FieldSettings(), **field)
    write_preset(replace(shipped, working_spacing_mm=spacing_mm, working_voxels=0, field=settings), path)
    return path
