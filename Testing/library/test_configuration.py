"""Presets and TOML settings: what ships is valid, and every mistake is answered with the file and the field."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import Preset, load_preset, preset_for, preset_names, settings_from_table

VALID = """
description = "mine"
method = "optimize"
model = ""
working_spacing_mm = 2
similarity = "lncc"
passes = 0


[refine]
window = 7
levels = [
    { spacing_mm = 4, field_mm = 4, iterations = 10, velocity_sigma_mm = 6, field_sigma_mm = 2 },
    { spacing_mm = 2.5, field_mm = 5, iterations = 5, velocity_sigma_mm = 3, field_sigma_mm = 1, step = 0.25 },
]
"""


def own_preset(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


NAMES = ["any-anatomy", "brain", "brain-multicontrast", "brain-t1", "brain-t1-sparse", "fast-preview"]
NAMES += ["nephi", "nephi-any-anatomy", "nephi-fast", "spiking-nephi"]


def test_the_presets_ship_and_are_valid():
    assert preset_names() == NAMES
    for name in preset_names():
        assert load_preset(name).name == name


def test_the_preset_for_two_t1_brains_uses_the_spiking_network():
    assert load_preset("brain-t1").method == "spikereg"


def test_presets_without_a_network_name_no_model():
    preset = load_preset("any-anatomy")
    assert (preset.method, preset.model, preset.passes) == ("optimize", "", 0)
    assert sum(level.iterations for level in preset.refine.levels) > 0


def test_two_contrasts_are_read_by_the_network_of_one_and_start_from_its_large_displacements():
    preset, of_one = load_preset("brain-multicontrast"), load_preset("brain-t1")
    assert (preset.method, preset.model, preset.similarity) == ("spikereg", of_one.model, "multicontrast")
    assert preset.refine.start_sigma_mm > of_one.refine.start_sigma_mm and not preset.fine_model


def test_own_file_is_read_with_integers_taken_as_mm(tmp_path):
    preset = load_preset(own_preset(tmp_path, VALID))
    assert preset.name == "mine"
    assert preset.working_spacing_mm == 2.0 and isinstance(preset.working_spacing_mm, float)
    assert [(level.spacing_mm, level.iterations) for level in preset.refine.levels] == [(4.0, 10), (2.5, 5)]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("passes = 0", "passes = 0\npases = 3", "pases"),
        ('similarity = "lncc"', "", "similarity"),
        ('similarity = "lncc"', 'similarity = "ssd"', "similarity"),
        ("working_spacing_mm = 2", "working_spacing_mm = 0", "working_spacing_mm"),
        ("working_spacing_mm = 2", "working_spacing_mm = nan", "working_spacing_mm"),
        ("working_spacing_mm = 2", 'working_spacing_mm = "2 mm"', "working_spacing_mm"),
        ("passes = 0", "passes = true", "passes"),
        ("passes = 0", "passes = 1.5", "passes"),
        ('method = "optimize"', 'method = "spikereg"', "model"),
        ("iterations = 10", "iterations = -1", "refine.levels[0].iterations"),
        ("iterations = 5", "iterations = 5, window = 3", "refine.levels[1].window"),
        ("spacing_mm = 4", "spacing_mm = 1", "refine.levels"),
        ("field_mm = 4", "field_mm = 3", "refine.levels[0].field_mm"),
        ("window = 7", "window = 6", "refine.window"),
        ("[refine]", "[refinement]", "refinement"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, before, after, named):
    path = own_preset(tmp_path, VALID.replace(before, after, 1))
    with pytest.raises(InputError) as caught:
        load_preset(path)
    message = str(caught.value)
    assert "mine.toml" in message and named in message and "\n" not in message


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match=f"brain-t2.*{', '.join(NAMES)}"):
        load_preset("brain-t2")


def test_missing_and_broken_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read"):
        load_preset(tmp_path / "absent.toml")
    with pytest.raises(InputError, match=r"mine\.toml: not a valid TOML file"):
        load_preset(own_preset(tmp_path, "passes = = 2"))


def test_a_table_round_trips_through_the_dataclass():
    preset = load_preset("any-anatomy")
    table = dataclasses.asdict(preset)
    table["refine"]["levels"] = list(table["refine"]["levels"])
    assert settings_from_table(Preset, table, source="memory") == preset


def test_schedule_hands_every_number_on(tmp_path):
    schedule = load_preset(own_preset(tmp_path, VALID)).schedule()
    assert schedule.window == 7 and schedule.momentum == 0.5
    coarse, fine = schedule.levels
    assert (coarse.spacing_mm, coarse.field_mm, coarse.iterations, coarse.step) == (4.0, 4.0, 10, 0.5)
    assert (coarse.velocity_sigma_mm, coarse.field_sigma_mm) == (6.0, 2.0)
    assert (fine.spacing_mm, fine.field_mm, fine.iterations, fine.step) == (2.5, 5.0, 5, 0.25)


def test_iterations_replace_those_of_every_level_and_zero_leaves_refinement_out():
    preset = load_preset("any-anatomy")
    assert [level.iterations for level in preset.schedule(7).levels] == [7, 7, 7]
    assert preset.schedule(0) is None


def test_a_preset_without_refinement_says_so_when_asked_for_iterations():
    preset = load_preset("fast-preview")
    assert preset.schedule() is None and preset.schedule(0) is None
    with pytest.raises(InputError, match="fast-preview has no refinement"):
        preset.schedule(5)


@pytest.mark.parametrize(
    ("method", "of_the_network", "expected"),
    [
        (None, {}, "brain"),
        (None, {"model": "mine.safetensors"}, "brain-t1"),
        (None, {"timesteps": 2}, "brain-t1"),
        (None, {"tile": 64}, "brain-t1"),
        ("spikereg", {}, "brain-t1"),
        ("ann", {}, "brain-t1"),
        ("optimize", {}, "any-anatomy"),
        ("nephi", {}, "nephi"),
        ("nephi", {"model": "mine.safetensors"}, "nephi"),
        ("spiking-nephi", {"timesteps": 2}, "spiking-nephi"),
    ],
)
def test_a_run_that_names_no_preset_gets_the_one_that_suits_what_is_asked(method, of_the_network, expected):
    assert preset_for(method, **of_the_network) == expected
    networks = {"spikereg", "ann"}  # twins: one preset
    assert method is None or load_preset(expected).method == method or method in networks


def test_one_preset_says_that_it_is_the_default():
    said = [name for name in preset_names() if "default" in load_preset(name).description.lower()]
    assert said == [preset_for(None)]
