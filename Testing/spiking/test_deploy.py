"""What runs after loading: the arithmetic is chosen, named and falls back, the function stays; tiles before the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.networks import deploy as deploying
from SpikeRegLib.networks import integer_convolution
from SpikeRegLib.networks import passes as module
from SpikeRegLib.networks.deploy import FloatUNet, deploy
from SpikeRegLib.networks.integer import IntegerUNet
from SpikeRegLib.networks.passes import predict
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.progress import silent
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.spiking.spec import NetworkSpec, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet

EXACT, HALF = Precision("cpu", False), Precision("cpu", True)


def trained_dense(spec: NetworkSpec) -> AnalogUNet:
    """With normalisation statistics that are not the initial ones."""
    torch.manual_seed(6)
    network = AnalogUNet(spec)
    with torch.no_grad():
        for seed in range(3):
            network(image((32, 32, 32), seed))
    return network.eval()


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
@torch.inference_mode()
def test_folded_constants_keep_the_function(spec: NetworkSpec) -> None:
    x = image((33, 26, 32))
    for network in (trained_dense(spec), random_spiking(replace(spec, leak=()))):
        wanted = network(x)
        got = FloatUNet(network, EXACT)(x)
        # A spike more or less, where a drive lies on its threshold to the last bits, is all that may differ.
        assert float((got - wanted).abs().mean() / wanted.abs().mean()) < 1e-4


@torch.inference_mode()
def test_bfloat16_is_close_for_the_dense_twin() -> None:
    network, x = trained_dense(tiny_velocity()), image((32, 32, 32))
    wanted, got = network(x), FloatUNet(network, HALF)(x)
    assert got.dtype == torch.float32
    assert 0 < float((got - wanted).norm() / wanted.norm()) < 0.03


@pytest.mark.parametrize("precision", [EXACT, HALF], ids=lambda precision: precision.name)
@pytest.mark.parametrize("timesteps", [1, 4, 8])
@torch.inference_mode()
def test_modes_agree_in_every_floating_arithmetic(precision: Precision, timesteps: int) -> None:
    network, x, seen = random_spiking(tiny_velocity().with_timesteps(timesteps)), image((17, 24, 16)), []
    for mode in ("closed_form", "events"):
        network.mode, counts = mode, {}
        FloatUNet(network, precision)(x, recorder=lambda layer, inputs, out, c=counts: c.update({layer.name: out}))
        seen.append(counts)
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_without_the_integer_operator_floats_are_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a torch without it: bfloat16 where the processor has it, float32 elsewhere."""
    network = random_spiking(tiny_velocity())
    monkeypatch.setattr(integer_convolution, "available", lambda: True)
    monkeypatch.setattr(deploying, "IntegerUNet", lambda network: IntegerUNet(network, native=False))
    assert deploy(network, "cpu").arithmetic == "int8"
    poisson = SpikingUNet(tiny_velocity(), input_coding="poisson")
    monkeypatch.setattr(Precision, "best", staticmethod(lambda device: EXACT))
    assert deploy(poisson, "cpu").arithmetic == "float32"
    assert deploy(trained_dense(tiny_velocity()), "cpu").arithmetic == "float32"
    monkeypatch.setattr(integer_convolution, "available", lambda: False)
    for precision in (EXACT, HALF):
        monkeypatch.setattr(Precision, "best", staticmethod(lambda device, chosen=precision: chosen))
        found = run(network)
        assert found.arithmetic == precision.name and found.tile is None


# Prediction ----------------------------------------------------------------------------------------------------------

FRAME = Frame((70, 40, 118), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))


def run(network, **options):
    pair = Pair(FRAME, *image(FRAME.shape)[0], torch.ones(FRAME.shape, dtype=torch.bool), Comparison())
    settings = {"passes": 1, "device": "cpu", "spike_maps": True, "listener": silent}
    return predict(network, pair, **{**settings, **options})


def test_a_prediction_in_tiles_is_that_of_the_whole_and_says_so() -> None:
    network = random_spiking(velocity_unet("shallow", encoder=(4, 6), decoder=(6,)))
    whole, tiled = run(network), run(network, tile=96)
    assert whole.tile is None and tiled.tile == 96
    assert tiled.layers == whole.layers and tiled.energy == whole.energy
    assert all(torch.equal(tiled.maps[name].data, whole.maps[name].data) for name in whole.maps)
    torch.testing.assert_close(tiled.displacement, whole.displacement, rtol=1e-4, atol=1e-5)


def test_a_device_without_memory_tries_tiles_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    read, ready, tried = module.read_pair, module.deploy, []

    def fits_only_in_tiles(*given, device, tile, **options):
        tried.append((device, tile))
        if device == "cuda" and tile is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(*given, device="cpu", tile=tile, **options)

    monkeypatch.setattr(module, "read_pair", fits_only_in_tiles)
    monkeypatch.setattr(module, "deploy", lambda network, device: ready(network, "cpu"))
    monkeypatch.setattr(Pair, "to", lambda pair, device: pair)
    found = run(random_spiking(tiny_velocity()), device="cuda")
    assert tried == [("cuda", None), ("cuda", 96)] and found.tile == 96
    assert found.warnings[0] == "the cuda device ran out of memory; the network ran in tiles of 96 voxels"

    def fits_nowhere(*given, device, tile, **options):
        tried.append((device, tile))
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(*given, device=device, tile=tile, **options)

    tried.clear()
    monkeypatch.setattr(module, "read_pair", fits_nowhere)
    found = run(random_spiking(tiny_velocity()), device="cuda")
    assert tried == [("cuda", None), ("cuda", 96), ("cpu", None)]
    assert found.warnings[0] == "the cuda device ran out of memory; the network ran on the CPU instead"
