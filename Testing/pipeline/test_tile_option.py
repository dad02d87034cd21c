"""--tile: the networks run on tiles, the result says so, and it is nearly that of the whole image."""

from __future__ import annotations

import json
from pathlib import Path

import brains
import pytest
import torch

from SpikeRegLib.cli import main
from SpikeRegLib.commands.requests import Request, Understanding
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.space.transforms import Transform, read_transform

OPTIONS = {"preset": "fast-preview", "skip_affine": True, "threads": 1, "device": "cpu"}
TILE, WIDE = 64, 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory, known) -> Path:
    """The small pair as files."""
    folder = tmp_path_factory.mktemp("pair")
    for name, volume in (("fixed", known.fixed), ("moving", known.moving)):
        write_volume(volume, folder / f"{name}.nii.gz")
    return folder


def test_tiles_say_so_stay_close_to_the_whole_and_a_single_one_is_the_whole(folder, known, tmp_path, capsys):
    pair, memory = (folder / "fixed.nii.gz", folder / "moving.nii.gz"), Memory()
    whole = register(*pair, memory=memory, **OPTIONS)
    wide = register(*pair, memory=memory, tile=WIDE, **OPTIONS)
    assert (whole.result["tile"], wide.result["tile"]) == (None, WIDE)
    assert "working pair" in wide.result["reused"] and "prediction" not in wide.result["reused"]
    assert torch.equal(wide.displacement, whole.displacement)

    words = ["register", *map(str, pair), "--out", str(tmp_path / "out"), "--tile", str(TILE), "--skip-affine"]
    words += ["--preset", "fast-preview", "--threads", "1", "--device", "cpu", "--progress", "none"]
    assert main(words) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["tile"] == TILE and result["warnings"] == []
    after = result["similarity"]["lncc_after"]
    assert after == pytest.approx(whole.result["similarity"]["lncc_after"], abs=0.01)
    tiled, errors = read_transform(tmp_path / "out" / "transform.h5"), {}
    for name, found in (("aligned", Transform.identity()), ("whole", whole.transform), ("tiled", tiled)):
        errors[name] = brains.error_mm(found, known.truth, known.points)
    assert errors["tiled"] < 0.9 * errors["aligned"] and errors["tiled"] < 1.1 * errors["whole"], errors
    assert brains.error_mm(tiled, whole.transform, known.points) > 1e-3  # it is another computation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 0}, "--tile: must be between 1 and 4096, got 0"),
        ({"tile": 31}, "--tile: the network needs tiles of at least 32 voxels, got 31"),
        ({"tile": 64, "method": "optimize", "preset": "any-anatomy"}, "--tile: no registration network runs"),
    ],
)
def test_tiles_that_cannot_be_are_refused_before_anything_is_read(changes, message):
    with pytest.raises(InputError, match=message):
        register("missing.nii.gz", "missing.nii.gz", **{**OPTIONS, **changes})


def test_tile_is_a_key_of_requests():
    understand = Understanding()
    request = {"id": "a", "fixed": "f", "moving": "m", "out": "o"}
    found = understand({**request, "tile": 96})
    assert isinstance(found, Request) and found.options.tile == 96
    for wrong in (0, 1.5, True):
        with pytest.raises(InputError, match="tile"):
            understand({**request, "tile": wrong})
