"""Bytes that one inference moves, estimated from the counts of the energy proxy and printed beside it, never inside it.

Two levels. On chip (SRAM), nothing is reused between operations, on either side: a multiply-accumulate reads a weight
and an activation (its sum stays in a register), a synaptic operation reads a weight and reads and writes the drive of
its target, a neuron update reads the drive and reads and writes the membrane. Off chip (DRAM), every layer reads its
parameters once, reads what feeds it and writes what it makes: 32-bit words on the dense side, one 32-bit address for
each spike on the spiking side (drive and membrane of the layer at work stay on chip).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from SpikeRegLib.spiking.spec import Layer, NetworkSpec

WORD_BYTES = 4
EVENT_BYTES = 4
# Horowitz (2014), 45 nm, a 64-bit access: 20 pJ in a 32 KB SRAM, 1.3 to 2.6 nJ in DRAM; the lower end is taken.
SRAM_PJ_PER_BYTE = 20 / 8
DRAM_PJ_PER_BYTE = 1300 / 8
COLUMNS = ("sram_bytes", "dram_bytes", "dense_sram_bytes", "dense_dram_bytes")


def parameters(layer: Layer) -> int:
    """Weights, biases and, for a spiking layer, thresholds folded into them: what one inference has to read."""
    return layer.in_channels * layer.out_channels * layer.kernel**3 + layer.out_channels


def dense_bytes(layer: Layer, spec: NetworkSpec, shape: tuple[int, int, int], macs: int) -> tuple[int, int]:
    """(SRAM, DRAM) bytes of a layer of the dense twin for an image of `shape`. Up-sampling happens while reading."""
    shapes = spec.shapes(shape)
    channels = spec.channels
    values = sum(channels[name] * math.prod(shapes[name]) for name in layer.inputs)
    values += layer.out_channels * math.prod(shapes[layer.name])
    return 2 * WORD_BYTES * macs, WORD_BYTES * (parameters(layer) + values)


def spiking_bytes(
    layer: Layer, *, analog_macs: int, synaptic_ops: int, neuron_updates: int, events: int, words: int
) -> tuple[int, int]:
    """(SRAM, DRAM) bytes of a layer of the spiking network.

    Args:
        layer: of the spec.
        analog_macs, synaptic_ops, neuron_updates: as in `LayerActivity`.
        events: spikes read from the layers that feed it, and written by it.
        words: analog values read (the image) and written (the head's field).
    """
    on_chip = WORD_BYTES * (2 * analog_macs + 3 * synaptic_ops + 3 * neuron_updates)
    return on_chip, WORD_BYTES * (parameters(layer) + words) + EVENT_BYTES * events


def memory_result(
    layers: Sequence[Mapping[str, Any]],
    energy: Mapping[str, Any],
    *,
    sram_pj: float = SRAM_PJ_PER_BYTE,
    dram_pj: float = DRAM_PJ_PER_BYTE,
) -> dict[str, Any]:
    """Sums over the layers, their energy by the constants, and what remains of the reduction once memory is counted.

    Args:
        layers: rows with `COLUMNS` and `analog_macs`.
        energy: `EnergyTable.as_result` of the same inference.
        sram_pj, dram_pj: per byte.

    Returns:
        The sums of `COLUMNS`; `snn_mj` and `ann_mj`, memory alone; and the reduction against the dense twin that is
        left of operations and memory together: `reduction_with_memory`, and `reduction_with_reuse` if
        multiply-accumulates found all their words in registers, so that their on-chip reads cost nothing (the truth
        lies between).
    """
    sums = {c: None if any(row.get(c) is None for row in layers) else sum(row[c] for row in layers) for c in COLUMNS}
    sram, dram, dense_sram, dense_dram = (sums[column] for column in COLUMNS)

    def millijoule(on_chip: float | None, off_chip: float | None) -> float | None:
        return None if on_chip is None or off_chip is None else (sram_pj * on_chip + dram_pj * off_chip) * 1e-9

    snn, ann = millijoule(sram, dram), millijoule(dense_sram, dense_dram)
    reduction = with_reuse = None
    if snn is not None and ann is not None and energy.get("snn_mj"):
        spiking, dense = energy["snn_mj"] + snn, energy["ann_mj"] + ann
        reduction = dense / spiking
        analog = 2 * WORD_BYTES * sum(row["analog_macs"] for row in layers)
        with_reuse = (dense - sram_pj * 1e-9 * (dense_sram or 0)) / (spiking - sram_pj * 1e-9 * analog)
    return {
        "sram_pj_per_byte": sram_pj,
        "dram_pj_per_byte": dram_pj,
        **sums,
        "snn_mj": snn,
        "ann_mj": ann,
        "reduction_with_memory": reduction,
        "reduction_with_reuse": with_reuse,
    }
