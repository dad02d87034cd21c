"""Submissions to Learn2Reg: lists of pairs, fields of both editions, and the figures that its rules ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from study_examples import FRAME, blobs, smooth_field

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, write_transform
from SpikeRegLib.studies.learn2reg_pairs import read_learn2reg_pairs
from SpikeRegLib.studies.voxel_fields import in_mm, in_voxels, read_voxel_field

TURNED = replace(FRAME, direction=(0, -1, 0, 0, 0, 1, -1, 0, 0))  # as if stored along other axes


def submission(folder, subjects=(395, 396, 397), frame=FRAME, task="OASIS", masked=False):
    """A data set with labels, and its list of consecutive pairs; returns the list's path."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    names = [f"imagesTr/{task}_{subject:04}_0000.nii.gz" for subject in subjects]
    for number, name in enumerate(names):
        labels = blobs(number, frame)
        labels.data[torch.nn.functional.pad(torch.zeros([n - 4 for n in frame.shape]), (2,) * 6, value=1) > 0] = 0
        write_volume(labels, folder / name.replace("images", "labels"))
        write_volume(Volume(labels.data.float() * 10, frame), folder / name)
    table = {
        "name": task,
        "registration_val": [{"fixed": f"./{a}", "moving": f"./{b}"} for a, b in pairwise(names)],
    }
    if masked:
        table["masked_evaluation"] = True
    (folder / f"{task}_dataset.json").write_text(json.dumps(table))
    return folder / f"{task}_dataset.json"


def write_field(field, path):
    """[3, D, H, W] voxels (i, j, k) as NIfTI of four axes [I, J, K, 3]."""
    array = np.ascontiguousarray(field.numpy().transpose(3, 2, 1, 0).astype(np.float32))  # [I, J, K, 3]
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T), isVector=False), str(path))


def test_the_figures_of_a_submission_are_those_of_a_plain_reading_of_the_rules(tmp_path):
    """Labels by scipy's nearest voxel at identity + field, determinants by numpy, all in voxels and without headers.
    No label touches the border, within half a voxel of which SciPy reads 0 and ITK the outermost voxel."""
    listed = submission(tmp_path / "data", frame=TURNED)
    results = tmp_path / "results"
    results.mkdir()
    fields = {name: smooth_field(largest=4.0, seed=n) for n, name in enumerate(("0395_0396", "0396_0397"))}
    for name, field in fields.items():
        write_field(field, results / f"disp_{name}.nii.gz")
    out = tmp_path / "out"
    assert main(["evaluate", str(results), "--pairs", str(listed), "--out", str(out)]) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert list(found["pairs"]) == list(fields)
    for name, field in fields.items():
        fixed, moving = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "data" / "labelsTr" / f"OASIS_{s}_0000.nii.gz"))).T
            for s in name.split("_")
        )
        u = field.double().numpy().transpose(0, 3, 2, 1)  # [3, I, J, K]
        places = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij")) + u
        warped = ndimage.map_coordinates(moving, places, order=0)
        pair = found["pairs"][name]
        for label in (1, 2, 3):
            a, b = fixed == label, warped == label
            # beyond the outermost half voxel SciPy reads 0 and ITK the nearest one, which moves a few voxels
            assert pair["labels"][str(label)]["dice"] == pytest.approx(
                2 * (a & b).sum() / (a.sum() + b.sum()), abs=0.01
            )
        slopes = np.stack([np.stack(np.gradient(part)) for part in u]) + np.eye(3)[:, :, None, None, None]
        determinant = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)))[2:-2, 2:-2, 2:-2]
        logarithm = np.log(np.clip(determinant + 3, 1e-9, 1e9))
        assert pair["figures"]["learn2reg_sdlogj"] == pytest.approx(logarithm.std(), rel=1e-4)
        folds = 100 * (np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)))[1:-1, 1:-1, 1:-1] <= 0).mean()
        assert pair["figures"]["folding_percent"] == pytest.approx(folds, abs=1e-6)
        assert pair["displacements"] == "voxels" and pair["subjects"] == name.split("_")


