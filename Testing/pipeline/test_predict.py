"""The network's part: dropped when it does not help, composed over passes, moved off a device without memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "spiking"))
from tiny_networks import random_spiking, tiny_paper, tiny_velocity

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.networks import passes as module
from SpikeRegLib.networks.passes import predict
from SpikeRegLib.pipeline import register
from SpikeRegLib.progress import silent
from SpikeRegLib.similarity.contrast import Comparison, compare_by
from SpikeRegLib.similarity.losses import lncc
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.spiking.unet import RegistrationUNet

FRAME = Frame((53, 40, 47), (-11.0, 5.0, 30.0), (2.0, 2.0, 2.0))  # sizes that no stride of the network divides


def textured(seed: int, shape=FRAME.shape) -> torch.Tensor:
    noise = gaussian(torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)), 2.0)[0]
    return (noise - noise.min()) / (noise.max() - noise.min())


def run(network, fixed, moving, **changes):
    pair = Pair(FRAME, fixed, moving, torch.ones(fixed.shape, dtype=torch.bool), changes.pop("by", Comparison()))
    options = {"passes": 1, "device": "cpu", "spike_maps": False}
    return predict(network, pair, listener=silent, **{**options, **changes})


class Shift(RegistrationUNet):
    """A network that always answers with the same displacement, in voxels."""

    def __init__(self, spec, step: tuple[float, float, float]) -> None:
        super().__init__(spec)
        self.step = step

    def forward(self, image, *, recorder=None):
        stride = self.spec.output_stride()
        shape = [-(-n // stride) for n in image.shape[2:]]
        return torch.tensor(self.step).view(1, 3, 1, 1, 1).expand(1, 3, *shape) / stride


def test_a_prediction_that_does_not_help_is_dropped_and_said():
    fixed, moving = textured(1), textured(2)
    network = Shift(tiny_velocity(), (25.0, -20.0, 20.0))
    found = run(network, fixed, fixed)
    assert float(found.displacement.abs().max()) == 0 and (found.passes, found.passes_run) == (0, 1)
    assert found.warnings == ["the network did not improve the similarity; its prediction was dropped"]
    for seed_pair in ((fixed, moving), (moving, fixed)):
        found = run(random_spiking(tiny_velocity()), *seed_pair, passes=2)
        after = lncc(seed_pair[0], warp(seed_pair[1][None, None], found.displacement[None] / 2.0)[0, 0])
        assert float(after) >= float(lncc(*seed_pair)) - 1e-6
        assert found.passes or found.warnings


def test_passes_are_composed_until_one_does_not_help():
    """Each pass shifts by two voxels; the images are four apart, so two are kept and the third is dropped."""
    fixed = textured(3)
    moving = torch.roll(fixed, 4, dims=2)  # fixed x lies at moving x + 4 voxels = + 8 mm
    found = run(Shift(tiny_velocity(), (2.0, 0.0, 0.0)), fixed, moving, passes=5)
    assert (found.passes, found.passes_run) == (2, 3) and found.warnings == []
    middle = found.displacement[:, 15:-15, 15:-15, 15:-15]
    assert torch.allclose(middle[0], torch.tensor(8.0), atol=0.05) and float(middle[1:].abs().max()) < 1e-4


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper()], ids=lambda spec: spec.name)
def test_spike_maps_lie_where_their_receptive_fields_are(spec):
    """A change in one place of the images changes each layer's rates around that place in the patient."""
    network = random_spiking(spec)
    fixed, moving = torch.full(FRAME.shape, 0.2), torch.full(FRAME.shape, 0.3)
    changed = fixed.clone()
    place = (30, 17, 21)
    changed[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3, place[2] - 2 : place[2] + 3] = 1.0
    maps = [run(network, image, moving, spike_maps=True).maps for image in (fixed, changed)]
    where = torch.tensor(FRAME.matrix @ [*reversed(place), 1.0])[:3]
    assert set(maps[0]) == {layer.name for layer in spec.spiking_layers}
    for name, before in maps[0].items():
        stride = 64 // spec.shapes((64, 64, 64))[name][0]
        assert before.frame.spacing == (2.0 * stride,) * 3 and before.frame.origin == FRAME.origin
        difference = (maps[1][name].data - before.data).abs().double()
        if stride > 4 or not difference.any():  # a few voxels in all: no centre to speak of
            continue
        index = difference.nonzero()
        weight = difference[tuple(index.T)][:, None]
        centre = (index.flip(1) * weight).sum(0) / weight.sum()
        position = torch.tensor(before.frame.matrix)[:3, :3] @ centre + torch.tensor(before.frame.origin)
        if name.startswith("enc"):
            assert float((position - where).abs().max()) < 2.0 * stride, name


