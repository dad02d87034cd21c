"""`spikereg energy`: the published cost of the paper's network, tables that add up, spikes of a real pair."""

from __future__ import annotations

import json

import pytest

from SpikeRegLib.cli import main
from SpikeRegLib.images import write_volume
from SpikeRegLib.spiking.memory import COLUMNS


def energy(capsys, *arguments) -> dict:
    assert main(["energy", *(str(argument) for argument in arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_papers_network_costs_what_the_paper_says_without_weights(capsys, monkeypatch):
    from SpikeRegLib import models

    monkeypatch.setattr(models, "find", lambda *arguments: pytest.fail("weights were looked for"))
    table = energy(capsys, "--spec", "paper", "--shape", 160, 192, 224)
    assert table["total"]["dense_macs"] == pytest.approx(80.52e9, abs=0.005e9)
    dearest = max(table["layers"], key=lambda layer: layer["dense_macs"])
    assert dearest["dense_macs"] == pytest.approx(47.56e9, abs=0.005e9)
    assert table["total"]["synaptic_ops"] is None


@pytest.mark.parametrize("arguments", [("--spec", "paper"), ("--spec", "velocity-2mm"), ("brain-t1",), ()])
def test_rows_add_up_to_the_total(capsys, arguments):
    table = energy(capsys, *arguments, "--shape", 64, 96, 80)
    for column in ("dense_macs", "analog_macs"):
        assert table["total"][column] == sum(layer[column] for layer in table["layers"])
    assert table["energy"]["dense_twin_macs"] == table["total"]["dense_macs"]
    # The paper's network over the same field of view: its cost per voxel is known at 160x192x224.
    scaled = 80.52e9 * 64 * 96 * 80 / (160 * 192 * 224)
    if arguments == ("--spec", "paper"):
        assert table["total"]["dense_macs"] == pytest.approx(scaled, rel=1e-3)


def test_a_pair_fills_in_the_spikes(known, tmp_path, capsys):
    fixed, moving = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    write_volume(known.fixed, fixed)
    write_volume(known.moving, moving)
    table = energy(capsys, "brain-t1", "--image-pair", fixed, moving, "--threads", 1)
    total, figures = table["total"], table["energy"]
    for column in ("dense_macs", "analog_macs", "synaptic_ops", "neuron_updates", *COLUMNS):
        assert total[column] == sum(layer[column] for layer in table["layers"]) > 0
    assert all(table["memory"][column] == total[column] for column in COLUMNS)
    assert 0 < total["rate"] < 1 and 0 < total["silent_percent"] < 100
    sides = ("--fixed", fixed, "--moving", moving, "--threads", 1)
    dearer = energy(capsys, "brain-t1", *sides, "--ac-pj", 1.8, "--dram-pj", 325)
    assert dearer["layers"] == table["layers"], "the same pair, named otherwise"
    extra = 0.9e-9 * total["synaptic_ops"]
    assert dearer["energy"]["snn_mj"] == pytest.approx(figures["snn_mj"] + extra)
    extra = 162.5e-9 * total["dram_bytes"]
    assert dearer["memory"]["snn_mj"] == pytest.approx(table["memory"]["snn_mj"] + extra)
    millijoule = (figures["mac_pj"] * total["analog_macs"] + figures["ac_pj"] * total["synaptic_ops"]) * 1e-9
    assert figures["snn_mj"] == pytest.approx(millijoule)
    assert figures["reduction_vs_twin"] == pytest.approx(figures["mac_pj"] * total["dense_macs"] * 1e-9 / millijoule)


def test_a_table_for_people_ends_in_the_formula(capsys):
    assert main(["energy", "--spec", "paper", "--shape", "32", "32", "32"]) == 0
    out = capsys.readouterr().out
    assert "total" in out and "not a measurement" in out and "give --image-pair FIXED MOVING" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--spec", "papper"), "papper"),
        (("brain-t1", "--spec", "paper"), "--spec: given together with a model"),
        (("--shape", "8", "32", "32"), "--shape: every axis needs at least 16 voxels"),
        (("--fixed", "a.nii.gz"), "--fixed and --moving: give both images or neither"),
        (("--spec", "paper", "--fixed", "a", "--moving", "b"), "--spec: a spec has no weights"),
        (("liver",), "'liver': not shipped"),
        (("--fixed", "a.nii.gz", "--moving", "b.nii.gz"), "a.nii.gz: no such file"),
    ],
)
def test_what_cannot_be_counted_is_one_line(arguments, message, capsys):
    assert main(["energy", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