def test_keypoints_count_voxels_and_lengths_follow_the_moving_image(tmp_path):
    listed = submission(tmp_path / "data", (1, 2), task="LungCT")
    (tmp_path / "data" / "keypointsTr").mkdir()
    fixed = np.random.default_rng(1).integers(3, 20, (20, 3)).astype(float)
    moving = fixed + np.random.default_rng(2).normal(0, 1, (20, 3))
    for subject, points in ((1, fixed), (2, moving)):
        lines = "\n".join(",".join(f"{v:.3f}" for v in row) for row in points)
        (tmp_path / "data" / "keypointsTr" / f"LungCT_{subject:04}_0000.csv").write_text(lines)
    (tmp_path / "results").mkdir()
    field = smooth_field(largest=3.0)
    write_field(field, tmp_path / "results" / "disp_0001_0000_0002_0000.nii.gz")
    words = ["evaluate", str(tmp_path / "results"), "--pairs", str(listed), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    at = fixed.astype(int)
    moved = fixed + field.numpy()[:, at[:, 2], at[:, 1], at[:, 0]].T
    expected = np.linalg.norm((moved - np.round(moving, 3)) * FRAME.spacing, axis=1).mean()
    assert pair["figures"]["learn2reg_tre_mm"] == pytest.approx(expected, rel=1e-5)
    assert pair["figures"]["tre_mm"] == pytest.approx(expected, rel=1e-5)  # at voxels both read the field alike
    before = np.linalg.norm((fixed - np.round(moving, 3)) * FRAME.spacing, axis=1).mean()
    assert pair["figures"]["tre_before_mm"] == pytest.approx(before, rel=1e-6)


def test_the_manifest_of_a_list_of_pairs_holds_its_keypoints_in_mm(tmp_path):
    """Whoever registers with it and measures with it gets the errors that the list gives."""
    listed = submission(tmp_path / "data", (1, 2), frame=TURNED, task="LungCT")
    (tmp_path / "data" / "landmarksTr").mkdir()
    for subject in (1, 2):
        points = np.random.default_rng(subject).uniform(3, 20, (20, 3))
        np.savetxt(tmp_path / "data" / "landmarksTr" / f"LungCT_{subject:04}_0000.csv", points, "%.3f", ",")
    (tmp_path / "results" / "0001_0002").mkdir(parents=True)
    transform = DisplacementTransform(in_mm(smooth_field(largest=3.0), TURNED), TURNED)
    write_transform(transform, tmp_path / "results" / "0001_0002" / "transform.h5")
    manifest = str(tmp_path / "pairs.csv")
    assert main(["evaluate", "--pairs", str(listed), "--write-manifest", manifest]) == 0
    found = []
    for source in (["--pairs", str(listed)], ["--manifest", manifest]):
        out = tmp_path / source[0]
        assert main(["evaluate", str(tmp_path / "results"), *source, "--out", str(out)]) == 0
        found.append(json.loads((out / "evaluation.json").read_text())["pairs"]["0001_0002"]["figures"])
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0]["tre_mm"] > 1


def test_a_field_in_voxels_and_a_transform_in_mm_of_the_same_map_have_the_same_figures(tmp_path):
    listed = submission(tmp_path / "data", (395, 396), frame=TURNED)
    field = smooth_field(largest=3.0)
    results = [tmp_path / kind for kind in ("voxels", "mm")]
    results[0].mkdir()
    (results[1] / "0395_0396").mkdir(parents=True)
    np.savez(results[0] / "disp_0395_0396.npz", field.numpy().transpose(3, 2, 1, 0))
    transform = DisplacementTransform(in_mm(field, TURNED), TURNED)
    write_transform(transform, results[1] / "0395_0396" / "transform.h5")
    found = []
    for folder in results:
        words = ["evaluate", str(folder), "--pairs", str(listed), "--out", str(folder / "out")]
        assert main(words) == 0
        (pair,) = json.loads((folder / "out" / "evaluation.json").read_text())["pairs"].values()
        found.append(pair)
    assert found[0]["figures"] == pytest.approx(found[1]["figures"], rel=1e-4)
    assert [pair["displacements"] for pair in found] == ["voxels", "mm"]


