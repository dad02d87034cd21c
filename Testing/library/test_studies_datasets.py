"""Data sets known by name: their layouts, their manifests, and what is said where a file is missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from study_examples import FRAME, blobs, shift

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import read_points
from SpikeRegLib.images.volumes import read_image, write_volume
from SpikeRegLib.space.transforms import write_transform
from SpikeRegLib.studies import dir_lab
from SpikeRegLib.studies.datasets import read_dataset
from SpikeRegLib.studies.dir_lab import read_raw
from SpikeRegLib.studies.manifest import read_manifest

SMALL = {1: (24, 18, 0.97), 2: (20, 17, 1.16), 8: (26, 16, 0.97)}


@pytest.fixture
def lungs(tmp_path, monkeypatch):
    """Three small cases, named as the packs of the first five, the others and the eighth are."""
    monkeypatch.setattr(dir_lab, "_CASES", SMALL)
    random = np.random.default_rng(0)
    places = {
        1: ("Case1Pack", "ExtremePhases", "Case1_300_{}_xyz.txt", "case1_{}_s.img"),
        2: ("Case2Pack", "ExtremePhases", "Case2_300_{}_xyz.txt", "case2_{}-ssm.img"),
        8: ("Case8Deploy", "extremePhases", "case8_dirLab300_{}_xyz.txt", "case8_{}.img"),
    }
    points = {}
    for number, (pack, inside, text, image) in places.items():
        wide, slices, _ = SMALL[number]
        for folder in (inside, "Images"):
            (tmp_path / "4DCT" / pack / folder).mkdir(parents=True)
        inhaled = random.integers(2, 14, (300, 3))
        for phase, index in (("T00", inhaled), ("T50", inhaled + [0, 1, 1])):
            rows = "\n".join("\t".join(map(str, row)) + " " for row in index)
            (tmp_path / "4DCT" / pack / inside / text.format(phase)).write_text(rows + "\n")
            voxels = random.integers(0, 2000, wide * wide * slices).astype("<i2")
            voxels.tofile(tmp_path / "4DCT" / pack / "Images" / image.format(phase))
        points[number] = inhaled
    return tmp_path / "4DCT", points


def test_dir_lab_has_the_published_cases_and_sizes():
    assert len(dir_lab._CASES) == 10
    assert [slices for _, slices, _ in dir_lab._CASES.values()] == [94, 112, 104, 99, 106, 128, 136, 128, 128, 120]
    assert [wide for wide, _, _ in dir_lab._CASES.values()] == [256] * 5 + [512] * 5
    assert sum(spacing for _, _, spacing in dir_lab._CASES.values()) == pytest.approx(10.36)


def test_landmarks_of_dir_lab_count_from_one_and_are_measured_in_mm(lungs, tmp_path):
    root, _ = lungs
    for number in SMALL:
        (tmp_path / "results" / f"case{number:02}").mkdir(parents=True)
        write_transform(shift(0, 0, 0), tmp_path / "results" / f"case{number:02}" / "transform.h5")
    words = ["evaluate", str(tmp_path / "results"), "--dataset", "dir-lab", str(root), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(found["pairs"]) == ["case01", "case02", "case08"]
    for name, spacing in (("case01", 0.97), ("case02", 1.16), ("case08", 0.97)):
        figures = found["pairs"][name]["figures"]
        expected = np.hypot(spacing, 2.5)  # one voxel along j and one along k
        assert figures["tre_mm"] == pytest.approx(expected) and figures["learn2reg_tre_mm"] == pytest.approx(expected)
        assert found["pairs"][name]["subjects"] == [name, name]


def test_the_manifest_of_dir_lab_holds_converted_images_and_landmarks(lungs, tmp_path, capsys):
    root, points = lungs
    path = tmp_path / "pairs.csv"
    assert main(["evaluate", "--dataset", "dir-lab", str(root), "--write-manifest", str(path)]) == 0
    assert "spikereg cohort" in capsys.readouterr().out
    study = read_manifest(path)
    assert [pair.id for pair in study.pairs] == ["case01", "case02", "case08"]
    pair = study.pairs[2]
    assert pair.fixed == tmp_path / "pairs-files" / "case08_fixed.nii.gz" and pair.subjects == ("case08", "case08")
    image = read_image(pair.fixed)
    stored = np.fromfile(root / "Case8Deploy" / "Images" / "case8_T00.img", "<i2").reshape(16, 26, 26)
    assert torch.equal(image.data, torch.from_numpy(stored.astype(np.float32)))
    assert image.frame.spacing == pytest.approx((0.97, 0.97, 2.5))
    converted = read_points(pair.fixed_points)
    assert converted.numpy() == pytest.approx((points[8] - 1) * [0.97, 0.97, 2.5], abs=1e-5)
    error = (read_points(pair.moving_points) - converted).norm(dim=1)
    assert error.numpy() == pytest.approx(np.full(300, np.hypot(0.97, 2.5)), abs=1e-5)


def test_a_manifest_that_is_there_is_not_replaced(lungs, tmp_path, capsys):
    root, _ = lungs
    words = ["evaluate", "--dataset", "dir-lab", str(root), "--write-manifest"]
    (tmp_path / "pairs.csv").write_text("mine")
    assert main([*words, str(tmp_path / "pairs.csv")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "pairs.csv").read_text() == "mine" and not (tmp_path / "pairs-files").exists()
    assert main([*words, str(tmp_path / "pairs.txt")]) == 2
    assert "name the manifest .csv" in capsys.readouterr().err


def test_nothing_of_a_manifest_is_left_where_an_image_is_damaged(lungs, tmp_path, capsys):
    root, _ = lungs
    image = root / "Case8Deploy" / "Images" / "case8_T50.img"
    image.write_bytes(image.read_bytes()[:-2])
    before = sorted(tmp_path.iterdir())
    assert main(["evaluate", "--dataset", "dir-lab", str(root), "--write-manifest", str(tmp_path / "p.csv")]) == 2
    assert "case8_T50.img: 21630 bytes where 26x26x16 voxels take 21632" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    image.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_raw(image, FRAME)


def oasis_2021(root):
    root.mkdir(parents=True)
    for subject in range(438, 458):
        (root / f"seg{subject:04}.nii.gz").touch()
        (root / f"img{subject:04}.nii.gz").touch()


def test_oasis_of_2021_and_of_later_are_19_pairs_of_neighbours(tmp_path):
    oasis_2021(tmp_path / "a" / "L2R_2021_Task3_val")
    study = read_dataset("oasis-learn2reg", tmp_path / "a")
    assert len(study.pairs) == 19 and study.labels == tuple(range(1, 36))
    assert [study.pairs[n].id for n in (0, -1)] == ["0438_0439", "0456_0457"]
    assert study.pairs[3].fields == ("disp_0441_0442",) and study.pairs[3].subjects == ("0441", "0442")
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "b" / folder).mkdir(parents=True)
        for subject in range(395, 415):
            (tmp_path / "b" / folder / f"OASIS_{subject:04}_0000.nii.gz").touch()
    study = read_dataset("oasis-learn2reg", tmp_path / "b")
    assert len(study.pairs) == 19 and [study.pairs[n].id for n in (0, -1)] == ["0395_0396", "0413_0414"]
    assert study.pairs[0].moving == tmp_path / "b" / "imagesTr" / "OASIS_0396_0000.nii.gz"


def test_the_manifest_of_oasis_names_its_files_and_measures_the_same(tmp_path, monkeypatch):
    from SpikeRegLib.studies import oasis

    monkeypatch.setattr(oasis, "_SUBJECTS_2021", range(438, 441))
    root = tmp_path / "oasis"
    root.mkdir()
    for subject in range(438, 441):
        write_volume(blobs(subject), root / f"seg{subject:04}.nii.gz")
        (root / f"img{subject:04}.nii.gz").touch()
    for name in ("0438_0439", "0439_0440"):
        (tmp_path / "results" / name).mkdir(parents=True)
        write_transform(shift(1, 0, 2), tmp_path / "results" / name / "transform.h5")
    results, manifest = str(tmp_path / "results"), str(tmp_path / "pairs.csv")
    dataset = ["--dataset", "oasis-learn2reg", str(root)]
    assert main(["evaluate", *dataset, "--write-manifest", manifest]) == 0
    assert not (tmp_path / "pairs-files").exists()  # nothing had to be converted
    assert main(["evaluate", results, *dataset, "--out", str(tmp_path / "a")]) == 0
    assert main(["evaluate", results, "--manifest", manifest, "--out", str(tmp_path / "b")]) == 0
    one, other = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in "ab")
    for pair in one["pairs"].values():  # in the manifest, the shared file stands for the shared subject
        pair["subjects"] = [str(root / f"seg{subject}.nii.gz") for subject in pair["subjects"]]
    assert one["pairs"] == other["pairs"] and one["summary"] == other["summary"]
    assert manifest_columns(manifest) == "id,fixed,moving,fixed_seg,moving_seg"


def manifest_columns(path):
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("oasis-learn2reg", "labelsTr/OASIS_0395_0000.nii.gz: no such file; "),
        ("dir-lab", "Case1Pack/ExtremePhases/Case1_300_T00_xyz.txt: no such file; "),
    ],
)
def test_without_the_data_one_line_names_the_missing_file(tmp_path, capsys, name, missing):
    words = ["evaluate", str(tmp_path), "--dataset", name]
    assert main([*words, str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert f"{tmp_path}/{missing}" in printed and printed.count("\n") == 1
    assert main([*words, str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_missing_file_of_oasis_is_named(tmp_path):
    oasis_2021(tmp_path / "oasis")
    (tmp_path / "oasis" / "seg0450.nii.gz").unlink()
    with pytest.raises(InputError, match=r"seg0450\.nii\.gz: no such file"):
        read_dataset("oasis-learn2reg", tmp_path / "oasis")
