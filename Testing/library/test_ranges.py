"""Every number that a person or a file can give has a range, and one outside it is refused by name."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import typing
from pathlib import Path

import pytest

from SpikeRegLib import cli
from SpikeRegLib.commands import COMMANDS
from SpikeRegLib.commands.requests import Understanding
from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.options.numbers import NUMBERS as OPTIONS
from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import (
    Preset,
    load_preset,
    preset_names,
    read_toml,
    settings_from_table,
)
from SpikeRegLib.refinement.schedule import Level
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import Layer, NetworkSpec, velocity_unet
from SpikeRegLib.text.ranges import FIELDS
from SpikeRegLib.training.config import TrainingConfig
from SpikeRegLib.training.structures.recipe import StructureTraining

pytestmark = pytest.mark.usefixtures("signal_handlers_restored")

# What is read from files: presets, recipes, the specs and neurons of model files, the sizes of neural fields.
READ = (Preset, TrainingConfig, StructureTraining, NetworkSpec, NeuronDynamics, FieldSizes)
BEYOND = (1e30, -1e30, math.inf, math.nan, 10**40, -(10**40))


def parts(hint) -> list[type]:
    """The plain types and dataclasses that a type is made of."""
    inner = typing.get_args(hint)
    return [part for kind in inner for part in parts(kind)] if inner else [hint]


def settings_of(*kinds: type) -> list[type]:
    """The dataclasses, with all that their fields hold."""
    found = list(kinds)
    for kind in found:
        for hint in typing.get_type_hints(kind).values():
            found += [part for part in parts(hint) if dataclasses.is_dataclass(part) and part not in found]
    return found


NUMBERS = [
    (kind, name)
    for kind in settings_of(*READ)
    for name, hint in typing.get_type_hints(kind).items()
    if {int, float} & set(parts(hint))
]


def example(kind: type):
    if kind is Preset:
        return load_preset("brain-t1")
    if kind is NetworkSpec:
        return dataclasses.replace(velocity_unet(), leak=(("enc0", 0.9),))
    if kind is Layer:
        return velocity_unet().layers[0]
    if kind is Level:
        return load_preset("brain-t1").refine.levels[0]
    if kind.__name__ == "RefinementSettings":
        return load_preset("brain-t1").refine
    return kind()


def with_number(value, number):
    """A value of the same form whose last number is another."""
    if not isinstance(value, tuple):
        return number
    return (*value[:-1], with_number(value[-1], number))


def test_the_settings_that_are_read_are_found():
    assert {kind.__name__ for kind in settings_of(*READ)} == set(FIELDS)
    assert len(NUMBERS) > 80


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_number_out_of_range_is_refused_by_its_name(kind, name):
    usual = example(kind)
    for number in BEYOND:
        with pytest.raises(ValueError, match=rf"\b{name}: must be .*got") as caught:
            dataclasses.replace(usual, **{name: with_number(getattr(usual, name), number)})
        assert len(str(caught.value)) < 200
    for wrong in ("3", None, True, [4]):
        with pytest.raises((ValueError, TypeError)):
            dataclasses.replace(usual, **{name: with_number(getattr(usual, name), wrong)})
    assert dataclasses.replace(usual) == usual


def test_all_that_ships_is_inside_the_ranges():
    for name in preset_names():
        load_preset(name)
    for path in (Path(cli.__file__).parent / "training" / "recipes").glob("*.toml"):
        settings_from_table(TrainingConfig, read_toml(path), source=path)


def test_sizes_that_are_products_are_refused_before_they_are_built():
    with pytest.raises(ValueError, match="weights of the decoders: must be between 1 and"):
        FieldSizes(width=4096, hidden_layers=64)
    wide = [Layer("a", ("image",), 2, 4096), *(Layer(f"b{n}", ("a",), 4096, 4096, 15) for n in range(2))]
    with pytest.raises(ValueError, match="spec wide, weights: must be between 1 and"):
        NetworkSpec("wide", (*wide, Layer("head", ("b0",), 4096, 3, neuron=False)))
    many = [Layer("a", ("image",), 2, 2), *(Layer(f"b{n}", ("a",), 2, 2) for n in range(1000))]
    with pytest.raises(ValueError, match="spec long, layers: must be between 1 and 1000"):
        NetworkSpec("long", (*many, Layer("head", ("a",), 2, 3, neuron=False)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("passes = " + "1" * 5000, "not a valid TOML file"),
        ("passes = " + "[" * 100_000, "nested too deeply"),
        (b"description = '\xff'", "not a valid TOML file"),
    ],
)
def test_a_preset_that_is_no_toml_is_refused_in_one_line(tmp_path, text, problem):
    path = tmp_path / "p.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=problem) as caught:
        load_preset(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 400


# Options of the commands --------------------------------------------------------------------------------------------


def parsers(command: str) -> list[tuple[list[str], argparse.ArgumentParser]]:
    """The parser of a command and those of its steps, each with the words that lead there."""
    parser = cli._Parser(prog=command)
    __import__(COMMANDS[command].module, fromlist=["add_arguments"]).add_arguments(parser)
    steps = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not steps:
        return [([command], parser)]
    return [([command, name], step) for name, step in steps[0].choices.items()]


TYPED = [
    (words, parser, action)
    for command in COMMANDS
    for words, parser in parsers(command)
    for action in parser._actions
    if action.type is not None and action.type is not Path
]
NUMERIC = [row for row in TYPED if row[2].type.__name__ in ("number", "whole number")]


def test_every_numeric_option_has_a_range():
    assert len(NUMERIC) > 25
    assert {action.type.__name__ for *_, action in TYPED} == {"number", "whole number", "_outputs", "_shard"}
    assert {words[0] for words, *_ in NUMERIC} == {
        "register", "segment", "group", "longitudinal", "series", "demo", "apply", "export", "interpolate", "energy",
        "train", "cohort", "bids", "evaluate", "phantom",
    }  # fmt: skip


@pytest.mark.parametrize(("words", "parser", "action"), NUMERIC, ids=[f"{'-'.join(w)}-{a.dest}" for w, _, a in NUMERIC])
def test_an_option_out_of_range_is_one_line_and_exit_2(words, parser, action, capsys):
    flag, price = action.option_strings[0], action.metavar == "PJ"
    for text in ("1e40", "-1", "nan", "inf", "1" * 5000, "x", "", *(() if price else ("100000000000",))):
        given = [f"{flag}={text}"] if action.nargs is None else [flag, *[text] * action.nargs]
        if text == "-1" and (action.nargs or action.dest == "background"):
            continue  # argparse takes it for an option; or it is a usual intensity
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(given)
        error = capsys.readouterr().err
        assert ended.value.code == 2 and error.count("\n") == 1 and flag in error and "Traceback" not in error


REQUESTED = [
    name
    for name in OPTIONS
    if name
    not in (
        "spacing",
        "shape",
        "picojoules",
        "percentile",
        "steps",
        "path_steps",
        "rounds",
        "frame_number",
        "margin",
        "workers",
        "retries",
    )
]


@pytest.mark.parametrize("name", REQUESTED)
@pytest.mark.parametrize("value", ["1e40", "-1e10", "1e999", "1" * 400, '"100000000000"', "0.5e12"])
def test_a_request_out_of_range_is_refused_by_its_option(name, value):
    line = f'{{"id": "r", "fixed": "f", "moving": "m", "out": "o", "{name}": {value}}}'
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: "):
        Understanding()(json.loads(line))


@pytest.mark.parametrize("name", REQUESTED)
@pytest.mark.parametrize("value", [10**40, -(10**10), math.nan, math.inf, "3", True])
def test_register_refuses_a_number_out_of_range_before_it_reads_anything(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: must be"):
        register("absent.nii.gz", "absent.nii.gz", **{name: value})
