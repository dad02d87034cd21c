"""Options are written once: command, worker, keywords and docstring of `register` follow from it."""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys

import pytest

from SpikeRegLib import register
from SpikeRegLib.commands import register as command
from SpikeRegLib.commands.requests import Understanding
from SpikeRegLib.errors import InputError
from SpikeRegLib.options.options import GROUPS, OPTIONS, Options

OWN_OF_COMMAND = {"fixed", "moving", "out", "progress", "help"}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    command.add_arguments(made)
    return made


def test_a_name_belongs_to_one_option():
    names = [name for kind in GROUPS.values() for name in kind.__dataclass_fields__]
    assert len(names) == len(set(names)) == len(OPTIONS) > 25
    keys = [option.key for option in OPTIONS.values()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_every_option_says_what_it_is(option):
    assert len(option.help) > 10 and not option.help.endswith(".")
    if option.kind == "number":
        low, high = option.limits
        assert option.default is None or low <= option.default <= high
        assert f"{low:g} to {high:g}" in option.sentence
    else:
        assert option.limits is None
    if option.choices:
        assert option.default is None or option.default in option.choices


def test_register_takes_every_option_with_its_default():
    parameters = inspect.signature(register).parameters
    assert set(parameters) == {"fixed", "moving", "listener", "memory", *OPTIONS}
    for name, option in OPTIONS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == option.default
    with pytest.raises(TypeError, match="unexpected keyword argument 'regularization'"):
        register("absent.nii.gz", "absent.nii.gz", regularization=2.0)


def test_the_docstring_describes_every_option():
    text = " ".join((register.__doc__ or "").split())
    assert "{options}" not in text
    for option in OPTIONS.values():
        assert f"{option.name}: {option.sentence}." in text
    assert max(map(len, (register.__doc__ or "").splitlines())) <= 120


def test_the_command_takes_every_option_with_its_default():
    actions = {action.dest: action for action in parser()._actions}
    assert set(actions) == OWN_OF_COMMAND | {option.key for option in OPTIONS.values()}
    for option in OPTIONS.values():
        action = actions[option.key]
        assert action.option_strings == [option.command_name]
        assert action.default == option.default
        assert option.help in (action.help or "")


def test_a_request_takes_every_option():
    table = {"id": "r", "fixed": "f", "moving": "m", "out": "o"}
    samples = {"switch": True, "file": "file.nii.gz", "word": "x"}
    for option in OPTIONS.values():
        value = option.choices[-1] if option.choices else samples.get(option.kind, 1)
        asked = Understanding()({**table, option.key: value})
        found = getattr(asked.options, option.key)
        assert found == value if option.kind == "number" else str(found) == str(value)


def test_what_is_parsed_reaches_register_under_its_name(monkeypatch, tmp_path):
    """Every option another value than its default: none is lost or swapped on the way."""
    import SpikeRegLib.pipeline

    given = {}
    # The largest number of threads would be that of every test that follows.
    monkeypatch.setattr("SpikeRegLib.system.devices.set_threads", lambda threads: threads)
    monkeypatch.setattr(SpikeRegLib.pipeline, "register", lambda *_, **how: given.update(how), raising=False)
    words, wanted = [], {}
    for option in OPTIONS.values():
        if option.kind == "switch":
            words, wanted[option.name] = [*words, option.command_name], True
            continue
        value = option.choices[-1] if option.choices else "fast-preview" if option.name == "preset" else option.name
        if option.kind == "number":
            value = option.limits[1] if isinstance(option.limits[1], int) else option.limits[1] / 2
        words, wanted[option.name] = [*words, f"{option.command_name}={value}"], value
    command.registered(parser().parse_args(["f", "m", f"--out={tmp_path / 'o'}", *words]))
    assert {name: str(value) for name, value in given.items()} == {name: str(v) for name, v in wanted.items()}


def test_options_are_found_by_name_and_cannot_be_changed():
    options = Options.of(seed=7, regularisation=2.0)
    assert (options["seed"], options["regularisation"], options["threads"]) == (7, 2.0, None)
    assert options.execution.seed == 7
    with pytest.raises(AttributeError):
        options.execution.seed = 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "magic"}, "--method magic: unknown; choose one of spikereg"),
        ({"align": True}, "--align: goes on from a given transform"),
        ({"landmark_weight": 1.0, "fixed_points": "a.csv"}, "--landmark-weight: needs landmarks"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(given, message):
    with pytest.raises(InputError) as caught:
        Options.of(**given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_options_are_known_without_torch():
    code = "import sys, SpikeRegLib.options.options, SpikeRegLib.commands.register; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
