"""`spikereg train nephi`: field, conversion and fine-tuning of its encoder, resume, and recipes that do not fit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from test_train_command import labels, log, train, train_all  # noqa: F401 (fixture)

from SpikeRegLib.models import load_field, read_header
from SpikeRegLib.training import loop

SHORT = "steps = 2\nwarmup = 1\ncheckpoint_every = 1\nlog_every = 1\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "field.toml"
    file.write_text(
        f'network = "field-codes-2mm"\ncalibration_pairs = 1\n[teacher]\n{SHORT}[finetune]\n{SHORT}'
        "[field]\nfrequencies = 4\nwidth = 16\n[field_weights]\ncubes = 2\ncube = 10\nconsistency_points = 20\n",
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def runs(labels, recipe, tmp_path_factory) -> list[Path]:  # noqa: F811 (fixture)
    """The model files of the three steps, each in a folder of its own."""
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1)
    return list(train_all("nephi", "field.safetensors", tmp_path_factory.mktemp("runs"), *common))


def test_each_step_hands_on_a_field(runs):
    headers = [read_header(file) for file in runs]
    assert [header.kind for header in headers] == ["field", "spiking-field", "spiking-field"]
    assert {header.field["width"] for header in headers} == {16}
    field, converted = (load_field(header.path) for header in headers[:2])
    for name, tensor in field.decoders.state_dict().items():
        assert torch.equal(tensor, converted.decoders.state_dict()[name])
    assert headers[2].facts["before"]["step"] == "convert"
    assert {"lncc", "dice", "consistency", "code"} <= set(log(runs[0].parent)[-1])


def test_an_interrupted_training_ends_in_the_same_weights(runs, labels, recipe, tmp_path, monkeypatch):  # noqa: F811
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1, "--out", tmp_path)
    source = runs[0].parent
    saved, kept = loop.save_checkpoint, []

    def save_and_stop(path, *rest):
        saved(path, *rest)
        kept.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        train("nephi", *common, "--no-progress")
    assert kept and not (tmp_path / "field.safetensors").exists()
    assert train("nephi", *common, "--resume", "--no-progress") == 0
    again, whole = (load_field(folder / "field.safetensors").state_dict() for folder in (tmp_path, source))
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_recipes_of_the_other_kind_are_refused(labels, recipe, tmp_path, capsys):  # noqa: F811 (fixture)
    common = ("--labels", labels, "--device", "cpu", "--threads", 1, "--out", tmp_path)
    assert train("teacher", *common, "--recipe", recipe) == 2
    assert "train it with `spikereg train nephi`" in capsys.readouterr().err
    assert train("nephi", *common, "--recipe", "brain-t1") == 2
    assert "train nephi needs an encoder" in capsys.readouterr().err
