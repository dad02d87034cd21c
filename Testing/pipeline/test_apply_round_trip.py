"""`spikereg apply` with the transform of a real registration: the same images, and points and labels there and back."""

from __future__ import annotations

import brains
import numpy as np
import pytest
import SimpleITK as sitk
from brains import SAMPLE, brain_points

from SpikeRegLib.cli import main
from SpikeRegLib.images.points import read_points, write_points
from SpikeRegLib.images.volumes import read_labels
from SpikeRegLib.quality.metrics import dice


def apply(*arguments) -> int:
    return main(["apply", *(str(argument) for argument in arguments)])


def array(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_apply_gives_the_images_that_register_wrote(sample_run, tmp_path):
    out = sample_run.folder
    reference = ("--reference", SAMPLE / "fixed.nii.gz")
    for name, transform, kind, written in (
        ("moving", "transform.h5", (), "warped.nii.gz"),
        ("moving", "displacement.nii.gz", (), "warped.nii.gz"),
        ("moving_seg", "transform.h5", ("--labels",), "warped_seg.nii.gz"),
    ):
        made = tmp_path / f"{name}.nii.gz"
        assert apply(out / transform, SAMPLE / f"{name}.nii.gz", made, *reference, *kind) == 0
        expected = array(out / written).astype(float)
        if kind:
            assert (array(made) != expected).mean() < 1e-4
        else:
            assert np.abs(array(made) - expected).max() < 1e-3 * expected.max()


@pytest.mark.parametrize("suffix", [".csv", ".fcsv", ".mrk.json"])
def test_points_go_to_the_moving_image_and_back(sample_run, tmp_path, suffix):
    points = brain_points(brains.sample("fixed"), 200)
    there, back = tmp_path / f"there{suffix}", tmp_path / f"back{suffix}"
    write_points(points, tmp_path / f"points{suffix}")
    transform = sample_run.folder / "transform.h5"
    assert apply(transform, tmp_path / f"points{suffix}", there, "--points") == 0
    itk = sitk.ReadTransform(str(transform))
    expected = np.array([itk.TransformPoint(point) for point in points.tolist()])
    assert np.abs(read_points(there).numpy() - expected).max() < 1e-2
    assert apply(transform, there, back, "--points", "--inverse") == 0
    assert float((read_points(back) - points).norm(dim=1).mean()) < 0.3
    assert apply(sample_run.folder / "inverse_transform.h5", there, back, "--points") == 0
    assert float((read_points(back) - points).norm(dim=1).mean()) < 0.3


def test_labels_carried_to_the_moving_image_and_back_are_nearly_the_same(sample_run, tmp_path):
    transform, first, second = sample_run.folder / "transform.h5", tmp_path / "there.nii.gz", tmp_path / "back.nii.gz"
    seg = SAMPLE / "fixed_seg.nii.gz"
    assert apply(transform, seg, first, "--labels", "--inverse", "--reference", SAMPLE / "moving.nii.gz") == 0
    assert apply(transform, first, second, "--labels", "--reference", SAMPLE / "fixed.nii.gz") == 0
    assert set(np.unique(array(second))) <= set(np.unique(array(seg)))
    overlap = dice(read_labels(seg), read_labels(second))
    assert np.mean(list(overlap.values())) > 0.75  # twice the nearest voxel, on 1.8 mm and 2.4 mm grids
    carried = dice(read_labels(SAMPLE / "moving_seg.nii.gz"), read_labels(first))
    assert np.mean(list(carried.values())) == pytest.approx(
        sample_run.registration.result["dice"]["after_mean"], abs=0.1
    )
