"""YAML of settings: what is read is what YAML 1.2 says, and all else is refused with its line."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from SpikeRegLib import load_config
from SpikeRegLib.errors import InputError
from SpikeRegLib.text.yaml_text import YamlError, read_yaml_text
from SpikeRegLib.training.config import RECIPES

TEXT = """\
---
# a recipe
network: velocity-2mm   # the spec
seed: 3
note: don't split # here
"quoted # key": "a \\"b\\" # c"
single: 'it''s: fine'
teacher:
  steps: 10
  learning_rate: 1e-4
  deep:
      weights: {dice: 0.0, window: 5, names: [a, "b, c", []]}
list:
- a
- b: 1
  c: [1, -2.5, .5, 1., 2E3]
-
  - 1
  - - true
    - false
empty:
none: [null, ~]
"""
VALUE = {
    "network": "velocity-2mm",
    "seed": 3,
    "note": "don't split",
    "quoted # key": 'a "b" # c',
    "single": "it's: fine",
    "teacher": {
        "steps": 10,
        "learning_rate": 1e-4,
        "deep": {"weights": {"dice": 0.0, "window": 5, "names": ["a", "b, c", []]}},
    },
    "list": ["a", {"b": 1, "c": [1, -2.5, 0.5, 1.0, 2e3]}, [1, [True, False]]],
    "empty": None,
    "none": [None, None],
}


def test_settings_are_read_as_yaml_says():
    assert read_yaml_text(TEXT) == VALUE
    types = [type(v) for v in read_yaml_text("a: [1, 1.0, 1e0, '1', true]")["a"]]
    assert types == [int, float, float, str, bool]
    assert read_yaml_text("") == {} == read_yaml_text("# nothing\n")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="ascii"), max_size=8)
        | st.floats(-1e6, 1e6).filter(lambda x: x == float(f"{x:.6f}")),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)  # fmt: skip
def test_json_is_yaml(value):
    """Flow style with quoted texts, as json.dumps writes it."""
    assert read_yaml_text("a: " + json.dumps(value)) == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: yes", "line 1: 'yes'"),
        ("a: Off", "line 1: 'Off'"),
        ("a: 012", "line 1: '012'"),
        ("a: 1_000", "line 1: '1_000'"),
        ("a: 12:30", "line 1: '12:30'"),
        ("a: .inf", "line 1: '.inf'"),
        ("a: TRUE", "line 1: 'TRUE'"),
        ("a: 0x1F", "line 1: '0x1F'"),
        ("a: 1\nb: &x 1", "line 2: '&x 1'"),
        ("a: *x", "line 1: '\\*x'"),
        ("a: !!python/object:os.system x", "line 1: '!!python"),
        ("a: |\n  text", "line 1: '|'"),
        ("a: text\n  goes on", "line 2: its indentation"),
        ("a: 1\n  b: 2", "line 2: its indentation"),
        ("  a: 1\nb: 2", "line 2: its indentation"),
        ("a: 1\n\na: 2", "line 3: a comes twice"),
        ("a: {b: 1, b: 2}", "line 1: needs {key: value} with every key once"),
        ("a:\n\tb: 1", "line 2: a tab"),
        ("a: [1, 2", "line 1: a comma or ] is missing"),
        ("a: [1, 2] 3", "line 1: '3' is left over"),
        ("a: b: c", "line 1: 'b: c' holds a colon"),
        ("a: 'x", "line 1: the text in quotes"),
        ('a: "\\x"', "line 1: unknown escape"),
        ("- 1\nb: 2", "line 2: its indentation fits nothing"),
        ("a: 1\n---\nb: 2", "line 2: only one document"),
        ("%YAML 1.1\n---\na: 1", "line 1: only one document"),
        ("a: " + "[" * 500, "line 1: nested more than 32 deep"),
        ("- " * 500 + "1", "line 1: nested more than 32 deep"),
    ],
)
def test_what_two_readers_take_differently_is_refused_with_its_line(text, message):
    with pytest.raises(YamlError, match=message.replace("[", "\\[").replace("|", "\\|").replace("{", "\\{")):
        read_yaml_text(text)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_an_error_of_its_line(text):
    try:
        read_yaml_text(text)
    except YamlError as error:
        assert str(error).startswith("line ")


def test_a_recipe_is_the_same_in_toml_yaml_and_as_a_table(tmp_path):
    for recipe in sorted(RECIPES.glob("*.toml")):
        config = load_config(recipe)
        table = dataclasses.asdict(config)
        assert load_config(table) == config == load_config(config)
        file = tmp_path / f"{recipe.stem}.yaml"
        file.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in table.items()), encoding="utf-8")
        assert load_config(file) == config


def test_a_wrong_yaml_recipe_names_file_and_field(tmp_path):
    file = tmp_path / "mine.yml"
    for text, message in (
        ("teacher:\n  steps: many", "field teacher.steps must be int"),
        ("modle: x", "unknown field modle"),
        ("timesteps: 0", "timesteps: must be between 1 and 1024"),
        ("a: yes", "not YAML that settings are read from .line 1"),
        ("- 1", "holds no table of settings"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=f"mine.yml: {message}"):
            load_config(file)
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")
