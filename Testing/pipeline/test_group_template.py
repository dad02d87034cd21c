"""`spikereg group`: no subject is favoured, whatever the order; what was stopped goes on; files come all at once."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib.cli import main
from SpikeRegLib.groups import template
from SpikeRegLib.groups.average import sharpened
from SpikeRegLib.groups.working import Working
from SpikeRegLib.images.volumes import read_image, write_volume
from SpikeRegLib.outputs.accounts import digest
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.matrix_logarithms import (
    affine_exp,
    affine_log,
    nearest_rigid,
    without_mean,
    without_mean_stretch,
)
from SpikeRegLib.space.transforms import DisplacementTransform, read_transform, warp_image

WORKING = "spikereg-working"


def some_affine(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    matrix = brains.rigid(tuple(random.uniform(-30, 30, 3)), tuple(random.uniform(-80, 80, 3)), np.zeros(3)).matrix
    matrix[:3, :3] = matrix[:3, :3] @ (np.eye(3) + random.uniform(-0.1, 0.1, (3, 3)))
    return matrix


def test_logarithms_of_affine_maps_are_those_of_scipy():
    from scipy.linalg import logm

    for seed in range(5):
        matrix = some_affine(seed)
        assert np.abs(affine_log(matrix) - logm(matrix)).max() < 1e-8
        assert np.abs(affine_exp(affine_log(matrix)) - matrix).max() < 1e-8
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="mirrors"):
        affine_log(mirrored)


def test_the_common_space_lies_in_the_middle_and_maps_between_images_stay():
    maps = [some_affine(seed) for seed in range(4)]
    for moved, logarithm in (
        (without_mean(maps), affine_log),
        (without_mean_stretch(maps), lambda matrix: affine_log(np.linalg.inv(nearest_rigid(matrix)) @ matrix)[:3, :3]),
    ):
        assert np.abs(np.mean([logarithm(matrix) for matrix in moved], 0)).max() < 1e-8
        between = [b @ np.linalg.inv(a) for a, b in itertools.pairwise(maps)]
        after = [b @ np.linalg.inv(a) for a, b in itertools.pairwise(moved)]
        assert np.abs(np.array(between) - np.array(after)).max() < 1e-8


def test_sharpening_steepens_edges_and_rings_nowhere():
    edge = torch.zeros(16, 16, 16)
    edge[:, :, 8:] = 0.8
    blurred = gaussian(edge, 1.0)
    sharp = sharpened(blurred)
    assert float(torch.gradient(sharp)[2].max()) > 1.1 * float(torch.gradient(blurred)[2].max())
    assert float(sharp.min()) >= 0 and float(sharp.max()) <= 0.8 + 1e-6


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> list[Path]:
    """A brain, and what a push and its opposite make of it."""
    folder = tmp_path_factory.mktemp("heads")
    brain = brains.on_grid(brains.sample("fixed"))
    centre = brains.brain_points(brain).numpy().mean(0) + np.array([15.0, 10.0, 5.0])
    push = brains.bump(brain.frame, centre, peak=(5.0, -4.0, 3.0), width=16.0)
    pushed = {
        "brain": brain,
        "plus": warp_image(brain, push, brain.frame),
        "minus": warp_image(brain, DisplacementTransform(-push.field, push.frame), brain.frame),
    }
    for name, volume in pushed.items():
        write_volume(replace(volume, name=name), folder / f"{name}.nii.gz")
    return [folder / f"{name}.nii.gz" for name in pushed]


def run(files, out, quick, *words) -> int:
    return main(["group", *map(str, files), "--out", str(out), "--preset", str(quick), "--iterations", "2", "--threads",
                 "1", "--progress", "none", *words])  # fmt: skip


@pytest.fixture(scope="module")
def group(heads, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    (folder / "quick.toml").write_text(brains.QUICK_PRESET, encoding="utf-8")
    assert run(heads, folder / "out", folder / "quick.toml") == 0
    return folder


def maps(out: Path, way: str) -> dict:
    return {name: read_transform(out / "subjects" / name / f"{way}.h5") for name in ("brain", "plus", "minus")}


def test_a_brain_and_its_opposite_warps_give_the_shape_of_the_brain(group, heads, signal_handlers_restored):
    points = brains.brain_points(read_image(heads[0]))
    moved = {name: one.map_points(points) - points for name, one in maps(group / "out", "to_subject").items()}
    mean = torch.stack(list(moved.values())).mean(0).norm(dim=1)
    # The field has a node every 6 mm.
    assert float(mean.mean()) < 0.2 and float(mean.max()) < 0.6  # none is favoured
    assert float(moved["brain"].norm(dim=1).mean()) < 0.5
    assert float((moved["plus"] - moved["minus"]).norm(dim=1).max()) > 6
    result = json.loads((group / "out" / "group.json").read_text())
    assert result["bias_mm"]["mean"] < 0.2 and result["roughness"]["folding_percent"] == 0
    assert result["rounds"][1]["change_of_template"] < 0.5


def test_every_map_comes_with_its_inverse_and_files_are_accounted_for(group, heads):
    out = group / "out"
    points = brains.brain_points(read_image(heads[0]))
    back = maps(out, "to_template")
    for name, there in maps(out, "to_subject").items():
        assert float((back[name].map_points(there.map_points(points)) - points).norm(dim=1).max()) < 0.5
    files = json.loads((out / "group.json").read_text())["files"]
    assert set(files) == {path.relative_to(out).as_posix() for path in out.rglob("*.[nh]*") if path.is_file()}
    assert all(digest(out / name) == value for name, value in files.items())
    assert not (out / WORKING).exists()


def test_a_run_that_was_stopped_goes_on_and_the_order_does_not_matter(
    group, heads, tmp_path, monkeypatch, signal_handlers_restored
):
    calls, usual = [], template.registered

    def stopping(*how):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return usual(*how)

    monkeypatch.setattr(template, "registered", stopping)
    out, quick = tmp_path / "out", group / "quick.toml"
    assert run(heads, out, quick) == 130
    assert sorted(path.name for path in out.iterdir()) == [WORKING]
    Working(out / WORKING)  # nothing in it that is not ours
    assert run(heads[::-1], out, quick) == 0
    assert len(calls) == 5 + 2  # of six registrations four were finished
    assert digest(out / "template.nii.gz") == digest(group / "out" / "template.nii.gz")
