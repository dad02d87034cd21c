"""The part of the report about the spiking network: rates of its layers, rate maps, operations and energy."""

from __future__ import annotations

from html import escape
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from SpikeRegLib.report.charts import rate_bars, round_up
from SpikeRegLib.report.colours import SEQUENTIAL
from SpikeRegLib.report.elements import colour_bar, number, percent, picture, section, table
from SpikeRegLib.report.pictures import grey
from SpikeRegLib.report.planes import Plane, slice_of
from SpikeRegLib.spiking.traffic import COLUMNS, memory_result

if TYPE_CHECKING:
    from SpikeRegLib.images.volumes import Volume


_WHOSE = {"structures": "Of the network that names structures, as it read the fixed image. "}


def spikes_part(result: dict[str, Any], spike_maps: dict[str, Volume], plane: Plane) -> str:
    """Section "Spikes"; empty where no spiking network ran.

    Args:
        result: as in result.json.
        spike_maps: layer -> rate in [0, 1] on its own grid; may be empty.
        plane: the slice on which the maps are shown.
    """
    spikes = result.get("spikes")
    if not spikes:
        return ""
    layers = spikes.get("layers") or []
    firing = [layer for layer in layers if layer.get("neurons", 1)]  # the head has none
    bars = rate_bars([(str(layer["name"]), float(layer["rate"])) for layer in firing])
    rows = [
        (
            str(layer["name"]),
            percent(layer.get("rate"), 2),
            number(layer.get("silent_percent"), "{:.1f} %"),
            number(layer.get("count"), "{:,.0f}"),
            number(layer.get("synaptic_ops"), "{:,.0f}"),
            number(layer.get("neuron_updates"), "{:,.0f}"),
        )
        for layer in layers
    ]
    head = ("Layer", "Rate", "Silent neurons", "Spikes", "Synaptic operations", "Neuron updates")
    mean = f"{percent(spikes.get('mean_rate'))} on average over {spikes.get('timesteps')} time steps"
    if (spikes.get("passes") or 1) > 1:
        mean += f" and {spikes['passes']} passes"
    whose = _WHOSE.get(str(spikes.get("network")), "")
    return section(
        "Spikes",
        "<h3>Mean rate of each layer</h3>",
        bars,
        f"<details><summary>All layers as a table</summary>{table(head, rows)}</details>",
        _maps(spike_maps, plane) if spike_maps else "",
        note=f"{whose}The rate is the share of time steps in which a neuron fires: {mean}.",
    )


def _maps(spike_maps: dict[str, Volume], plane: Plane) -> str:
    rates = {layer: slice_of(volume, plane, nearest=True) for layer, volume in spike_maps.items()}
    highest = round_up(max(float(np.percentile(rate, 99.8)) for rate in rates.values()))
    figures = []
    for layer, volume in spike_maps.items():
        rate = rates[layer]
        drawn = picture(grey(rate / highest), plane, f"spike rate of {layer}", palette=SEQUENTIAL)
        size = "×".join(map(str, volume.frame.size))
        text = f"{escape(layer)}<br>{size}<br>mean {percent(float(volume.data.mean()))}"
        figures.append(f'<figure class="pixels">{drawn}<figcaption>{text}</figcaption></figure>')
    ticks = [(n / 4, f"{100 * highest * n / 4:g} %") for n in range(4)] + [(1.0, f"≥ {100 * highest:g} %")]
    return (
        f"<h3>Rate maps, {plane.name}, each on its own grid, averaged over channels</h3>"
        f'<div class="maps">{"".join(figures)}</div>{colour_bar(SEQUENTIAL, ticks, "mean spike rate")}'
    )