def test_the_header_of_the_moving_image_does_not_count_for_a_field_in_voxels(tmp_path):
    listed = submission(tmp_path / "data", (395, 396))
    (tmp_path / "results").mkdir()
    np.savez(tmp_path / "results" / "disp_0395_0396.npz", np.zeros((*FRAME.size, 3), np.float32))
    labels = tmp_path / "data" / "labelsTr"
    write_volume(blobs(0), labels / "OASIS_0395_0000.nii.gz")
    write_volume(Volume(blobs(0).data, replace(FRAME, origin=(90.0, 0.0, 0.0))), labels / "OASIS_0396_0000.nii.gz")
    words = ["evaluate", str(tmp_path / "results"), "--pairs", str(listed), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    assert pair["figures"]["dice"] == 1.0 and pair["figures"]["learn2reg_hd95_voxels"] == 0.0


def test_half_resolution_of_float16_is_enlarged_as_scipy_does_it(tmp_path):
    half = np.random.default_rng(3).normal(0, 2, (3, 14, 13, 12)).astype(np.float16)
    np.savez(tmp_path / "disp_0438_0439.npz", half)
    expected = np.array([ndimage.zoom(part.astype(np.float32), 2, order=2) for part in half])
    found = read_voxel_field(tmp_path / "disp_0438_0439.npz", FRAME)
    assert found.shape == (3, *FRAME.shape)
    assert np.abs(found.numpy() - expected.transpose(0, 3, 2, 1)).max() < 1e-4


def test_fields_of_every_layout_are_read_alike(tmp_path):
    field = smooth_field(largest=3.0)
    write_field(field, tmp_path / "disp_a.nii.gz")
    np.savez(tmp_path / "disp_b.npz", field.numpy().transpose(3, 2, 1, 0))
    np.savez_compressed(tmp_path / "disp_c.npz", field.numpy().transpose(0, 3, 2, 1))
    for name in ("disp_a.nii.gz", "disp_b.npz", "disp_c.npz"):
        assert torch.equal(read_voxel_field(tmp_path / name, FRAME), field), name


@pytest.mark.parametrize("frame", [FRAME, TURNED], ids=["straight", "turned"])
def test_voxels_and_mm_are_inverse_to_each_other(frame):
    field = smooth_field(largest=3.0)
    assert torch.allclose(in_voxels(in_mm(field, frame), frame, frame), field, atol=1e-5)
    one = torch.zeros(3, *frame.shape)
    one[1] = 1.0  # a step along j
    expected = frame.to_mm(np.array([0, 1, 0])) - frame.to_mm(np.zeros(3))
    assert in_mm(one, frame)[:, 3, 4, 5].numpy() == pytest.approx(expected)


def test_an_affine_has_the_same_voxels_whatever_way_it_is_sampled():
    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(5).normal(0, 0.05, (3, 4))
    moving = Frame((30, 31, 32), (1.0, -2.0, 3.0), (1.2, 1.0, 1.7))
    found = in_voxels(AffineTransform(matrix).displacement_on(FRAME), FRAME, moving)
    index = np.array([4.0, 9.0, 20.0])
    point = matrix[:3, :3] @ FRAME.to_mm(index) + matrix[:3, 3]
    assert found[:, 20, 9, 4].numpy() == pytest.approx(moving.to_index(point) - index, abs=1e-4)


def test_names_modalities_labels_and_masks_of_an_evaluation(tmp_path):
    folder = tmp_path / "data"
    for name in ("labelsTr", "masksTr", "landmarksTr", "keypoints01Tr"):
        (folder / name).mkdir(parents=True)
    pairs = [("0011_0000", "0011_0001"), ("0012_0001", "0012_0000"), ("0013_0000", "0014_0000")]
    table = {
        "task_name": "Thorax",
        "evaluation_methods": [{"name": "DSC", "metric": "dice", "labels": [3, "1"]}],
        "eval_pairs": [{"fixed": f"./imagesTr/T_{a}.nii.gz", "moving": f"./imagesTr/T_{b}.nii.gz"} for a, b in pairs],
        "registration_val": [{"fixed": "./imagesTr/no.nii.gz", "moving": "./imagesTr/no.nii.gz"}],
        "masked_evaluation": True,
    }
    for name in ("landmarksTr/T_0011_0000", "landmarksTr/T_0011_0001", "keypoints01Tr/T_0012_0000"):
        (folder / f"{name}.csv").touch()
    (folder / "keypoints01Tr" / "T_0012_0001.csv").touch()
    (folder / "masksTr" / "T_0012_0001.nii.gz").touch()
    for name in ("0013_0000", "0014_0000"):
        (folder / "labelsTr" / f"T_{name}.nii.gz").touch()
    (tmp_path / "config.json").write_text(json.dumps(table))
    study = read_learn2reg_pairs(tmp_path / "config.json", folder)
    assert study.name == "Thorax" and study.labels == (1, 3)
    one, two, three = study.pairs
    assert [pair.id for pair in study.pairs] == ["0011_0011", "0012_0001_0012_0000", "0013_0014"]
    assert one.fields == ("disp_0011_0000_0011_0001", "disp_0011_0011") and two.fields == ("disp_0012_0001_0012_0000",)
    assert one.fixed_points == folder / "landmarksTr" / "T_0011_0000.csv" and one.fixed_seg is None
    assert two.moving_points == folder / "keypoints01Tr" / "T_0012_0000.csv"
    assert two.fixed_mask == folder / "masksTr" / "T_0012_0001.nii.gz" and one.fixed_mask is None
    assert three.fixed_seg == folder / "labelsTr" / "T_0013_0000.nii.gz" and three.fixed_points is None
    assert three.subjects == ("0013", "0014") and one.first_voxel == 0 and three.first_voxel is None


def test_a_mask_and_the_labels_of_an_evaluation_are_used(tmp_path):
    listed = submission(tmp_path / "data", (395, 396), masked=True)
    table = json.loads(listed.read_text())
    table["evaluation_methods"] = [{"name": "DSC", "metric": "dice", "labels": [2, 3]}]
    listed.write_text(json.dumps(table))
    (tmp_path / "data" / "masksTr").mkdir()
    mask = torch.zeros(FRAME.shape, dtype=torch.int16)
    mask[4:12, 5:15, 6:16] = 1
    write_volume(Volume(mask, FRAME), tmp_path / "data" / "masksTr" / "OASIS_0395_0000.nii.gz")
    field = smooth_field(largest=4.0)
    (tmp_path / "results").mkdir()
    write_field(field, tmp_path / "results" / "disp_0395_0396.nii.gz")
    words = ["evaluate", str(tmp_path / "results"), "--pairs", str(listed), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (pair,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pairs"].values()
    from SpikeRegLib.quality.learn2reg import learn2reg_sdlogj

    assert list(pair["labels"]) == ["2", "3"]
    assert pair["figures"]["learn2reg_sdlogj"] == pytest.approx(learn2reg_sdlogj(field, mask > 0), rel=1e-5)
    assert pair["figures"]["learn2reg_sdlogj"] != pytest.approx(learn2reg_sdlogj(field), rel=0.01)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((10, 10, 10, 3)), r"shape \[10, 10, 10, 3\] where the fixed image asks for \[28, 26, 24, 3\]"),
        (np.zeros((24, 26, 28, 3)), "on the grid of the fixed image"),
        (np.full((28, 26, 24, 3), np.nan), "NaN or infinite"),
        (np.zeros((3, 14, 13, 11)), "shape"),
        (np.array(["a"]), "no numbers"),
    ],
)
def test_unusable_fields_are_refused_by_name(tmp_path, array, problem):
    np.savez(tmp_path / "disp.npz", array)
    with pytest.raises(InputError, match=problem) as caught:
        read_voxel_field(tmp_path / "disp.npz", FRAME)
    assert str(caught.value).startswith(f"{tmp_path / 'disp.npz'}: ")


def test_damaged_fields_are_refused_by_name(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    np.savez(tmp_path / "b.npz", np.zeros(3), np.zeros(3))
    np.savez(tmp_path / "c.npz", np.array([{}], dtype=object))
    (tmp_path / "d.nii.gz").write_bytes(b"no image")
    vectors = np.zeros((*FRAME.shape, 3), np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(vectors, isVector=True), str(tmp_path / "e.nii.gz"))
    problems = {"a.npz": "cannot be read", "b.npz": "holds 2 arrays", "c.npz": "cannot be read"}
    problems |= {"d.nii.gz": "cannot be read", "e.nii.gz": "vectors as ITK writes them"}
    for name, problem in problems.items():
        with pytest.raises(InputError, match=problem) as caught:
            read_voxel_field(tmp_path / name, FRAME)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)
