"""How often networks ran over a pair: what result.json says of it is what its counts were made of."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "spiking"))
from tiny_networks import random_spiking, tiny_velocity

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.models import save_model
from SpikeRegLib.pipeline import register
from SpikeRegLib.space.filters import gaussian

PRESET = """
description = "only networks"
method = "spikereg"
model = "{coarse}"
fine_model = "{fine}"
working_spacing_mm = 2.0
similarity = "{similarity}"
passes = {passes}

[refine]
levels = []
"""

FRAME = Frame((32, 36, 40), spacing=(2.0, 2.0, 2.0))


def blobs(seed: int) -> Volume:
    noise = gaussian(torch.rand(1, *FRAME.shape, generator=torch.Generator().manual_seed(seed)), 2.0)[0]
    return Volume((noise - noise.mean()).clamp_min(0), FRAME)


@pytest.mark.parametrize("fine", [False, True], ids=["coarse alone", "fine pass"])
@pytest.mark.parametrize(("similarity", "views"), [("lncc", 1), ("multicontrast", 2)])
def test_passes_are_those_that_spikes_and_operations_were_counted_in(similarity, views, fine, tmp_path):
    """Also where a network helps nothing, as these random ones: passes that were dropped cost what the others do."""
    specs = [replace(tiny_velocity(), timesteps=4), replace(tiny_velocity(), timesteps=2)]
    files = [tmp_path / "coarse.safetensors", tmp_path / "fine.safetensors"]
    for spec, file in zip(specs, files, strict=True):
        save_model(random_spiking(spec), file, {})
    text = PRESET.format(coarse=files[0], fine=files[1] if fine else "", similarity=similarity, passes=1 if fine else 3)
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    found = register(blobs(1), blobs(2), preset=tmp_path / "own.toml", skip_affine=True, threads=1, device="cpu")
    spikes, energy = found.result["spikes"], found.result["energy"]
    layers = {layer["name"]: layer for layer in spikes["layers"]}
    assert spikes["views"] == views and spikes["timesteps"] == 4
    firsts = ["enc0.down", *(["fine.enc0.down"] if fine else [])]
    readings = [layers[name]["neuron_updates"] / layers[name]["neurons"] / layers[name]["timesteps"] for name in firsts]
    assert [layers[name]["timesteps"] for name in firsts] == [4, 2][: len(firsts)]
    assert sum(readings) == spikes["passes"] * spikes["views"]
    dropped = sum("prediction was dropped" in warning for warning in found.result["warnings"])
    if fine:  # one pass of each network: every one that was dropped is said
        assert spikes["passes"] == 2 and spikes["passes_kept"] == 2 - dropped
    else:
        assert 1 <= spikes["passes"] <= 3 and (spikes["passes_kept"] == 0) == (dropped == 1)
    assert energy["dense_twin_macs"] == sum(layer["dense_macs"] for layer in spikes["layers"])
    receiving = [layer for layer in spikes["layers"] if not layer["analog_macs"]]
    offered = sum(layer["dense_macs"] * layer["timesteps"] for layer in receiving)
    assert spikes["mac_weighted_rate"] == pytest.approx(sum(layer["synaptic_ops"] for layer in receiving) / offered)
