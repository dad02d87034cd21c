"""Conversion keeps the teacher's function: exact folding, honest percentiles, an error that vanishes with T."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_networks import image, tiny_paper, tiny_velocity
from torch import nn

from SpikeRegLib.spiking.conversion import ActivationHistogram, calibrate, convert, fold_normalisation
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet, convolve, key

SHAPE = (16, 24, 16)


def teacher_of(spec: NetworkSpec) -> AnalogUNet:
    """A teacher with normalisation statistics and gains far from their starting values, and a head worth measuring."""
    torch.manual_seed(7)
    teacher = AnalogUNet(spec)
    with torch.no_grad():
        for norm in teacher.norms.values():
            assert isinstance(norm, nn.BatchNorm3d)
            norm.momentum = 0.3
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.2, 0.6)
        teacher.weights["head"].normal_(std=0.1)
        teacher.head_bias.uniform_(-0.3, 0.3)
        if teacher.smoothing is not None:
            teacher.smoothing.weight.uniform_(-0.1, 0.2)
        teacher.train()
        for seed in range(8):
            teacher(image(SHAPE, seed))
    return teacher.eval()


@pytest.fixture(scope="module", params=["velocity", "paper"])
def teacher(request: pytest.FixtureRequest) -> AnalogUNet:
    # The paper's leaks are left out: with them the spiking network is another function, which only training can fit.
    return teacher_of(tiny_velocity() if request.param == "velocity" else replace(tiny_paper(), leak=()))


@pytest.fixture(scope="module")
def thresholds(teacher: AnalogUNet) -> dict[float, dict[str, torch.Tensor]]:
    return calibrate(teacher, [image(SHAPE, seed) for seed in range(3)], (90.0, 100.0))


def recorded(network: AnalogUNet | SpikingUNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        network(x, recorder=lambda layer, inputs, output: seen.update({layer.name: output.clone()}))
    return seen


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((got - wanted).norm() / wanted.norm()).detach())


def test_folding_normalisation_is_exact(teacher: AnalogUNet) -> None:
    torch.manual_seed(1)
    for layer in teacher.spec.spiking_layers:
        x = torch.rand(1, layer.in_channels, 6, 6, 6)
        weight, bias = fold_normalisation(teacher, layer)
        with torch.no_grad():
            wanted = teacher.norms[key(layer.name)](convolve(layer, x, teacher.weights[key(layer.name)], None))
        assert relative_error(convolve(layer, x, weight, bias), wanted) < 1e-5
        assert (weight - teacher.weights[key(layer.name)]).abs().max() > 0.01, "the statistics were trivial"


def test_many_steps_give_the_teachers_function(
    teacher: AnalogUNet, thresholds: dict[float, dict[str, torch.Tensor]]
) -> None:
    x = image(SHAPE, 1)
    with torch.no_grad():
        wanted = teacher(x)
        errors = [
            relative_error(convert(teacher, thresholds[100.0], timesteps=steps)(x), wanted)
            for steps in (4, 16, 64, 256)
        ]
    assert errors[-1] < 0.05
    assert all(after < 0.6 * before for before, after in itertools.pairwise(errors)), errors


def test_every_branch_keeps_its_scale(teacher: AnalogUNet, thresholds: dict[float, dict[str, torch.Tensor]]) -> None:
    """theta n / T is the teacher's activation in every layer: both branches of every merge, transposed ones too."""
    x, steps = image(SHAPE, 1), 256
    network = convert(teacher, thresholds[100.0], timesteps=steps)
    analog, spiking = recorded(teacher, x), recorded(network, x)
    for layer in teacher.spec.spiking_layers:
        activation = network.threshold(layer.name).view(1, -1, 1, 1, 1) * spiking[layer.name] / steps
        assert relative_error(activation, analog[layer.name]) < 0.05, layer.name


