"""`spikereg evaluate RESULTS --manifest`: every figure of every pair and label, in files and on the screen."""

from __future__ import annotations

import csv
import errno
import json
import os

import numpy as np
import pytest
import torch
from study_examples import FRAME, blobs, shift, smooth_field, study

from SpikeRegLib.cli import main
from SpikeRegLib.images.volumes import read_labels, write_volume
from SpikeRegLib.quality import metrics
from SpikeRegLib.quality.learn2reg import learn2reg_hd95_voxels, learn2reg_sdlogj
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, read_transform, warp_image, write_transform
from SpikeRegLib.studies.voxel_fields import in_voxels


def run(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def table(path):
    return csv.DictReader(path.read_text().splitlines())


def test_every_figure_is_that_of_its_definition(tmp_path, capsys):
    example = study(tmp_path / "study")
    name = example.ids[1]
    field = smooth_field(largest=9.0)
    field[0] += 1.5
    write_transform(DisplacementTransform(field, FRAME), example.results / name / "transform.h5")
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    pair = result["pairs"][name]
    fixed, moving = (read_labels(tmp_path / "study" / "data" / f"{name}_{side}.nii.gz") for side in ("f", "m"))
    transform = read_transform(example.results / name / "transform.h5")
    warped = warp_image(moving, transform, FRAME, interpolation="nearest")
    before = warp_image(moving, Transform.identity(), FRAME, interpolation="nearest")
    labels = [1, 2, 3]
    dice, hd95 = metrics.dice(fixed, warped), metrics.hd95_mm(fixed, warped)
    theirs = learn2reg_hd95_voxels(fixed.data, warped.data, labels)
    assert pair["labels"] == {
        str(label): pytest.approx(
            {
                "dice": dice[label],
                "dice_before": metrics.dice(fixed, before)[label],
                "hd95_mm": hd95[label],
                "learn2reg_hd95_voxels": theirs[label],
            }
        )
        for label in labels
    }
    displacement = transform.displacement_on(FRAME)
    summary = metrics.deformation_summary(displacement, FRAME, fixed.data > 0)
    figures = pair["figures"]
    assert figures["dice"] == pytest.approx(np.mean([dice[label] for label in labels])) and 0.3 < figures["dice"] < 0.99
    assert figures["hd95_mm"] == pytest.approx(np.mean([hd95[label] for label in labels]))
    assert figures["folding_percent"] == pytest.approx(summary["folding_percent"]) and figures["folding_percent"] > 0
    assert figures["sdlogj"] == pytest.approx(summary["sdlogj"])
    assert figures["learn2reg_sdlogj"] == pytest.approx(learn2reg_sdlogj(in_voxels(displacement, FRAME, FRAME)))
    assert figures["learn2reg_sdlogj"] != pytest.approx(figures["sdlogj"], rel=0.2)
    assert figures["tre_before_mm"] == pytest.approx(1.5)
    assert figures["learn2reg_tre_mm"] == pytest.approx(figures["tre_mm"], rel=0.2)
    printed = capsys.readouterr()
    assert "3 of 3 pairs" in printed.out and " ± " in printed.out and printed.err.count("\n") == 3


def test_means_and_standard_deviations_are_over_pairs_and_the_tables_hold_the_same(tmp_path, capsys):
    example = study(tmp_path / "study", wrong_by=2.5)
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    of_pairs = np.array([pair["figures"]["dice"] for pair in result["pairs"].values()])
    assert of_pairs.std() > 0
    assert result["summary"]["dice"] == pytest.approx({"mean": of_pairs.mean(), "sd": of_pairs.std(), "pairs": 3})
    of_label = np.array([pair["labels"]["2"]["dice"] for pair in result["pairs"].values()])
    assert result["labels"]["2"]["dice"] == pytest.approx({"mean": of_label.mean(), "sd": of_label.std(), "pairs": 3})
    rows = {row["id"]: row for row in table(tmp_path / "out" / "per_pair.csv")}
    assert list(rows) == [*example.ids, "mean", "sd"]
    assert float(rows["mean"]["dice"]) == of_pairs.mean() and float(rows["sd"]["dice"]) == of_pairs.std()
    assert [float(rows[name]["dice"]) for name in example.ids] == of_pairs.tolist()
    labels = {
        row["label"]: row for row in csv.DictReader((tmp_path / "out" / "per_label.csv").read_text().splitlines())
    }
    assert list(labels) == ["1", "2", "3"]
    assert float(labels["2"]["dice_mean"]) == of_label.mean() and float(labels["2"]["dice_sd"]) == of_label.std()
    assert f"{of_pairs.mean():.3f} ± {of_pairs.std():.3f}" in capsys.readouterr().out
    assert set(result["definitions"]) == set(result["summary"])


def test_a_perfect_transform_has_perfect_figures(tmp_path):
    """A shift by one voxel, whose last plane alone comes from beyond the moving image."""
    example = study(tmp_path / "study", pairs=1)
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    assert pair["figures"]["dice"] > 0.9 > pair["figures"]["dice_before"]
    assert pair["figures"]["tre_mm"] == pytest.approx(0, abs=1e-5)
    assert pair["figures"]["learn2reg_tre_mm"] == pytest.approx(0, abs=1e-4)
    assert pair["figures"]["folding_percent"] == 0 and pair["figures"]["sdlogj"] == pytest.approx(0, abs=1e-5)
    assert pair["subjects"] == ["s0", "s1"] and pair["displacements"] == "mm"


def test_a_bad_pair_is_listed_with_its_reason_and_does_not_stop_the_rest(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=4)
    (example.results / example.ids[0] / "transform.h5").unlink()
    (tmp_path / "study" / "data" / f"{example.ids[1]}_m.nii.gz").unlink()
    write_volume(blobs(1, labels=1), tmp_path / "study" / "data" / f"{example.ids[2]}_f.nii.gz")
    moving = tmp_path / "study" / "data" / f"{example.ids[2]}_m.nii.gz"
    other = blobs(1, labels=1)
    write_volume(type(other)(other.data * 9, FRAME), moving)
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 1
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(result["pairs"]) == [example.ids[3]]
    assert [pair["id"] for pair in result["failed"]] == list(example.ids[:3])
    reasons = [pair["reason"] for pair in result["failed"]]
    assert "transform.h5: no such file" in reasons[0] and "_m.nii.gz: no such file" in reasons[1]
    assert "shares no label" in reasons[2]
    printed = capsys.readouterr().out
    assert "1 of 4 pairs" in printed and all(reason in printed for reason in reasons)


def test_where_no_pair_can_be_measured_nothing_is_written(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=2)
    for path in (tmp_path / "study" / "data").glob("*_f.nii.gz"):
        path.unlink()
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 2
    assert "none of 2 pairs can be measured; the first: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_later_evaluation_replaces_the_earlier_one_and_nothing_else(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=2)
    words = (example.results, "--manifest", example.manifest, "--out", tmp_path / "out")
    assert run(*words) == 0
    first = (tmp_path / "out" / "per_pair.csv").read_bytes()
    write_transform(shift(3.0, 0, 0), example.results / example.ids[0] / "transform.h5")
    assert run(*words) == 0
    assert (tmp_path / "out" / "per_pair.csv").read_bytes() != first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.json",
        "per_label.csv",
        "per_pair.csv",
    ]
    (tmp_path / "out" / "per_pair.csv").write_text("mine")
    assert run(*words) == 2
    assert "was changed since" in capsys.readouterr().err
    assert (tmp_path / "out" / "per_pair.csv").read_text() == "mine"