def energy_part(result: dict[str, Any]) -> str:
    """Section "Energy"; empty where it was not estimated. Both baselines, the formula, and that it is a proxy."""
    energy = result.get("energy")
    if not energy:
        return ""
    mac, ac = energy.get("mac_pj"), energy.get("ac_pj")

    def millijoule(macs: Any) -> float | None:
        return macs * mac * 1e-9 if isinstance(macs, (int, float)) and isinstance(mac, (int, float)) else None

    decoders = energy.get("decoder_macs")
    rows = [
        _row(
            "Spiking encoder" if decoders else "Spiking network",
            energy.get("analog_macs"),
            energy.get("synaptic_ops"),
            energy.get("snn_mj"),
            None,
        ),
        _row("Dense twin", energy.get("dense_twin_macs"), 0, energy.get("ann_mj"), energy.get("reduction_vs_twin")),
        _row(
            "Dense network of the paper, scaled to this field of view",
            energy.get("paper_baseline_macs"),
            0,
            millijoule(energy.get("paper_baseline_macs")),
            energy.get("reduction_vs_paper"),
        ),
    ]
    if decoders:
        rows.insert(1, _row("Decoders of the neural field, dense, at most", decoders, 0, millijoule(decoders), None))
    head = ("", "MACs", "Synaptic operations", "Energy (proxy)", "Spiking is lower by")
    updates = f"{number(energy.get('neuron_updates'), '{:,.0f}')} neuron updates"
    layers = (result.get("spikes") or {}).get("layers") or []
    return section(
        "Energy",
        table(head, rows),
        f"<p><code>E = {number(mac, '{:g}')} pJ × MACs + {number(ac, '{:g}')} pJ × synaptic operations</code></p>",
        f"<p>Not in it: {updates}, and memory traffic{_memory(layers, energy)}</p>",
        f"<details><summary>All layers as a table</summary>{_costs(layers)}</details>" if layers else "",
        note="An analytical proxy from counted operations (45 nm, 32-bit float), not a measurement. MACs of the "
        "spiking network are those of layers fed by the analog image; a synaptic operation is one spike arriving at "
        "one connection.",
    )


def _memory(layers: list[dict[str, Any]], energy: dict[str, Any]) -> str:
    """The end of a sentence: what memory traffic is estimated to cost, and what is left with it."""
    if not layers or any(layer.get(column) is None for layer in layers for column in COLUMNS):
        return "."
    memory = memory_result(layers, energy)
    return (
        f" (estimated {number(memory['snn_mj'], '{:.1f}')} mJ against {number(memory['ann_mj'], '{:.1f}')} mJ of the "
        f"dense twin). Operations and memory together, spiking is lower by "
        f"{number(memory['reduction_with_memory'], '{:.1f}×')} if every operation fetches its words on chip, "
        f"{number(memory['reduction_with_reuse'], '{:.1f}×')} if MACs find all of theirs in registers."
    )


def _costs(layers: list[dict[str, Any]]) -> str:
    """Operations in millions and memory traffic in MiB, on and off chip."""
    counts = ("dense_macs", "analog_macs", "synaptic_ops", "neuron_updates")
    rows = []
    for layer in layers:
        traffic = [layer.get(f"{twin}sram_bytes", nan) + layer.get(f"{twin}dram_bytes", nan) for twin in ("", "dense_")]
        figures = [_scaled(layer.get(name), 1e6) for name in counts] + [_scaled(n, 1 << 20) for n in traffic]
        rows.append((str(layer["name"]), *figures))
    head = ("Layer", "Dense MACs", "Analog MACs", "Synaptic operations", "Neuron updates", "Memory", "of dense twin")
    return f'<p class="note">Operations in millions, memory traffic in MiB.</p>{table(head, rows)}'


def _scaled(value: Any, unit: float) -> str:
    return number(value / unit if isinstance(value, (int, float)) else None, "{:,.1f}")


def _row(name: str, macs: Any, operations: Any, energy_mj: Any, reduction: Any) -> tuple[str, str, str, str, str]:
    return (
        name,
        number(macs, "{:,.0f}"),
        number(operations, "{:,.0f}"),
        number(energy_mj, "{:.3f} mJ"),
        number(reduction, "{:.1f}×") if reduction is not None else "",
    )
