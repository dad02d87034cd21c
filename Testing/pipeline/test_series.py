"""`spikereg series`: known motions are found, every frame is interpolated once, the header's time stays."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib.cli import main
from SpikeRegLib.groups.motion import parameters_of
from SpikeRegLib.images.series import Series, read_series, write_series
from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.outputs.accounts import digest
from SpikeRegLib.space.matrix_logarithms import affine_log
from SpikeRegLib.space.transforms import read_transform, warp_image

MOTIONS = (((0, 0, 0), (0, 0, 0)), ((1.5, -1.0, 0.5), (1.2, -0.7, 0.4)), ((-0.4, 0.3, 2.0), (-0.3, 2.0, -1.0)))


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A series with known motions and noise: its file, and [4, 4] frame 0 -> frame n."""
    fine = brains.sample("fixed")
    centre = brains.brain_points(fine).numpy().mean(0)
    matrices = [brains.rigid(degrees, shift, centre) for degrees, shift in MOTIONS]
    noise = torch.Generator().manual_seed(0)
    frames = []
    for one in matrices:
        coarse = brains.on_grid(replace(warp_image(fine, one.inverse(), fine.frame), name="frame"), (3.0, 3.0, 4.0))
        frames.append(coarse.data + 2 * torch.randn(coarse.data.shape, generator=noise))
    path = tmp_path_factory.mktemp("series") / "series.nii.gz"
    write_series(Series(torch.stack(frames), coarse.frame, 2.5, 0.0), path)
    return path, [one.matrix for one in matrices], centre


def run(*words) -> int:
    return main(["series", *map(str, words), "--threads", "1", "--progress", "none"])


def test_known_motions_are_found_within_a_tenth(moved, tmp_path, signal_handlers_restored):
    path, matrices, centre = moved
    assert run(path, "--out", tmp_path / "out", "--to", "0") == 0
    for number, matrix in enumerate(matrices):
        found = read_transform(tmp_path / "out" / "transforms" / f"{number:04d}.tfm").matrix
        shift, turn = parameters_of(np.linalg.inv(matrix) @ found, centre)
        assert np.abs(shift).max() < 0.1 and np.abs(turn).max() < 0.1
    rows = list(csv.DictReader((tmp_path / "out" / "motion.csv").read_text().splitlines()))
    result = json.loads((tmp_path / "out" / "series.json").read_text())
    shift, turn = parameters_of(matrices[2], np.array(result["centre_mm"]))
    assert np.allclose([float(rows[2][f"{axis}_mm"]) for axis in "xyz"], shift, atol=0.15)
    assert np.allclose([float(rows[2][f"about_{axis}_degrees"]) for axis in "xyz"], turn, atol=0.1)
    steps = np.abs(np.subtract(turn, parameters_of(matrices[1], centre)[1]))
    assert float(rows[2]["framewise_displacement_mm"]) > 50 * np.radians(steps).sum()
    given, aligned = read_series(path), read_series(tmp_path / "out" / "series.nii.gz")
    assert torch.equal(aligned.data[0], given.data[0])  # the frame that all go to is not interpolated
    assert aligned.step == pytest.approx(2.5) and np.allclose(aligned.frame.matrix, given.frame.matrix, atol=1e-4)
    assert float(aligned.data.std(0).mean()) < 0.6 * float(given.data.std(0).mean())
    assert all(digest(tmp_path / "out" / name) == value for name, value in result["files"].items())


def test_the_mean_favours_no_frame(moved, tmp_path, signal_handlers_restored):
    path, matrices, centre = moved
    assert run(path, "--out", tmp_path / "out") == 0
    found = [read_transform(file).matrix for file in sorted((tmp_path / "out" / "transforms").iterdir())]
    assert np.abs(np.mean([affine_log(matrix) for matrix in found], 0)).max() < 1e-6
    for one, (matrix, before) in enumerate(zip(matrices[1:], matrices, strict=False), 1):
        error = np.linalg.inv(matrix @ np.linalg.inv(before)) @ found[one] @ np.linalg.inv(found[one - 1])
        shift, turn = parameters_of(error, centre)
        assert np.abs(shift).max() < 0.1 and np.abs(turn).max() < 0.1


def test_deformable_frames_agree_more(moved, tmp_path, signal_handlers_restored):
    path, _, _ = moved
    assert run(path, "--out", tmp_path / "out", "--deformable", "--to", "1") == 0
    names = sorted(file.name for file in (tmp_path / "out" / "transforms").iterdir())
    assert names == ["0000.h5", "0001.tfm", "0002.h5"]


def test_what_is_no_series_is_refused_in_one_line(moved, tmp_path, capsys, signal_handlers_restored):
    assert run(brains.SAMPLE / "fixed.nii.gz", "--out", tmp_path / "out") == 2
    assert "give a 4-D image" in capsys.readouterr().err
    assert run(moved[0], "--out", tmp_path / "out", "--to", "9") == 2
    assert "the series has the frames 0 to 2" in capsys.readouterr().err
    series = read_series(moved[0])
    series.data[1, 4, 4, 4] = float("nan")
    write_series(series, tmp_path / "nan.nii.gz")
    assert run(tmp_path / "nan.nii.gz", "--out", tmp_path / "out") == 2
    assert "frame 1 has NaN" in capsys.readouterr().err
    (tmp_path / "cut.nii.gz").write_bytes(moved[0].read_bytes()[:-2000])
    assert run(tmp_path / "cut.nii.gz", "--out", tmp_path / "out") == 2
    (tmp_path / "taken" / "transforms").mkdir(parents=True)
    write_volume(series.volume(0), tmp_path / "taken" / "series.nii.gz")
    assert run(moved[0], "--out", tmp_path / "taken") == 2
    assert "was not written by a run whose series.json lies there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