def test_a_disk_that_fills_up_between_two_tables_leaves_none(tmp_path, capsys, monkeypatch):
    example = study(tmp_path / "study", pairs=1)

    def full(evaluation):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("SpikeRegLib.studies.evaluation_folder.per_label_csv", full)
    before = sorted(tmp_path.iterdir())
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 2
    assert "the disk is full" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_groups_merge_labels_first(tmp_path):
    example = study(tmp_path / "study", pairs=1)
    groups = tmp_path / "groups.json"
    groups.write_text('{"map": {"1": 7, "2": 7}}')
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out", "--groups", groups) == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    assert list(pair["labels"]) == ["7"]
    fixed, moving = (
        read_labels(tmp_path / "study" / "data" / f"{example.ids[0]}_{side}.nii.gz") for side in ("f", "m")
    )
    warped = warp_image(moving, shift(1.5, 0, 0), FRAME, interpolation="nearest")
    a, b = (((volume.data == 1) | (volume.data == 2)) for volume in (fixed, warped))
    assert pair["labels"]["7"]["dice"] == pytest.approx(2 * float((a & b).sum()) / float(a.sum() + b.sum()))


def test_a_lost_label_has_no_overlap_and_an_infinite_distance_of_learn2reg(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=1)
    write_transform(shift(500.0, 0, 0), example.results / example.ids[0] / "transform.h5")
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (pair,) = result["pairs"].values()
    assert pair["labels"]["1"] == {
        "dice": 0.0,
        "dice_before": pair["labels"]["1"]["dice_before"],
        "learn2reg_hd95_voxels": None,
    }
    assert "hd95_mm" not in pair["figures"] and result["summary"]["learn2reg_hd95_voxels"]["mean"] is None
    assert "inf" in capsys.readouterr().out
    assert "inf" in (tmp_path / "out" / "per_label.csv").read_text()


def test_points_alone_are_measured_on_the_grid_of_the_fixed_image(tmp_path):
    example = study(tmp_path / "study", pairs=1)
    name = example.ids[0]
    table = f"id,fixed,fixed_points,moving_points\n{name},data/{name}_f.nii.gz,data/{name}_f.csv,data/{name}_m.csv\n"
    example.manifest.write_text(table)
    assert run(example.results, "--manifest", example.manifest, "--out", tmp_path / "out") == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    assert pair["labels"] == {} and "dice" not in pair["figures"]
    assert pair["figures"]["tre_mm"] == pytest.approx(0, abs=1e-5) and "folding_percent" in pair["figures"]


def test_a_transform_between_other_grids_becomes_voxels_of_both(tmp_path):
    """The index of the moving image that a fixed index leads to, by its own matrices."""
    from SpikeRegLib.images.frames import Frame

    moving = Frame((30, 20, 22), (-5.0, 4.0, 2.0), (1.1, 2.0, 0.7), (0, -1, 0, 0, 0, 1, 1, 0, 0))
    displacement = smooth_field(largest=3.0)
    found = in_voxels(displacement, FRAME, moving)
    for k, j, i in ((0, 0, 0), (3, 17, 9), (23, 25, 27)):
        point = FRAME.to_mm(np.array([i, j, k])) + displacement[:, k, j, i].double().numpy()
        assert found[:, k, j, i].numpy() == pytest.approx(moving.to_index(point) - [i, j, k], abs=1e-3)
    alike = displacement / torch.tensor(FRAME.spacing)[:, None, None, None]
    assert torch.allclose(in_voxels(displacement, FRAME, FRAME), alike, atol=1e-6)