def test_both_topologies_are_what_is_tested(teacher: AnalogUNet) -> None:
    layers = teacher.spec.layers
    if teacher.spec.output == "displacement":
        assert sum(layer.transposed for layer in layers) == 4
        assert sorted(layer.merge for layer in layers if len(layer.inputs) == 2) == ["average", "concat", "concat"]
    else:
        assert sum(layer.upsample == (2, 1) for layer in layers) == 3


def test_thresholds_clip_the_share_they_promise(
    teacher: AnalogUNet, thresholds: dict[float, dict[str, torch.Tensor]]
) -> None:
    seen = [recorded(teacher, image(SHAPE, seed)) for seed in range(3)]
    for layer in teacher.spec.spiking_layers:
        values = torch.cat([run[layer.name].transpose(0, 1).flatten(1) for run in seen], 1)
        for channel, row in enumerate(values):
            positive = row[row > 1e-5]
            if len(positive) == 0:
                assert thresholds[90.0][layer.name][channel] == 1
                continue
            assert (positive <= thresholds[90.0][layer.name][channel]).float().mean() >= 0.9
            assert thresholds[100.0][layer.name][channel] >= positive.max()


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0, 99.9, 100.0])
def test_streamed_percentiles_equal_numpy(percent: float) -> None:
    random = np.random.default_rng(4)
    scales = np.array([1e-3, 0.2, 1.0, 30.0])
    values = (random.normal(0.3, 1.0, (6, 4, 5, 5, 5)) * scales.reshape(1, 4, 1, 1, 1)).astype(np.float32)
    histogram = ActivationHistogram(5)
    for batch in np.split(values, 3):
        silent = -np.ones_like(batch[:, :1])
        histogram.add(torch.from_numpy(np.concatenate((batch, silent), 1)))
    got = histogram.percentile(percent).numpy()
    for channel in range(4):
        row = values[:, channel]
        exact = np.percentile(row[row > 1e-5], percent, method="inverted_cdf")
        assert exact * (1 - 1e-6) <= got[channel] <= exact * 1.0091
    assert got[4] == 1  # never positive


def test_a_leak_changes_the_function_and_is_kept(teacher: AnalogUNet) -> None:
    """`dynamics` reaches the converted neurons; conversion is exact only without a leak."""
    thresholds = calibrate(teacher, [image(SHAPE)], (100.0,))[100.0]
    plain = convert(teacher, thresholds, timesteps=32)
    leaky = convert(teacher, thresholds, timesteps=32, dynamics=NeuronDynamics(leak=0.8))
    x = image(SHAPE)
    with torch.no_grad():
        wanted = teacher(x)
        assert relative_error(leaky(x), wanted) > 2 * relative_error(plain(x), wanted)


def test_the_head_reads_the_unit_of_every_branch() -> None:
    """One layer by hand: counts n of threshold theta are worth theta n / T, up to rounding to the nearest count."""
    layers = (Layer("a", ("image",), 2, 1, kernel=1), Layer("head", ("a",), 1, 3, kernel=1, neuron=False))
    teacher = AnalogUNet(NetworkSpec("one", layers)).eval()
    norm = teacher.norms["a"]
    assert isinstance(norm, nn.BatchNorm3d) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        teacher.weights["a"].copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1))
        teacher.weights["head"].copy_(torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1, 1, 1))
        teacher.head_bias.copy_(torch.tensor([0.0, 0.1, 0.0]))
        norm.running_var.fill_(1 - norm.eps)
        network = convert(teacher, {"a": torch.tensor([2.0])}, timesteps=8)
        x = torch.tensor([0.1, 0.13, 0.76, 1.0]).view(1, 1, 1, 1, 4).expand(1, 2, 1, 1, 4)
        n = torch.tensor([0.0, 1.0, 3.0, 4.0])  # 8 x / 2 rounded
        expected = torch.stack((n / 4, 0.1 - n / 2, n / 8))
        torch.testing.assert_close(network(x)[0, :, 0, 0], expected)
