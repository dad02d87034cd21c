"""Memory traffic: bytes that follow from the counts, beside the proxy and never inside it."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_velocity

from SpikeRegLib.report.spikes import energy_part
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity
from SpikeRegLib.spiking.energy import EnergyTable, dense_rows
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.spiking.traffic import COLUMNS, memory_result
from SpikeRegLib.spiking.unet import SpikingUNet

SHAPE = (16, 17, 20)
SPEC = tiny_velocity()


def recorded(network: SpikingUNet) -> list[LayerActivity]:
    recorder = ActivityRecorder(SPEC, SHAPE)
    with torch.no_grad():
        network(image(SHAPE), recorder=recorder)
    return recorder.layers


def table(layers: list[LayerActivity]) -> dict[str, float]:
    return EnergyTable(
        dense_twin_macs=sum(x.dense_macs for x in layers),
        paper_baseline_macs=1,
        analog_macs=sum(x.analog_macs for x in layers),
        synaptic_ops=sum(x.synaptic_ops for x in layers),
        neuron_updates=sum(x.neuron_updates for x in layers),
    ).as_result()


def parameter_count(network: SpikingUNet) -> int:
    return sum(p.numel() for p in (*network.weights.values(), *network.biases.values()))


def values_read_and_written(spec: NetworkSpec) -> int:
    """Of the dense twin: every input of every layer on its own grid, and every output."""
    shapes = spec.shapes(SHAPE)
    sizes = {"image": 2 * math.prod(SHAPE)}
    sizes |= {layer.name: layer.out_channels * math.prod(shapes[layer.name]) for layer in spec.layers}
    return sum(sizes[layer.name] + sum(sizes[name] for name in layer.inputs) for layer in spec.layers)


def test_every_operation_has_its_words() -> None:
    network = random_spiking(SPEC)
    layers = recorded(network)
    sums = memory_result([vars(x) for x in layers], table(layers))
    operations = sum(2 * x.analog_macs + 3 * x.synaptic_ops + 3 * x.neuron_updates for x in layers)
    assert sums["sram_bytes"] == 4 * operations
    assert sums["dense_sram_bytes"] == 8 * sum(x.dense_macs for x in layers)
    assert sums["dense_dram_bytes"] == 4 * (parameter_count(network) + values_read_and_written(SPEC))
    fired = {x.name: x.count for x in layers}
    events = sum(fired[layer.name] + sum(fired.get(n, 0) for n in layer.inputs) for layer in SPEC.layers)
    analog = 2 * math.prod(SHAPE) + 3 * math.prod(SPEC.shapes(SHAPE)["head"])
    assert sums["dram_bytes"] == 4 * (parameter_count(network) + analog + events)


def test_a_silent_network_still_reads_its_weights_and_updates_its_membranes() -> None:
    network = random_spiking(SPEC)
    with torch.no_grad():
        for layer in SPEC.spiking_layers:
            network.biases[layer.name.replace(".", "_")].fill_(-1e3)
    layers = recorded(network)
    assert sum(x.count for x in layers) == 0
    for x in layers[1:]:
        assert x.sram_bytes == 12 * x.neuron_updates and x.dram_bytes > 0


def test_what_is_known_without_images_is_what_a_run_records() -> None:
    dense = {row["name"]: row for row in dense_rows(SPEC, SHAPE)}
    for layer in recorded(random_spiking(SPEC)):
        for column in ("dense_macs", "analog_macs", "dense_sram_bytes", "dense_dram_bytes"):
            assert dense[layer.name][column] == getattr(layer, column)
    unknown = memory_result(list(dense.values()), EnergyTable(1, 1, 1, None, None).as_result())
    assert unknown["ann_mj"] > 0
    assert [unknown[n] for n in ("sram_bytes", "dram_bytes", "snn_mj", "reduction_with_memory")] == [None] * 4


def test_prices_are_what_they_are_called_and_never_change_the_bytes() -> None:
    rows = [vars(x) for x in recorded(random_spiking(SPEC))]
    energy = table(recorded(random_spiking(SPEC)))
    cheap = memory_result(rows, energy)
    dear = memory_result(rows, energy, sram_pj=5.0, dram_pj=1000.0)
    assert (cheap["sram_pj_per_byte"], cheap["dram_pj_per_byte"]) == (2.5, 162.5)  # Horowitz: 20 and 1300 pJ / 64 bit
    assert all(cheap[c] == dear[c] for c in COLUMNS)
    assert dear["snn_mj"] == pytest.approx((5 * dear["sram_bytes"] + 1000 * dear["dram_bytes"]) * 1e-9)
    priced = 2.5 * cheap["dense_sram_bytes"] + 162.5 * cheap["dense_dram_bytes"]
    assert cheap["ann_mj"] == pytest.approx(priced * 1e-9)
    both = (energy["ann_mj"] + cheap["ann_mj"]) / (energy["snn_mj"] + cheap["snn_mj"])
    assert cheap["reduction_with_memory"] == pytest.approx(both)


def test_perfect_reuse_spares_multiply_accumulates_their_on_chip_reads_on_both_sides() -> None:
    layers = recorded(random_spiking(SPEC))
    rows, energy = [vars(x) for x in layers], table(layers)
    memory = memory_result(rows, energy)
    dense = energy["ann_mj"] + 162.5e-9 * memory["dense_dram_bytes"]
    words = 3 * sum(x.synaptic_ops + x.neuron_updates for x in layers)
    spiking = energy["snn_mj"] + 2.5e-9 * 4 * words + 162.5e-9 * memory["dram_bytes"]
    assert memory["reduction_with_reuse"] == pytest.approx(dense / spiking)
    assert memory["reduction_with_reuse"] < memory["reduction_with_memory"] < energy["reduction_vs_twin"]


def test_the_report_gives_memory_beside_the_proxy_and_says_so_where_it_is_unknown() -> None:
    layers = recorded(random_spiking(SPEC))
    rows, energy = [vars(x) for x in layers], table(layers)
    memory = memory_result(rows, energy)
    page = energy_part({"energy": energy, "spikes": {"layers": rows}})
    assert f"estimated {memory['snn_mj']:.1f} mJ against {memory['ann_mj']:.1f} mJ of the dense twin" in page
    assert f"lower by {memory['reduction_with_memory']:.1f}×" in page
    assert f"{(layers[0].sram_bytes + layers[0].dram_bytes) / 2**20:,.1f}</td>" in page
    older = [{"name": "enc0.down", "synaptic_ops": 0}]  # a result from before memory was counted
    page = energy_part({"energy": energy, "spikes": {"layers": older}})
    assert "and memory traffic." in page and "not measured" in page
