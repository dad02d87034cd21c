"""`spikereg energy`: the published cost of the paper's network, tables that add up, spikes of a real pair."""

from __future__ import annotations

import json

import pytest
import torch

from SpikeRegLib.cli import main
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.pipeline.inputs import load_side, working_frame
from SpikeRegLib.presets.preset import PRESET_FOLDER
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.spiking.traffic import COLUMNS


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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def small_pair(tmp_path_factory):
    """The files of two small images, blobs in empty space."""
    folder = tmp_path_factory.mktemp("blobs")
    for seed, name in enumerate(("fixed", "moving")):
        noise = gaussian(torch.rand(1, 32, 36, 40, generator=torch.Generator().manual_seed(seed)), 2.0)[0]
        blobs = Volume((noise - noise.mean()).clamp_min(0), Frame((32, 36, 40), spacing=(2.0, 2.0, 2.0)))
        write_volume(blobs, folder / f"{name}.nii.gz")
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


@pytest.mark.slow
def test_the_default_is_the_model_of_that_name_with_images_and_without(small_pair, capsys):
    pair = ("--image-pair", *small_pair, "--threads", 1)
    assert energy(capsys, *pair) == energy(capsys, "brain-t1", *pair)
    assert energy(capsys) == energy(capsys, "brain-t1")


@pytest.mark.parametrize(("similarity", "readings"), [("lncc", 1), ("multicontrast", 2)])
def test_a_preset_is_priced_as_it_runs_with_images_and_without(similarity, readings, small_pair, tmp_path, capsys):
    preset = tmp_path / "both.toml"
    text = (PRESET_FOLDER / "brain-t1.toml").read_text(encoding="utf-8")
    preset.write_text(text.replace('similarity = "lncc"', f'similarity = "{similarity}"'), encoding="utf-8")
    measured = energy(capsys, "--preset", preset, "--image-pair", *small_pair, "--threads", 1)
    names = [layer["name"] for layer in measured["layers"]]
    assert "enc0.down" in names and "fine.enc0.down" in names
    working = Grid(working_frame(load_side(small_pair[0]), 1.0).shape, 1.0)
    dense = energy(capsys, "--preset", preset, "--shape", *working.shape)
    assert [layer["name"] for layer in dense["layers"]] == names
    for known, run in zip(dense["layers"], measured["layers"], strict=True):
        assert known["dense_macs"] == run["dense_macs"], run["name"]
        assert known["analog_macs"] == run["analog_macs"], run["name"]
    for figure in ("dense_twin_macs", "paper_baseline_macs", "analog_macs"):
        assert dense["energy"][figure] == measured["energy"][figure], figure
    plain = energy(capsys, "brain-t1", "--shape", *working.coarser(2.0).shape)["energy"]["dense_twin_macs"]
    fine = energy(capsys, "brain-t1-fine", "--shape", *working.shape)["energy"]["dense_twin_macs"]
    assert dense["energy"]["dense_twin_macs"] == readings * (plain + fine)


def test_the_encoder_of_a_spiking_neural_field_is_counted_on_a_pair(small_pair, capsys):
    measured = energy(capsys, "spiking-nephi-brain-t1", "--image-pair", *small_pair, "--threads", 1)
    grid = Grid(working_frame(load_side(small_pair[0]), 1.0).shape, 1.0).coarser(2.0)
    dense = energy(capsys, "spiking-nephi-brain-t1", "--shape", *grid.shape)
    assert [layer["name"] for layer in measured["layers"]] == [layer["name"] for layer in dense["layers"]]
    assert measured["energy"]["dense_twin_macs"] == dense["energy"]["dense_twin_macs"]
    assert measured["total"]["synaptic_ops"] > 0


def test_a_table_for_people_ends_in_the_formula(capsys):
    assert main(["energy", "--spec", "paper", "--shape", "32", "32", "32"]) == 0
    out = capsys.readouterr().out
    assert "total" in out and "not a measurement" in out and "give --image-pair FIXED MOVING" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--spec", "papper"), "papper"),
        (("brain-t1", "--spec", "paper"), "--spec: given together with a model"),
        (("brain-t1", "--preset", "brain-t1"), "--preset: given together with a model"),
        (("--preset", "brain-t1", "--spec", "paper"), "--preset: given together with --spec"),
        (("--preset", "any-anatomy"), "--preset: any-anatomy has no network"),
        (("--preset", "liver"), "preset 'liver': unknown"),
        (("--threads", "1"), "--threads: nothing runs without an image pair"),
        (("brain-t1-teacher", "--fixed", "a", "--moving", "b"), "brain-t1-teacher: a dense network fires no spikes"),
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
