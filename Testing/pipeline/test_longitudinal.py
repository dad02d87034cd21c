"""`spikereg longitudinal`: a known change is read back, no visit is favoured, and two persons are refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib.cli import main
from SpikeRegLib.groups import mid_space, visits
from SpikeRegLib.groups.small_changes import ChangeLevel, ChangeSettings
from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.outputs.accounts import digest
from SpikeRegLib.outputs.longitudinal_folder import write_visits
from SpikeRegLib.quality.metrics import jacobian_determinant
from SpikeRegLib.space.matrix_logarithms import affine_log
from SpikeRegLib.space.transforms import DisplacementTransform, compose, warp_image

QUICK = ChangeSettings((ChangeLevel(4.0, 2, 20, 20.0), ChangeLevel(2.0, 3, 25, 8.0)))
LEFT_THALAMUS = 10


def shrinking(percent: float) -> DisplacementTransform:
    """Towards the middle of the left thalamus: a loss of volume around it, in the first visit's space."""
    brain, labels = brains.sample("fixed"), brains.sample("fixed_seg").data
    index = (labels == LEFT_THALAMUS).nonzero().flip(1).double().numpy()
    frame = brain.frame
    centre = frame.to_mm(index).mean(0)
    k, j, i = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    away = np.stack([i, j, k], -1) @ frame.matrix[:3, :3].T + frame.matrix[:3, 3] - centre
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    field = -percent / 300 * away * np.exp(-((distance / 22) ** 4))
    return DisplacementTransform(torch.from_numpy(np.moveaxis(field, -1, 0).astype(np.float32)), frame)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two visits with a known change compared in both orders, with one look of the network."""
    folder = tmp_path_factory.mktemp("visits")
    brain, change = brains.sample("fixed"), shrinking(6.0)
    centre = brains.brain_points(brain).numpy().mean(0)
    noise = torch.Generator().manual_seed(1)
    files = {}
    for name, pose, inner in (
        ("first", brains.rigid((1.0, -1.5, 0.7), (1.0, -2.0, 0.6), centre), None),
        ("later", brains.rigid((-1.2, 0.6, -0.8), (-0.7, 1.1, -1.4), centre), change.inverse()),
    ):
        seen = warp_image(brain, pose if inner is None else compose(pose, inner), brain.frame)
        noisy = seen.data + 1.0 * torch.randn(seen.data.shape, generator=noise)
        files[name] = folder / f"{name}.nii.gz"
        write_volume(replace(seen, data=torch.where(seen.data > 4, noisy.clamp_min(1), 0.0)), files[name])
    with pytest.MonkeyPatch.context() as patch:
        for module in (mid_space, visits):
            patch.setattr(module, "VIEWS", module.VIEWS[:1])
        ways = [
            visits.compare_visits({name: files[name] for name in order}, {"first": "0", "later": "1"}, settings=QUICK,
                                  threads=1)
            for order in (("first", "later"), ("later", "first"))
        ]  # fmt: skip
    jacobian = jacobian_determinant(change.field, brain.frame)
    inside = brains.sample("fixed_seg").data == LEFT_THALAMUS
    return SimpleNamespace(ways=ways, truth=100 * (float(jacobian[inside].mean()) - 1), files=files)


def change(way, label: int) -> float:
    return next(row["change_percent"] for row in way.changes if row["label"] == label)


def test_a_known_loss_is_read_back(compared):
    assert compared.truth < -4
    assert abs(change(compared.ways[0], LEFT_THALAMUS) - compared.truth) < 1.0
    assert abs(change(compared.ways[0], 49)) < 1.0  # the other thalamus
    middle = compared.ways[0].jacobian(1).data[compared.ways[0].labels.data == LEFT_THALAMUS]
    assert abs(100 * (float(middle.mean()) - 1) - compared.truth) < 1.5


def test_the_order_of_visits_exchanges_them_and_nothing_else(compared):
    there, back = (change(way, LEFT_THALAMUS) / 100 for way in compared.ways)
    assert abs((1 + there) * (1 + back) - 1) < 1e-6
    points = _points(compared.ways[0])
    for one, other in zip(compared.ways[0].visits, reversed(compared.ways[1].visits), strict=True):
        assert one.name == other.name
        assert float((one.to_visit.map_points(points) - other.to_visit.map_points(points)).norm(dim=1).max()) < 1e-4
        error = (one.to_mid.map_points(one.to_visit.map_points(points)) - points).norm(dim=1)
        assert float(error.max()) < 0.3 and float(error.mean()) < 0.03


def _points(way) -> torch.Tensor:
    index = (way.labels.data > 0).nonzero()[::500].flip(1).double().numpy()
    return torch.from_numpy(way.mid.frame.to_mm(index))


def test_the_mid_space_lies_in_the_middle(compared):
    for way in compared.ways:
        matrices = [np.array(visit["matrix"]) for visit in way.result["visits"]]
        assert np.abs(sum(affine_log(matrix) for matrix in matrices)).max() < 1e-8
        assert all(abs(np.linalg.det(matrix) - 1) < 1e-6 for matrix in matrices)
        assert not way.result["warnings"]


def test_files_are_written_together_and_accounted_for(compared, tmp_path):
    out = write_visits(compared.ways[0], tmp_path / "out")
    files = json.loads((out / "longitudinal.json").read_text())["files"]
    assert set(files) == {
        "mid.nii.gz", "labels.nii.gz", "changes.csv", "pairs/later/jacobian.nii.gz",
        *(f"visits/{name}/in_mid.nii.gz" for name in ("first", "later")),
        *(f"visits/{name}/{way}.h5" for name in ("first", "later") for way in ("to_visit", "to_mid")),
    }  # fmt: skip
    assert all(digest(out / name) == value for name, value in files.items())
    rows = list(csv.DictReader((out / "changes.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "structure", "ml_first", "ml_later", "change_percent"]
    assert {row["id"] for row in rows} == {"later"} and len(rows) >= 20
    write_visits(compared.ways[1], out)  # a later run replaces what is accounted for
    assert (out / "pairs" / "first" / "jacobian.nii.gz").is_file() and not (out / "pairs" / "later").exists()


def test_two_persons_are_refused_in_one_line(tmp_path, monkeypatch, capsys, signal_handlers_restored):
    monkeypatch.setattr(mid_space, "VIEWS", mid_space.VIEWS[:1])
    files = [str(brains.SAMPLE / f"{name}.nii.gz") for name in ("fixed", "moving")]
    assert main(["longitudinal", *files, "--out", str(tmp_path / "out"), "--threads", "1", "--progress", "none"]) == 2
    said = capsys.readouterr().err
    assert "does not look like the person of" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
