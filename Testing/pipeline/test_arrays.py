"""Bare arrays: where their voxels lie is what nibabel and the caller say, and nothing is turned round."""

from __future__ import annotations

import warnings

import brains
import nibabel as nib
import numpy as np
import pytest
import torch

from SpikeRegLib import SpikeRegInference
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.arrays import array_frame, label_values
from SpikeRegLib.images.volumes import read_image, write_volume

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1)])
def test_a_voxel_lies_where_its_affine_says(axes, signs):
    affine = np.eye(4)
    affine[:3, :3] = (TURN * [1.0, 2.0, 3.0] * signs)[:, axes]
    affine[:3, 3] = (7.0, -20.0, 31.0)
    frame = array_frame((20, 30, 40), "fixed", affine=affine)
    index = np.array([3.0, 11.0, 17.0])
    wanted = (affine @ [*index, 1.0])[:3] * RAS_TO_LPS
    assert (frame.matrix @ [*index[::-1], 1.0])[:3] == pytest.approx(wanted)
    assert frame.shape == (20, 30, 40)


def test_a_spacing_follows_the_axes_of_the_array():
    assert array_frame((20, 30, 40), "fixed", spacing=(3.0, 2.0, 1.0)).spacing == (1.0, 2.0, 3.0)
    assert array_frame((20, 30, 40), "fixed", spacing=2).spacing == (2.0, 2.0, 2.0)
    frame = array_frame((20, 30, 40), "fixed", spacing=(3.0, 2.0, 1.0))
    assert (frame.matrix @ [1, 2, 3, 1]).tolist() == [1.0, 4.0, 9.0, 1.0]
    assert frame == array_frame(
        (20, 30, 40), "fixed", affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ frame.matrix[:, [2, 1, 0, 3]]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spacing": 0.0}, "spacing"),
        ({"spacing": -1.0}, "spacing must be positive"),
        ({"spacing": (1.0, 2.0)}, "needs a spacing of one or three numbers"),
        ({"spacing": float("nan")}, "unusable"),
        ({"affine": np.eye(3)}, "4x4"),
        ({"affine": np.zeros((4, 4))}, "unusable"),
        ({"affine": np.eye(4), "spacing": 1.0}, "give one of them"),
        ({"affine": np.eye(4) + 0.5 * np.eye(4, k=1)}, "sheared"),
    ],
)
def test_grids_that_are_none_are_refused(given, message):
    with pytest.raises(InputError, match=f"moving: .*{message}"):
        array_frame((20, 20, 20), "moving", **given)


@pytest.fixture(scope="module")
def files(known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_volume(known.fixed, folder / "fixed.nii.gz")
    write_volume(known.moving, folder / "moving.nii.gz")
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def test_arrays_of_nibabel_register_like_their_files(files, quick, known, tmp_path):
    """Their axes are x, y, z in RAS, and a grid counted in that order is left-handed."""
    options = {"method": "optimize", "preset": quick, "threads": 1, "skip_affine": True}
    inference = SpikeRegInference("brain-t1")
    by_file = inference.register(*files, **options)
    fixed, moving = (nib.load(file) for file in files)
    labels = (fixed.get_fdata() > 60).astype(np.uint8), moving.get_fdata() > 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_array = inference.register(
            fixed.get_fdata().astype(">f8"), moving.get_fdata(), fixed_affine=fixed.affine,
            moving_affine=moving.affine, fixed_labels=labels[0], moving_labels=labels[1], **options,
        )  # fmt: skip
    assert brains.error_mm(by_array.transform, by_file.transform, known.points) < 0.05
    assert by_array.warped.data.shape == fixed.shape
    scale = float(by_file.warped.data.max())
    difference = (by_array.warped.data.permute(2, 1, 0) - by_file.warped.data).abs()
    assert float(difference.mean()) < 1e-3 * scale
    assert by_array.result["dice"]["after_mean"] > by_array.result["dice"]["before_mean"]
    assert by_array.result["deformation"]["jacobian_min"] == pytest.approx(
        by_file.result["deformation"]["jacobian_min"], abs=0.02
    )
    write_volume(by_array.warped, tmp_path / "warped.nii.gz")
    again = read_image(tmp_path / "warped.nii.gz")
    points = torch.tensor(by_array.warped.frame.corners())
    assert {tuple(p) for p in np.round(again.frame.corners(), 3)} == {tuple(p) for p in np.round(points.numpy(), 3)}


def test_arrays_alone_are_voxels_of_one_millimetre_and_that_is_said(quick):
    noise = brains.sample("fixed").data[::4, ::4, ::4].numpy()
    inference = SpikeRegInference("brain-t1", method="optimize", preset=quick, threads=1, skip_affine=True)
    with pytest.warns(UserWarning) as caught:
        found = inference.register(noise[:, ::-1], noise[:, ::-1])
    told = [str(warning.message) for warning in caught if "bare array" in str(warning.message)]
    assert [text.split(":")[0] for text in told] == ["fixed", "moving"] and "1 mm" in told[0]
    assert found.result["warnings"][:2] == told
    assert found.fixed.frame.spacing == (1.0, 1.0, 1.0)
    with pytest.warns(UserWarning) as caught:
        inference.register(noise, noise, fixed_spacing=2.0)
    assert [str(w.message).split(":")[0] for w in caught if "bare array" in str(w.message)] == ["moving"]


def test_arrays_that_are_no_images_are_named():
    inference, array = SpikeRegInference("brain-t1"), np.zeros((16, 16, 16))
    for fixed, message in (
        (np.zeros((16, 16)), r"fixed: an array \[16, 16\] does not fit; give \[D, H, W\]"),
        (np.zeros((16, 16, 16), dtype=complex), "fixed: an array of complex128 is no image"),
        (np.full((16, 16, 16), "a"), "fixed: an array of .* is no image"),
    ):
        with pytest.raises(InputError, match=message):
            inference.register(fixed, array)
    with pytest.raises(InputError, match="fixed: has a spacing of its own"):
        inference.register("fixed.nii.gz", array, fixed_spacing=1.0)
    with pytest.raises(InputError, match=r"moving_labels: an array \[4, 4, 4\] does not fit; give \[16, 16, 16\]"):
        inference.register(array, array, moving_labels=np.zeros((4, 4, 4)))
    with pytest.raises(InputError, match="fixed_mask: an array needs its grid"):
        inference.register("fixed.nii.gz", array, fixed_mask=array)
    with pytest.raises(InputError, match="seg: not all voxels are whole numbers"):
        label_values(np.full((4, 4, 4), 0.5), "seg")
    with pytest.raises(InputError, match="deformation_field: needs a registration, a transform or vectors"):
        inference.apply_deformation(array, {"u": 1}, affine=np.eye(4))


def test_vectors_are_in_millimetres_whatever_the_spacing_of_the_array():
    array = np.zeros((16, 18, 20), dtype=np.float32)
    array[8, 9, 10] = 1.0
    shift = np.zeros((3, 16, 18, 20), dtype=np.float32)
    shift[0] = 4.0  # x, the last axis: fixed x is moving x + 4 mm = two voxels of 2 mm
    warped = SpikeRegInference("brain-t1").apply_deformation(array, shift, spacing=2.0)
    assert np.argwhere(warped.data.numpy() > 0.5).tolist() == [[8, 9, 8]]
    assert warped.frame.spacing == (2.0, 2.0, 2.0)
