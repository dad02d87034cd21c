"""The counted operations are those that compute: every spike is sent to every target, one addition at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_velocity

from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity, sum_layers
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import SpikingUNet

SHAPE = (16, 17, 20)  # odd grids below: up-sampled inputs are cropped


def sent_spike_by_spike(
    network: SpikingUNet, layer: Layer, values: dict[str, np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, int]:
    """What the layer computes from the spikes of the layers it reads, by additions alone, and how many these were.

    A neuron has one connection to every output it reaches: of one whose up-sampled copies reach an output several
    times, its weight is the sum of theirs.

    Args:
        network: whose weights are used.
        layer: reads counts.
        values: counts [C, D, H, W] of every layer, on its own grid.
        shape: of the layer's output.
    """
    tensors = network.count_weights(layer)
    weight, bias = (t.detach().double().numpy() for t in tensors)
    if layer.transposed:
        weight = weight.swapaxes(0, 1)
    drive = np.zeros((layer.out_channels, *shape)) + bias[:, None, None, None]
    grid = [min(values[n].shape[a] * f for n, f in zip(layer.inputs, layer.upsample, strict=True)) for a in (1, 2, 3)]
    additions, first_channel = 0, 0
    for name, factor in zip(layer.inputs, layer.upsample, strict=True):
        channel, *place = np.nonzero(values[name])
        spikes = values[name][(channel, *place)].astype(int)
        connections: list[dict[tuple[int, ...], np.ndarray]] = [{} for _ in spikes]
        for copy in itertools.product(range(factor), repeat=3):
            at = np.stack([p * factor + c for p, c in zip(place, copy, strict=True)])
            seen = (at < np.array(grid)[:, None]).all(0)
            for tap in itertools.product(range(layer.kernel), repeat=3):
                offset = np.array(tap)[:, None]
                if layer.transposed:
                    target, reached = at * layer.stride + offset, seen
                else:
                    numerator = at - offset + layer.kernel // 2
                    target = numerator // layer.stride
                    reached = seen & (numerator % layer.stride == 0).all(0)
                    reached = reached & (target >= 0).all(0) & (target < np.array(shape)[:, None]).all(0)
                for neuron in np.nonzero(reached)[0]:
                    there = tuple(target[:, neuron])
                    known = connections[neuron].get(there, 0.0)
                    connections[neuron][there] = known + weight[(slice(None), channel[neuron] + first_channel, *tap)]
        for neuron, times in enumerate(spikes):
            for there, weights in connections[neuron].items():
                for _ in range(times):  # a neuron that fired n times sends n times
                    drive[(slice(None), *there)] += weights
                    additions += len(weights)
        first_channel += values[name].shape[0]
    return drive, additions


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper()], ids=["velocity", "paper"])
def test_operations_are_the_additions_of_an_event_driven_run(spec: NetworkSpec) -> None:
    network = random_spiking(spec)
    recorder, values = ActivityRecorder(spec, SHAPE), {}

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        recorder(layer, inputs, output)
        values[layer.name] = output[0].double().numpy()

    with torch.no_grad():
        network(image(SHAPE), recorder=record)
    for layer, entry in zip(spec.layers, recorder.layers, strict=True):
        if layer.inputs == ("image",):
            assert entry.synaptic_ops == 0
            continue
        output = values[layer.name]
        drive, additions = sent_spike_by_spike(network, layer, values, output.shape[1:])
        assert entry.synaptic_ops == additions, layer.name
        if not layer.neuron:
            assert np.abs(drive - output).max() < 1e-4 * max(1, np.abs(output).max())
        elif spec.leak_of(layer.name) == 1:
            rounded = np.clip(np.floor(drive + 0.5), 0, spec.timesteps)
            assert (rounded != output).mean() < 1e-3, "the additions compute what the layer computes"


def test_passes_add_up_and_rates_are_means() -> None:
    spec = tiny_velocity()
    runs: list[list[LayerActivity]] = []
    for seed in (0, 1):
        recorder = ActivityRecorder(spec, SHAPE)
        with torch.no_grad():
            random_spiking(spec)(image(SHAPE, seed), recorder=recorder)
        runs.append(recorder.layers)
    for both, one, two in zip(sum_layers(runs), *runs, strict=True):
        assert (both.name, both.neurons) == (one.name, one.neurons)
        for column in ("count", "synaptic_ops", "dense_macs", "neuron_updates", "sram_bytes", "dense_dram_bytes"):
            assert getattr(both, column) == getattr(one, column) + getattr(two, column)
        assert both.rate == pytest.approx((one.rate + two.rate) / 2)
        if both.neurons:
            assert both.rate == pytest.approx(both.count / both.neuron_updates)
    assert sum_layers(runs[:1]) == runs[0] and sum_layers([]) == []
