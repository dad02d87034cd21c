"""Synaptic operations counted spike by spike, and the table of activity."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity
from torch.nn import functional

from SpikeRegLib.spiking.activity import ActivityRecorder, OperationCount, axis_fan_out, dense_macs, synaptic_operations
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import merge_inputs

CONVOLUTIONS = [
    Layer("same", ("x",), 2, 5),
    Layer("strided", ("x",), 2, 5, stride=2),
    Layer("pointwise", ("x",), 2, 5, kernel=1),
    Layer("wide", ("x",), 2, 5, kernel=5, stride=2),
    Layer("upsampled", ("x",), 2, 5, upsample=(2,)),
    Layer("transposed", ("x",), 2, 5, kernel=2, stride=2, transposed=True),
]
GRIDS = [(4, 5, 6), (3, 3, 7), (2, 1, 4)]


def random_counts(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 5, (1, 2, *shape), generator=torch.Generator().manual_seed(seed)).double()


def operations_by_convolution(layer: Layer, merged: torch.Tensor) -> float:
    """A convolution of the counts with ones adds every spike once for each output it reaches."""
    if layer.transposed:
        ones = torch.ones(layer.in_channels, layer.out_channels, *(layer.kernel,) * 3, dtype=torch.float64)
        return float(functional.conv_transpose3d(merged, ones, stride=layer.stride).sum())
    ones = torch.ones(layer.out_channels, layer.in_channels, *(layer.kernel,) * 3, dtype=torch.float64)
    return float(functional.conv3d(merged, ones, stride=layer.stride, padding=layer.kernel // 2).sum())


def operations_by_reach(layer: Layer, merged: torch.Tensor, factor: int) -> float:
    """One neuron after the other fires alone: the outputs that change are those it reaches."""
    if factor == 1:
        return operations_by_convolution(replace(layer, in_channels=merged.shape[1]), merged)
    counts = merged[0, :, ::factor, ::factor, ::factor].sum(0)
    ones = torch.ones(1, 1, *(layer.kernel,) * 3, dtype=torch.float64)
    total = 0.0
    for place in itertools.product(*(range(n) for n in counts.shape)):
        alone = torch.zeros(1, 1, *counts.shape, dtype=torch.float64)
        alone[(0, 0, *place)] = 1
        (seen,) = merge_inputs(Layer("alone", ("x",), 1, 1, upsample=(factor,)), {"x": alone})
        depth, height, width = merged.shape[2:]
        reached = functional.conv3d(
            seen[:, :, :depth, :height, :width], ones, stride=layer.stride, padding=layer.kernel // 2
        )
        total += float(counts[place]) * int(reached.count_nonzero()) * layer.out_channels
    return total


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=lambda layer: layer.name)
def test_operations_are_spikes_times_the_outputs_they_reach(layer: Layer, shape: tuple[int, int, int]) -> None:
    inputs = merge_inputs(layer, {"x": random_counts(shape)})
    assert float(synaptic_operations(layer, inputs)) == operations_by_reach(layer, inputs[0], layer.upsample[0])


@pytest.mark.parametrize("layer", CONVOLUTIONS[:3], ids=lambda layer: layer.name)
def test_operations_equal_a_walk_over_spikes_and_outputs(layer: Layer) -> None:
    shape = (3, 4, 5)
    counts = random_counts(shape)
    outputs = [range(-(-n // layer.stride)) for n in shape]
    reach, total = layer.kernel // 2, 0.0
    for place in itertools.product(*(range(n) for n in shape)):
        reached = sum(
            all(abs(o * layer.stride - p) <= reach for o, p in zip(output, place, strict=True))
            for output in itertools.product(*outputs)
        )
        total += float(counts[(0, slice(None), *place)].sum()) * reached * layer.out_channels
    assert float(synaptic_operations(layer, [counts])) == total


@pytest.mark.parametrize("merge", ["concat", "average"])
def test_both_branches_of_a_merge_pay_for_their_spikes(merge: str) -> None:
    layer = Layer("merge", ("x", "y"), 4 if merge == "concat" else 2, 5, upsample=(2, 1), merge=merge)
    values = {"x": random_counts((2, 3, 3), 1), "y": random_counts((4, 5, 6), 2)}
    inputs = merge_inputs(layer, values)
    assert [tuple(x.shape[2:]) for x in inputs] == [(4, 5, 6)] * 2  # up-sampled, then cropped
    expected = sum(operations_by_reach(layer, x, factor) for x, factor in zip(inputs, layer.upsample, strict=True))
    assert float(synaptic_operations(layer, inputs)) == expected


def test_borders_reach_fewer_outputs() -> None:
    assert axis_fan_out(8, Layer("up-sampled", ("x",), 1, 1), 2) == [3, 4, 4, 3]
    assert axis_fan_out(7, Layer("cropped", ("x",), 1, 1), 2) == [3, 4, 4, 2]
    assert axis_fan_out(5, Layer("same", ("x",), 1, 1)) == [2, 3, 3, 3, 2]
    assert axis_fan_out(5, Layer("strided", ("x",), 1, 1, stride=2)) == [1, 2, 1, 2, 1]
    assert axis_fan_out(6, Layer("strided", ("x",), 1, 1, stride=2)) == [1, 2, 1, 2, 1, 1]
    assert axis_fan_out(4, Layer("up", ("x",), 1, 1, kernel=2, stride=2, transposed=True)) == [2, 2, 2, 2]


def test_large_totals_are_exact_also_under_autocast() -> None:
    layer = Layer("wide", ("x",), 2, 64)
    counts = torch.randint(200, 256, (1, 2, 40, 41, 42), generator=torch.Generator().manual_seed(1)).double()
    expected = operations_by_convolution(Layer("one", ("x",), 2, 1), counts) * 64
    assert expected > 2**24, "float32 could hold it"
    with torch.autocast("cpu", torch.bfloat16):
        assert float(synaptic_operations(layer, [counts])) == expected
        single = float(synaptic_operations(layer, [counts.bfloat16()]))
    assert single == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("spec", [tiny_velocity(), tiny_paper(), tiny_patches()], ids=["velocity", "paper", "patches"])
def test_the_table_follows_from_the_counts(spec: NetworkSpec) -> None:
    network = random_spiking(spec)
    shape = (16, 17, 20)
    outputs, given = {}, {}
    recorder = ActivityRecorder(spec, shape, maps=True)

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        recorder(layer, inputs, output)
        outputs[layer.name], given[layer.name] = output.clone(), [x.clone().double() for x in inputs]

    with torch.no_grad():
        network(image(shape), recorder=record)
    dense = dense_macs(spec, shape)
    assert [entry.name for entry in recorder.layers] == [layer.name for layer in spec.layers]
    for layer, entry in zip(spec.layers, recorder.layers, strict=True):
        assert entry.dense_macs == dense[layer.name]
        if layer.inputs == ("image",):
            assert (entry.analog_macs, entry.synaptic_ops) == (entry.dense_macs, 0)
        else:
            branches = zip(given[layer.name], layer.upsample, strict=True)
            expected = sum(operations_by_reach(layer, x, factor) for x, factor in branches)
            assert (entry.analog_macs, entry.synaptic_ops) == (0, expected)
        if not layer.neuron:
            assert (entry.neurons, entry.count, entry.rate, entry.neuron_updates) == (0, 0, 0.0, 0)
            continue
        fired = outputs[layer.name]
        assert entry.count == int(fired.sum())
        assert entry.neurons == fired.numel()
        assert entry.neuron_updates == fired.numel() * spec.timesteps
        assert 0 < entry.rate < 1
        assert entry.rate == pytest.approx(float(fired.double().mean()) / spec.timesteps)
        assert entry.silent_percent == pytest.approx(100 * float((fired == 0).double().mean()), rel=1e-5)
        rates = recorder.maps[layer.name]
        assert rates.shape == fired.shape[2:] and rates.min() >= 0 and rates.max() <= 1
        assert float(rates.mean()) == pytest.approx(entry.rate, rel=1e-4)
    spiking = [entry for entry in recorder.layers if entry.neurons]
    assert recorder.mean_rate == pytest.approx(
        sum(e.count for e in spiking) / sum(e.neurons * spec.timesteps for e in spiking)
    )
    receiving = [entry for entry in recorder.layers if not entry.analog_macs]
    assert recorder.mac_weighted_rate == pytest.approx(
        sum(e.synaptic_ops for e in receiving) / sum(e.dense_macs for e in receiving) / spec.timesteps
    )


def test_a_silent_network_costs_nothing_and_a_saturated_one_no_more_than_t_times_dense() -> None:
    spec, shape = tiny_velocity(), (16, 16, 16)
    for bias, rate in ((-1e3, 0.0), (1e6, 1.0)):
        network = random_spiking(spec)
        with torch.no_grad():
            for layer in spec.spiking_layers:
                network.biases[layer.name.replace(".", "_")].fill_(bias)
            recorder = ActivityRecorder(spec, shape)
            network(image(shape), recorder=recorder)
        assert recorder.mean_rate == rate
        assert recorder.mac_weighted_rate <= rate
        assert all(e.silent_percent == 100 * (1 - rate) for e in recorder.layers if e.neurons)
        # Interior taps are counted everywhere in the dense cost; spikes at the border reach fewer outputs.
        assert recorder.mac_weighted_rate >= 0.5 * rate


def test_the_training_count_agrees_with_the_table_and_has_a_gradient() -> None:
    spec, shape = tiny_velocity(), (16, 16, 16)
    network = random_spiking(spec)
    network.mode = "surrogate"
    table, count = ActivityRecorder(spec, shape), OperationCount(spec, shape)

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        table(layer, [x.detach() for x in inputs], output.detach())
        count(layer, inputs, output)

    network(image(shape), recorder=record)
    share = count.share_of_dense()
    expected = sum(e.synaptic_ops for e in table.layers) / sum(e.dense_macs for e in table.layers)
    assert float(share.detach()) == pytest.approx(expected, rel=1e-6)
    share.backward()
    # Only the head listens to the last layer: a higher threshold there saves operations, a higher bias costs some.
    last = spec.spiking_layers[-1].name.replace(".", "_")
    threshold, bias = network.log_thresholds[last].grad, network.biases[last].grad
    assert threshold is not None and float(threshold.sum()) < 0
    assert bias is not None and float(bias.sum()) > 0


def test_a_batch_is_refused() -> None:
    spec = tiny_velocity()
    recorder = ActivityRecorder(spec, (16, 16, 16))
    with torch.no_grad(), pytest.raises(ValueError, match="one pair at a time, got a batch of 2"):
        random_spiking(spec)(torch.rand(2, 2, 16, 16, 16), recorder=recorder)


def test_what_matters_less_costs_less() -> None:
    """With an importance of each voxel, its spikes cost so much: of both inputs, wherever they are up-sampled from."""
    layer = Layer("a", ("x", "y"), 5, 4, upsample=(2, 1))
    coarse, fine = (torch.randint(0, 5, (1, n, *shape)).float() for n, shape in ((2, (3, 4, 5)), (3, (6, 8, 10))))
    inputs = [functional.interpolate(coarse, scale_factor=2, mode="nearest"), fine]
    whole = synaptic_operations(layer, inputs)
    assert float(synaptic_operations(layer, inputs, importance=torch.full((6, 8, 10), 0.25))) == 0.25 * float(whole)
    near = torch.zeros(6, 8, 10)
    near[2:4, 4:6, 6:8] = 3.0
    silent = [torch.where(near > 0, value, torch.zeros(())) for value in inputs]
    assert float(synaptic_operations(layer, inputs, importance=near)) == 3 * float(synaptic_operations(layer, silent))
