"""Presets written as TOML: what is read back is what was written, and what cannot be written is said."""

from __future__ import annotations

import dataclasses

import pytest

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import (
    Preset,
    RefinementSettings,
    load_preset,
    preset_names,
    write_preset,
)
from SpikeRegLib.refinement.schedule import Level

LEVEL = Level(2.5, 7, 5.0, 1 / 3, 1e-5, step=0.25)
OWN = Preset(
    name="mine",
    description='Kopf "schräg" \\ \t\n\x7f 頭 🧠',
    method="spikereg",
    working_spacing_mm=0.1 + 0.2,
    similarity="multicontrast",
    passes=3,
    model="C:\\weights\\brain.safetensors",
    refine=RefinementSettings(
        (LEVEL, dataclasses.replace(LEVEL, spacing_mm=1.0)), window=7, start_sigma_mm=0.0, both_ways=1
    ),
    working_voxels=10**6,
    regularisation=1.75,
    across_contrasts=1.5,
)


@pytest.mark.parametrize("name", preset_names())
def test_a_shipped_preset_survives_writing_and_reading(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    write_preset(load_preset(name), path)
    assert load_preset(path) == load_preset(name)


def test_any_text_and_every_number_survive_to_the_bit(tmp_path):
    write_preset(OWN, tmp_path / "mine.toml")
    assert load_preset(tmp_path / "mine.toml") == OWN


def test_a_written_preset_is_named_after_its_file_and_replaces_the_one_before(tmp_path):
    path = tmp_path / "other.toml"
    for regularisation in (0.5, 2.0):
        write_preset(dataclasses.replace(OWN, regularisation=regularisation), path)
    assert load_preset(path) == dataclasses.replace(OWN, name="other", regularisation=2.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.toml"]


def test_a_preset_carries_its_regularisation_into_every_level():
    plain, stiff = load_preset("any-anatomy"), dataclasses.replace(load_preset("any-anatomy"), regularisation=2.0)
    for soft, hard in zip(plain.schedule().levels, stiff.schedule(regularisation=0.75).levels, strict=True):
        assert hard.velocity_sigma_mm == pytest.approx(1.5 * soft.velocity_sigma_mm)
        assert hard.field_sigma_mm == pytest.approx(1.5 * soft.field_sigma_mm)
        assert (hard.spacing_mm, hard.field_mm, hard.iterations) == (soft.spacing_mm, soft.field_mm, soft.iterations)


@pytest.mark.parametrize("value", [0.1, 5.0])
def test_a_regularisation_out_of_range_is_refused_by_its_name(value):
    with pytest.raises(ValueError, match=r"regularisation: must be between 0\.25 and 4"):
        dataclasses.replace(OWN, regularisation=value)


@pytest.mark.parametrize(("name", "remedy"), [("mine.txt", "end its name with .toml"), ("no/mine.toml", "folder")])
def test_a_place_that_does_not_do_is_named_with_a_remedy(name, remedy, tmp_path):
    with pytest.raises(InputError, match=remedy):
        write_preset(OWN, tmp_path / name)
    assert not list(tmp_path.iterdir())
