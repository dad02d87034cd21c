"""A name is a name: what becomes part of a path is never one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import PRESET_FOLDER, load_preset, parse_preset, preset_names
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.text.names import is_name

PATHS = [
    "",
    ".",
    "..",
    "../evil",
    "a/b",
    "a\\b",
    "C:x",
    "/etc/passwd",
    ".hidden",
    "a\x00",
    "a\nb",
    "e" * 101,
    " a",
    "a.",
]


@pytest.mark.parametrize("text", PATHS)
def test_a_path_is_no_name_of_a_preset_or_a_layer(text):
    assert not is_name(text)
    with pytest.raises(InputError, match="name"):
        parse_preset((PRESET_FOLDER / "any-anatomy.toml").read_text(), text)
    spec = velocity_unet()
    first = replace(spec.layers[0], name=text)
    with pytest.raises(ValueError, match="must have a plain name"):
        replace(spec, layers=(first, *spec.layers[1:]))


def test_names_in_use_are_names():
    assert all(map(is_name, [*preset_names(), "My preset, über 2 (b)", "enc0.down", "dec2.conv2"]))


def test_the_text_of_a_preset_is_the_preset_and_a_name_in_it_counts(tmp_path):
    for name in preset_names():
        text = (PRESET_FOLDER / f"{name}.toml").read_text()
        assert parse_preset(text, name) == load_preset(name)
        assert parse_preset(f'name = "other"\n{text}', name).name == "other"


@pytest.mark.parametrize(("text", "words"), [("method = 3", "missing"), ("not toml", "not a valid TOML file")])
def test_a_text_that_is_no_preset_is_named(text, words):
    with pytest.raises(InputError, match=f"preset 'mine': .*{words}"):
        parse_preset(text, "mine")
