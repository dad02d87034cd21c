"""The released spiking networks on real images: closed form and events, spike for spike, in every arithmetic."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from SpikeRegLib import models
from SpikeRegLib.images.volumes import normalise_intensity, read_image
from SpikeRegLib.networks import integer_convolution
from SpikeRegLib.networks.deploy import FloatUNet
from SpikeRegLib.networks.integer import IntegerUNet
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data")) / "dev"
RELEASED = [path for path in sorted(models.WEIGHTS.glob("*.safetensors")) if models.read_header(path).kind == "spiking"]
ARITHMETICS = ["int8", "int8 sums in float32", "bfloat16", "float32"]


def sample() -> torch.Tensor:
    """[1, 2, D, H, W], the bundled pair in the middle of its head."""
    folder = ROOT / "SpikeRegLib" / "sample"
    volumes = [normalise_intensity(read_image(folder / f"{role}.nii.gz")).data for role in ("fixed", "moving")]
    return torch.stack([middle(volume, (33, 40, 35)) for volume in volumes])[None]


def real_brains() -> torch.Tensor:
    """The same from two subjects at 2 mm, not aligned."""
    paths = sorted(DATA.glob("oasis_*_t1brain.nii.gz"))[:2]
    volumes = [normalise_intensity(read_image(path)).data for path in paths]
    coarse = [torch.nn.functional.avg_pool3d(volume[None], 2)[0] for volume in volumes]
    return torch.stack([middle(volume, (33, 40, 35)) for volume in coarse])[None]


def middle(volume: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    starts = [max((have - want) // 2, 0) for have, want in zip(volume.shape, shape, strict=True)]
    (z, y, x), (depth, height, width) = starts, shape
    return volume[z : z + depth, y : y + height, x : x + width]


def prepared(network: SpikingUNet, arithmetic: str) -> RegistrationUNet:
    if arithmetic.startswith("int8"):
        return IntegerUNet(network, native=arithmetic == "int8")
    return FloatUNet(network, Precision("cpu", arithmetic == "bfloat16"))


@torch.inference_mode()
def counts(network: SpikingUNet, mode: str, arithmetic: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    network.mode = mode
    ready = prepared(network, arithmetic)
    ready(x, recorder=lambda layer, inputs, output: seen.update({layer.name: output.clone()}))
    return seen


def load(path: Path, timesteps: int) -> SpikingUNet:
    network = models.load_model(path, kind="spiking", timesteps=timesteps)
    assert isinstance(network, SpikingUNet)
    return network


def check(path: Path, timesteps: int, x: torch.Tensor) -> None:
    network = load(path, timesteps)
    x = x[:, : network.spec.image_channels]  # one that reads single images sees the first
    integers: list[dict[str, torch.Tensor]] = []
    for arithmetic in ARITHMETICS:
        if arithmetic == "int8" and not integer_convolution.available():
            continue
        closed, events = (counts(network, mode, arithmetic, x) for mode in ("closed_form", "events"))
        for layer in network.spec.layers:
            assert torch.equal(closed[layer.name], events[layer.name]), (arithmetic, layer.name)
        fired = sum(int(closed[layer.name].count_nonzero()) for layer in network.spec.spiking_layers)
        assert fired > 1000, f"{arithmetic}: next to nothing fires, which tells the modes nothing"
        if arithmetic.startswith("int8"):
            integers.append(closed)
    for other in integers[1:]:
        assert all(torch.equal(other[name], integers[0][name]) for name in other)


@pytest.mark.parametrize("timesteps", [1, 2, 4, 8])
@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_modes_agree_on_the_sample_pair(path: Path, timesteps: int) -> None:
    check(path, timesteps, sample())


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real brains at {DATA} (set SPIKEREG_DATA)")
@pytest.mark.parametrize("timesteps", [1, 2, 4, 8])
@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_modes_agree_on_real_brains(path: Path, timesteps: int) -> None:
    check(path, timesteps, real_brains())


def test_the_published_field_of_both_modes_is_the_same() -> None:
    data = json.loads((ROOT / "Benchmarks" / "results" / "inference.json").read_text())
    assert all(entry["events_equal_closed_form"] for entry in data["results"].values())
