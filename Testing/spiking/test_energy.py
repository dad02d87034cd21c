"""The energy proxy follows from the operations printed beside it."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from SpikeRegLib.commands import energy as energy_command
from SpikeRegLib.spiking.activity import dense_macs
from SpikeRegLib.spiking.energy import AC_PJ, MAC_PJ, EnergyTable, dense_table, paper_baseline_macs, published_reduction
from SpikeRegLib.spiking.spec import paper_unet, velocity_unet
from SpikeRegLib.spiking.traffic import DRAM_PJ_PER_BYTE, SRAM_PJ_PER_BYTE


def test_numbers_follow_from_the_table() -> None:
    table = EnergyTable(
        dense_twin_macs=4_000_000_000,
        paper_baseline_macs=60_000_000_000,
        analog_macs=500_000_000,
        synaptic_ops=1_200_000_000,
        neuron_updates=7,
    )
    entry = table.as_result()
    assert (entry["mac_pj"], entry["ac_pj"]) == (4.6, 0.9)
    assert entry["ann_mj"] == pytest.approx(18.4)  # 4e9 x 4.6 pJ
    assert entry["snn_mj"] == pytest.approx(2.3 + 1.08)
    assert entry["reduction_vs_twin"] == pytest.approx(18.4 / 3.38)
    assert entry["reduction_vs_paper"] == pytest.approx(276 / 3.38)
    assert {key: entry[key] for key in ("dense_twin_macs", "synaptic_ops", "neuron_updates")} == {
        "dense_twin_macs": 4_000_000_000,
        "synaptic_ops": 1_200_000_000,
        "neuron_updates": 7,
    }


def test_without_spikes_there_is_no_spiking_energy() -> None:
    entry = dense_table(velocity_unet(), (80, 96, 80)).as_result()
    for name in ("synaptic_ops", "neuron_updates", "snn_mj", "reduction_vs_twin", "reduction_vs_paper"):
        assert entry[name] is None
    assert entry["ann_mj"] > 0


def test_the_papers_numbers_do_not_follow_from_its_formula() -> None:
    """55.5x needs a MAC-weighted rate of 2.3 % at T = 4; the published 12.8 % gives 10x (AC = T rate MAC)."""
    macs = sum(dense_macs(paper_unet(), (160, 192, 224)).values())
    table = EnergyTable(macs, macs, 0, round(4 * 0.128 * macs), None)
    reduction = table.as_result()["reduction_vs_twin"]
    assert reduction == pytest.approx(published_reduction(0.128))
    needed = 4.6 / (0.9 * 4 * 55.5)
    published = replace(table, synaptic_ops=round(4 * needed * macs))
    assert published.as_result()["reduction_vs_twin"] == pytest.approx(55.5)
    text = (Path(__file__).parents[2] / "Docs" / "energy.md").read_text(encoding="utf-8")
    assert f"4.6 / (0.9 x 4 x 0.128) = {reduction:.2f}\n" in text and f"12.8 % gives {reduction:.2f}x" in text
    assert f"4.6 / (0.9 x 4 x 55.5) = {100 * needed:.2f} %" in text
    assert f"{macs / 1e9:.2f} G MACs" in text and f"`e_MAC = {MAC_PJ} pJ`, `e_AC = {AC_PJ} pJ`" in text
    assert f"{SRAM_PJ_PER_BYTE} pJ per byte on chip" in text and f"{DRAM_PJ_PER_BYTE} pJ off chip" in text


def test_baselines_and_analog_layers() -> None:
    spec, shape = velocity_unet(), (80, 96, 80)
    table, macs = dense_table(spec, shape), dense_macs(spec, shape)
    assert table.dense_twin_macs == sum(macs.values())
    assert table.analog_macs == macs["enc0.down"]
    assert table.paper_baseline_macs == paper_baseline_macs(shape, 2.0)


def test_the_smoothing_of_the_papers_network_is_analog_work() -> None:
    shape = (160, 192, 224)
    table, macs = dense_table(paper_unet(), shape), dense_macs(paper_unet(), shape)
    smoothing = 81 * math.prod(shape)
    assert f"{smoothing / 1e9:.2f}" == "0.56"
    assert table.dense_twin_macs == sum(macs.values())  # by the paper's convention
    assert table.analog_macs == macs["enc0.down"] + smoothing


def test_the_papers_baseline_scales_with_the_field_of_view() -> None:
    reference = paper_baseline_macs((160, 192, 224), 1.0)
    assert reference == 80_524_738_560
    assert paper_baseline_macs((80, 96, 112), 2.0) == reference  # the same head at 2 mm
    assert paper_baseline_macs((80, 96, 112), 1.0) == pytest.approx(reference / 8)


@pytest.mark.parametrize("spec", ["paper", "velocity-2mm"])
def test_the_printed_table_adds_up_to_the_energy(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    energy_command.add_arguments(parser)
    assert energy_command.run(parser.parse_args(["--spec", spec, "--shape", "32", "48", "16", "--json"])) == 0
    printed = json.loads(capsys.readouterr().out)
    for column, total in (("dense_macs", "dense_twin_macs"), ("analog_macs", "analog_macs")):
        assert sum(row[column] for row in printed["layers"]) == printed["total"][column] == printed["energy"][total]
    assert printed["energy"]["ann_mj"] == pytest.approx(4.6e-9 * printed["total"]["dense_macs"])