def test_activity_of_all_passes_adds_up():
    fixed = textured(6)
    once = run(random_spiking(tiny_velocity()), fixed, textured(7))
    assert once.energy.synaptic_ops == sum(layer.synaptic_ops for layer in once.layers)
    assert once.energy.dense_twin_macs == sum(layer.dense_macs for layer in once.layers)
    assert once.energy.neuron_updates == sum(layer.neuron_updates for layer in once.layers)


class Brightness(Shift):
    """Answers with the mean of the two images it sees, as a displacement along x and y."""

    def forward(self, image, *, recorder=None):
        shape = [-(-n // self.spec.output_stride()) for n in image.shape[2:]]
        means = torch.stack((*image.mean((0, 2, 3, 4)), torch.tensor(0.0)))
        return means.view(1, 3, 1, 1, 1).expand(1, 3, *shape)


def test_two_contrasts_are_read_in_both_and_the_mean_counts():
    fixed = textured(6)
    moving = (1 - fixed) ** 2  # the same place, another contrast
    comparison = compare_by("multicontrast", fixed, moving, torch.ones(FRAME.shape, dtype=torch.bool))
    pair = Pair(FRAME, fixed, moving, torch.ones(FRAME.shape, dtype=torch.bool), comparison)
    network = Brightness(tiny_velocity(), (0.0, 0.0, 0.0))
    options = {"tile": None, "device": "cpu", "spike_maps": False}
    heard = []
    listen = {**options, "heard": lambda fraction, layer: heard.append(fraction)}
    output, recorders = module.read_pair(network, network, pair, **listen)
    views = comparison.in_one_contrast(fixed, moving)
    for axis in (0, 1):
        wanted = sum(float(view[axis].mean()) for view in views) / 2
        assert torch.allclose(output[0, axis], torch.tensor(wanted), atol=1e-5) and not recorders
    # A spiking network is counted, and heard of, every time it reads.
    spiking = random_spiking(tiny_velocity())
    _, recorders = module.read_pair(spiking, spiking, pair, **listen)
    assert len(recorders) == 2 and heard == sorted(heard) and heard[-1] == 1.0
    assert len(heard) == 2 * len(spiking.spec.layers)
    once, twice = (run(random_spiking(tiny_velocity()), fixed, moving, by=by) for by in (Comparison(), comparison))
    assert twice.energy.dense_twin_macs == 2 * once.energy.dense_twin_macs
    assert twice.energy.paper_baseline_macs == once.energy.paper_baseline_macs
    assert twice.energy.synaptic_ops == sum(layer.synaptic_ops for layer in twice.layers)
    dense = Shift(tiny_velocity(), (0.0, 0.0, 0.0))
    assert run(dense, fixed, moving, by=comparison).energy.dense_twin_macs == twice.energy.dense_twin_macs


# A device without memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
    ],
    ids=["cuda", "mps"],
)
def test_a_full_device_falls_back_to_the_cpu_and_says_so(error, monkeypatch):
    fixed, moving, network = textured(8), textured(9), random_spiking(tiny_velocity())
    on_cpu = run(network, fixed, moving)
    real, places = module.deploy, []

    def full(net, device):
        places.append(device)
        if device != "cpu":
            raise error
        return real(net, device)

    monkeypatch.setattr(module, "deploy", full)
    found = run(network, fixed, moving, device="cuda")
    assert places == ["cuda", "cpu"] and found.device == "cpu"
    assert found.warnings[0] == "the cuda device ran out of memory; the network ran on the CPU instead"
    assert torch.equal(found.displacement, on_cpu.displacement)


def test_other_errors_of_a_device_and_a_full_cpu_are_not_hidden(monkeypatch):
    def fail(net, device):
        raise RuntimeError("out of memory" if device == "cpu" else "illegal instruction")

    network = random_spiking(tiny_velocity())
    monkeypatch.setattr(module, "deploy", fail)
    for device, message in (("cuda", "illegal instruction"), ("cpu", "out of memory")):
        with pytest.raises(RuntimeError, match=message):
            run(network, textured(1), textured(2), device=device)


def test_the_result_names_the_device_that_did_the_work(known, monkeypatch):
    """register on a device that runs out of memory: finished on the CPU, with the warning in result.json."""
    from SpikeRegLib.pipeline import engine as pipeline

    real = module.deploy

    def full(net, device):
        if device != "cpu":
            raise torch.OutOfMemoryError("out of memory")
        return real(net, device)

    monkeypatch.setattr(module, "deploy", full)
    monkeypatch.setattr(pipeline, "choose_device", lambda wanted: "cuda")
    monkeypatch.setattr("SpikeRegLib.spiking.unet.RegistrationUNet.to", lambda self, place: self)
    found = register(known.fixed, known.moving, preset="fast-preview", skip_affine=True, threads=1)
    assert found.result["device"] == "cpu"
    assert any("ran out of memory" in line for line in found.result["warnings"])
