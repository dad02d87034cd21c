"""`spikereg interpolate`: a path whose ends are the given transforms, and refusals that name both files."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import brains
import numpy as np
import pytest
import torch
from fields import write_model

from SpikeRegLib.cli import main
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import read_image, write_volume
from SpikeRegLib.models import load_field, sha256
from SpikeRegLib.neural_field.coded import CodedDeformation, ModelIdentity, rounded
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.files import write_codes
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, Transform, read_transform, warp_image

FRAME = Frame((30, 32, 28), (-50.0, -60.0, -40.0), (4.0, 4.0, 4.0))


def coded(file: Path, *, seed: int, **changes) -> CodedDeformation:
    """Random codes for a model."""
    random = torch.Generator().manual_seed(seed)
    network, grid = load_field(file), Grid(FRAME.shape, 4.0).coarser(8.0)
    local = torch.randn(network.options.local_size, *grid.shape, generator=random)
    codes = Codes(torch.randn(network.options.global_size, generator=random), local, grid, (54.0, 62.0, 58.0))
    base = np.eye(4)
    base[:3, 3] = 1.5
    whole = CodedDeformation(
        network.decoders, (rounded(codes),), FRAME, 12.0, AffineTransform(base), None,
        ModelIdentity(file.stem, sha256(file)),
    )  # fmt: skip
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two code files of one model."""
    folder = tmp_path_factory.mktemp("codes")
    model = write_model(folder / "mine.safetensors")
    for name, seed in (("a", 0), ("b", 1)):
        write_codes(coded(model, seed=seed), folder / f"{name}.safetensors")
    return folder


def interpolate(*words) -> int:
    return main(["interpolate", *map(str, words)])


def test_the_ends_are_the_given_transforms_and_the_way_is_gradual(folder, tmp_path):
    moving = brains.on_grid(brains.sample("moving"), (6.0, 6.0, 6.0))
    write_volume(moving, tmp_path / "moving.nii.gz")
    image = ("--image", tmp_path / "moving.nii.gz", "--reference", tmp_path / "moving.nii.gz")
    assert interpolate(folder / "a.safetensors", folder / "b.safetensors", "--steps", 4, "--out", tmp_path, *image) == 0
    steps = [read_transform(tmp_path / f"step_{n:03d}.h5") for n in range(5)]
    model = folder / "mine.safetensors"
    for step, seed in ((steps[0], 0), (steps[4], 1)):
        assert torch.equal(step.transforms[0].field, coded(model, seed=seed).deformation().field)
    fields = [step.transforms[0].field for step in steps]
    whole = float((fields[4] - fields[0]).norm(dim=0).mean())
    parts = [float((b - a).norm(dim=0).mean()) for a, b in itertools.pairwise(fields)]
    assert all(0.05 * whole < part < 0.6 * whole for part in parts)
    warped = warp_image(read_image(tmp_path / "moving.nii.gz"), steps[2], moving.frame).data
    torch.testing.assert_close(read_image(tmp_path / "step_002.nii.gz").data, warped, rtol=0, atol=0.01)
    assert interpolate(folder / "a.safetensors", folder / "b.safetensors", "--steps", 2, "--out", tmp_path) == 2


def test_from_the_identity_the_displacement_grows_evenly(folder, tmp_path):
    assert interpolate("identity", folder / "b.safetensors", "--steps", 2, "--out", tmp_path) == 0
    fields = [read_transform(tmp_path / f"step_{n:03d}.h5").transforms[0].field for n in range(3)]
    assert not bool(fields[0].any())
    assert torch.equal(fields[2], coded(folder / "mine.safetensors", seed=1).deformation().field)
    middle = [field[:, 15, 16, 14] for field in fields]
    torch.testing.assert_close(middle[1], middle[2] / 2, rtol=0, atol=1e-5)
    assert float(middle[2].norm()) > 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frame": replace(FRAME, origin=(0.0, 0.0, 0.0))}, "on another working frame than"),
        ({"base": Transform.identity()}, "of another alignment than"),
        ({"stages": ()}, "with stages of nothing, not 8 mm than"),
        ({"model": None}, "made with another model (decoders of its own, not mine) than"),
    ],
)
def test_what_has_no_path_between_is_refused_by_both_names(changes, reason, folder, tmp_path, capsys):
    other = coded(folder / "mine.safetensors", seed=2, **changes)
    if "model" in changes:
        with torch.no_grad():
            other.decoders.forward_map.last.bias.add_(0.1)
    write_codes(other, tmp_path / "other.safetensors")
    words = (folder / "a.safetensors", tmp_path / "other.safetensors", "--steps", 2, "--out", tmp_path / "out")
    assert interpolate(*words, "--model", folder / "mine.safetensors") == 2
    error = capsys.readouterr().err
    assert f"other.safetensors: {reason}" in error and "a.safetensors" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_sequence_appears_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    """The third file cannot be written; then the second of the moves into place fails."""
    words = ("identity", folder / "b.safetensors", "--steps", 3, "--out", tmp_path)
    (tmp_path / "notes.txt").write_text("a person's own", encoding="utf-8")

    def fails(name: str, number: int) -> None:
        function, left = getattr(os, name), [number]

        def call(*given):
            left[0] -= 1
            if not left[0]:
                raise PermissionError(13, "Permission denied", str(given[0]))
            return function(*given)

        patch.setattr(os, name, call)

    for name, number in (("replace", 3), ("rename", 3)):
        with monkeypatch.context() as patch:
            fails(name, number)
            assert interpolate(*words) == 2
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert interpolate(*words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", *(f"step_{n:03d}.h5" for n in range(4))]
