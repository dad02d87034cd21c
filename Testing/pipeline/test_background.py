"""Beyond the edges of a moving image lies its own background, not 0: air in CT is -1024."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from brains import on_grid, sample

from SpikeRegLib.cli import main
from SpikeRegLib.images.volumes import Volume, background_value, read_image, read_labels, write_volume
from SpikeRegLib.inference import SpikeRegInference
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.space.transforms import AffineTransform, Transform, compose, write_transform

AIR = -1024.0
SHIFT = AffineTransform(np.array([[1, 0, 0, 40.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))


@pytest.fixture(scope="module")
def ct() -> Volume:
    brain = on_grid(sample("fixed"), (5.0, 5.0, 5.0))
    return replace(brain, data=torch.where(brain.data > 0, brain.data, torch.tensor(AIR)), name="")


@pytest.fixture
def folder(ct, tmp_path) -> Path:
    write_volume(ct, tmp_path / "ct.nii.gz")
    write_volume(replace(ct, data=(ct.data > 0).to(torch.int16)), tmp_path / "seg.nii.gz")
    write_transform(SHIFT, tmp_path / "shift.h5")
    return tmp_path


def beyond(volume: Volume) -> torch.Tensor:
    """The values of voxels that `SHIFT` takes out of the moving image: the last 40 mm along x, and all else."""
    return volume.data[:, :, -7:]


def run(ct: Volume, quick: Path, **options):
    return register(
        ct, ct, preset=quick, refine_iterations=0, initial_transform=SHIFT, seed=0, threads=1, device="cpu", **options
    )


def test_the_background_is_the_fourth_of_the_corners():
    data = torch.full((20, 21, 22), 500.0)
    for number, value in enumerate([7, 3, 1, 8, 2, 6, 5, 4]):
        data[-(number & 1), -(number >> 1 & 1), -(number >> 2)] = value
    assert background_value(Volume(data, on_grid(sample("fixed")).frame)) == 4


def test_register_fills_with_the_background_of_the_moving_image_or_what_is_asked_for(ct, quick):
    memory = Memory()
    found = run(ct, quick, memory=memory)
    assert (beyond(found.warped) == AIR).all() and not (found.warped.data == 0).any()
    assert found.result["background"] == AIR
    again = run(ct, quick, background=-2000.0, memory=memory)
    assert (beyond(again.warped) == -2000).all()
    assert again.result["background"] == -2000


def test_apply_fills_images_with_the_background_and_labels_with_0(folder, capsys):
    def applied(name: str, *options: str) -> int:
        words = ["apply", str(folder / "shift.h5"), str(folder / name), str(folder / "out.nii.gz")]
        return main([*words, "--reference", str(folder / "ct.nii.gz"), *options])

    assert applied("ct.nii.gz") == 0
    assert (beyond(read_image(folder / "out.nii.gz")) == AIR).all()
    assert applied("ct.nii.gz", "--background", "-50.5") == 0
    assert (beyond(read_image(folder / "out.nii.gz")) == -50.5).all()
    assert applied("seg.nii.gz", "--labels") == 0
    assert (beyond(read_labels(folder / "out.nii.gz")) == 0).all()
    assert applied("seg.nii.gz", "--labels", "--background", "3") == 2
    assert "--background: of images" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        applied("ct.nii.gz", "--background", "nan")


def test_the_command_takes_a_background(folder, quick):
    words = [str(folder / "ct.nii.gz")] * 2 + ["--out", str(folder / "out"), "--preset", str(quick), "--threads", "1"]
    options = ["--initial-transform", str(folder / "shift.h5"), "--refine-iterations", "0", "--background", "-7"]
    assert main(["register", *words, *options, "--progress", "none"]) == 0
    assert (beyond(read_image(folder / "out" / "warped.nii.gz")) == -7).all()
    assert json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))["background"] == -7


def test_apply_deformation_fills_alike(ct):
    engine = SpikeRegInference("brain-t1")
    assert (beyond(engine.apply_deformation(ct, SHIFT)) == AIR).all()
    assert (beyond(engine.apply_deformation(ct, SHIFT, background=5.0)) == 5).all()
    assert (beyond(engine.apply_deformation(replace(ct, data=(ct.data > 0).short()), SHIFT, labels=True)) == 0).all()


def test_going_on_from_a_bent_transform_sees_air_beyond_the_edges(ct, monkeypatch):
    """The alignment sees the moving image through it, and must see no block of water around a CT."""
    from brains import bump

    from SpikeRegLib.affine import given as initial

    class Seen(Exception):
        pass

    def align(fixed, moving, **options):
        raise Seen(moving)

    monkeypatch.setattr(initial, "align", align)
    bent = compose(bump(ct.frame, ct.frame.corners().mean(0)), Transform.identity())
    with pytest.raises(Seen) as caught:
        initial.align_pair(ct, ct, given=bent)
    seen = caught.value.args[0]
    assert seen.data[0, 0, 0] == AIR and (seen.data == AIR).float().mean() > 0.5
