"""Volumes: the file formats, the frames they carry, and every refusal with its one clear line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import (
    Volume,
    background_value,
    foreground_mask,
    from_sitk,
    normalise_intensity,
    read_image,
    read_labels,
    to_sitk,
    without_outliers,
    write_volume,
)
from SpikeRegLib.system.atomic_files import atomic_output

DATA = Path(os.environ.get("SPIKEREG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
OBLIQUE = tuple(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()[:, [2, 0, 1]].ravel())
FRAME = Frame((61, 47, 33), (-31.5, 12.25, 200.0), (1.5, 0.9, 2.2), OBLIQUE)


def noise(shape=FRAME.shape) -> np.ndarray:
    return np.random.default_rng(3).normal(100, 30, shape).astype(np.float32)


def save(array: np.ndarray, path: Path, **keywords) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, **keywords), str(path))
    return path


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "nrrd", "mha"])
def test_written_image_reads_back_with_its_oblique_frame(tmp_path, extension):
    volume = Volume(torch.from_numpy(noise()), FRAME)
    path = tmp_path / f"image.{extension}"
    write_volume(volume, path)
    again = read_image(path)
    assert torch.equal(again.data, volume.data)
    assert again.data.dtype == torch.float32
    assert again.frame.shape == FRAME.shape
    assert np.allclose(again.frame.matrix, FRAME.matrix, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file is left


def test_frame_is_the_one_itk_reads_from_sform_and_qform(tmp_path):
    affine = np.diag([-1, -1, 1, 1.0]) @ FRAME.matrix  # LPS -> RAS
    image = nibabel.Nifti1Image(noise().T, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=2)
    nibabel.save(image, tmp_path / "image.nii.gz")
    volume = read_image(tmp_path / "image.nii.gz")
    assert np.allclose(volume.frame.matrix, FRAME.matrix, atol=1e-3)
    assert np.array_equal(volume.data.numpy(), noise())


@pytest.mark.parametrize("extension", ["mgz", "mgh"])
def test_freesurfer_volume_has_the_frame_of_the_same_nifti(tmp_path, extension):
    affine = np.diag([-1, -1, 1, 1.0]) @ FRAME.matrix
    nibabel.save(nibabel.MGHImage(noise().T, affine), tmp_path / f"image.{extension}")
    volume = read_image(tmp_path / f"image.{extension}")
    assert np.allclose(volume.frame.matrix, FRAME.matrix, atol=1e-3)
    assert np.array_equal(volume.data.numpy(), noise())
    labels = (noise() > 100).astype(np.int32) * 17
    nibabel.save(nibabel.MGHImage(labels.T, affine), tmp_path / f"labels.{extension}")
    assert np.array_equal(read_labels(tmp_path / f"labels.{extension}").data.numpy(), labels)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.float32])
def test_sitk_round_trip_keeps_values_and_frame(dtype):
    array = noise().astype(dtype)
    image = sitk.GetImageFromArray(array)
    image.SetDirection(FRAME.direction)
    volume = from_sitk(image, "name")
    assert np.array_equal(sitk.GetArrayFromImage(to_sitk(volume)), array)
    assert volume.name == "name"
    assert np.allclose(to_sitk(volume).GetDirection(), FRAME.direction)


def test_labels_keep_large_values_and_refuse_fractions(tmp_path):
    labels = np.zeros(FRAME.shape, np.int32)
    labels[20:30, 10:20, 5:9] = 70001
    assert read_labels(save(labels, tmp_path / "a.nrrd")).data.max() == 70001
    small = read_labels(save(labels.clip(0, 7).astype(np.float32), tmp_path / "b.nrrd"))
    assert small.data.dtype == torch.int16
    assert small.data.max() == 7
    fractions = labels.clip(0, 7).astype(np.float32)
    fractions[22, 12, 6:8] = 0.5
    with pytest.raises(InputError, match=r"c\.nrrd: 2 voxels are not whole numbers"):
        read_labels(save(fractions, tmp_path / "c.nrrd"))
    with pytest.raises(InputError, match="empty"):
        read_labels(save(np.zeros(FRAME.shape, np.int16), tmp_path / "d.nrrd"))


def test_nonfinite_voxels_are_counted_and_replaced_only_on_request(tmp_path):
    array = noise()
    array[3, 4, 5:8] = np.nan
    array[9, 9, 9] = np.inf
    path = save(array, tmp_path / "image.nrrd")
    with pytest.raises(InputError, match=r"image\.nrrd: 4 of 94611 voxels are NaN or infinite"):
        read_image(path)
    volume = read_image(path, allow_nonfinite=True)
    assert volume.nonfinite == 4
    assert volume.data[3, 4, 5:8].tolist() == [background_value(volume)] * 3
    assert torch.isfinite(volume.data).all()


def test_what_a_ct_has_no_value_for_becomes_air(tmp_path):
    array = noise() + 40
    array[:4] = -1024
    array[:, :, -3:] = np.nan
    array[-1, :, :] = np.nan
    array[0, 0, 0] = -1023
    volume = read_image(save(array, tmp_path / "ct.nrrd"), allow_nonfinite=True)
    assert bool((volume.data[:, :, -3:] == -1024).all()) and background_value(volume) == -1024


def test_an_image_of_few_grey_values_is_read_on_request(tmp_path):
    phantom = np.zeros(FRAME.shape, np.uint8)
    phantom[8:20, 8:20, 8:20] = 100
    path = save(phantom, tmp_path / "phantom.nrrd")
    with pytest.raises(InputError, match=r"phantom\.nrrd: .*label map.* --allow-few-values"):
        read_image(path)
    assert read_image(path, allow_few_values=True).data.unique().tolist() == [0, 100]


def four_dimensional(frames: int) -> sitk.Image:
    return sitk.JoinSeries([sitk.GetImageFromArray(noise())] * frames)


def test_one_frame_of_four_dimensions_is_a_volume(tmp_path):
    sitk.WriteImage(four_dimensional(1), str(tmp_path / "image.nrrd"))
    assert np.array_equal(read_image(tmp_path / "image.nrrd").data.numpy(), noise())


def _truncated(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path), path.name.startswith("cut"))
    path.write_bytes(path.read_bytes()[:-5000])


def _truncated_mgz(path: Path) -> None:
    nibabel.save(nibabel.MGHImage(noise().T, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-5000])


def _sheared_nrrd(path: Path) -> None:
    save(noise(), path)
    head, body = path.read_bytes().split(b"\n\n", 1)
    lines = [b"space directions: (1,0,0) (0.3,1,0) (0,0,1)" if b"space dir" in x else x for x in head.split(b"\n")]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + body)


def _singular_nrrd(path: Path) -> None:
    save(noise(), path)
    head, body = path.read_bytes().split(b"\n\n", 1)
    lines = [b"space directions: (1,0,0) (1,0,0) (0,0,1)" if b"space dir" in x else x for x in head.split(b"\n")]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + body)


def _sheared_nifti(path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    image = nibabel.Nifti1Image(noise().T, affine)
    image.header["qform_code"] = 0
    nibabel.save(image, path)


BAD = {
    "missing.nii.gz": (lambda path: None, "no such file"),
    "text.nii.gz": (lambda path: path.write_text("hello"), "cannot be read"),
    "cut.nii.gz": (_truncated, "truncated"),
    "short.nii": (_truncated, "truncated"),
    "cut.nrrd": (_truncated, "cannot be read"),
    "short.nrrd": (_truncated, "cannot be read"),
    "cut.mha": (_truncated, "cannot be read"),
    "short.mha": (_truncated, "cannot be read"),
    "cut.mgz": (_truncated_mgz, "cannot be read"),
    "flat.nrrd": (lambda path: save(noise((40, 50)), path), "2-D"),
    "flat.png": (lambda path: save(noise((40, 50)).clip(0, 255).astype(np.uint8), path), "2-D"),
    "series.nii.gz": (lambda path: sitk.WriteImage(four_dimensional(5), str(path)), "4-D volume of 5 frames"),
    "colour.nrrd": (lambda path: save(np.zeros((20, 20, 20, 3), np.uint8), path, isVector=True), "3 components"),
    "thin.nii.gz": (lambda path: save(noise((40, 50, 15)), path), "15x50x40 has an axis under 16"),
    "empty.nii.gz": (lambda path: save(np.zeros((20, 20, 20), np.float32), path), "every voxel is 0"),
    "constant.nii.gz": (lambda path: save(np.full((20, 20, 20), 7, np.int16), path), "every voxel is 7"),
    "sheared.nrrd": (_sheared_nrrd, "sheared"),
    "singular.nrrd": (_singular_nrrd, "singular"),
    "sheared.nii.gz": (_sheared_nifti, "sheared"),
    "bad.mgz": (lambda path: path.write_bytes(b"no"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_image_is_refused_in_one_line_that_names_it(tmp_path, name):
    make, problem = BAD[name]
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert problem in message
    assert ";" in message  # the remedy
    assert "\n" not in message


def test_gzip_in_several_members_is_complete(tmp_path):
    save(noise(), tmp_path / "plain.nii")
    content = (tmp_path / "plain.nii").read_bytes()
    parts = gzip.compress(content[:100_000]) + gzip.compress(content[100_000:])
    (tmp_path / "image.nii.gz").write_bytes(parts)
    assert np.array_equal(read_image(tmp_path / "image.nii.gz").data.numpy(), noise())


def test_label_map_given_as_image_is_refused_and_noisy_integers_are_not(tmp_path):
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[8:32, 8:32, 8:32] = 3
    labels[12:20, 12:28, 12:28] = 10
    with pytest.raises(InputError, match="label map"):
        read_image(save(labels, tmp_path / "labels.nii.gz"))
    image = (labels > 0) * np.random.default_rng(0).integers(80, 120, labels.shape)  # 41 values, masked, 8 bit
    assert read_image(save(image.astype(np.uint8), tmp_path / "image.nii.gz")).data.max() == 119


def test_a_smooth_image_of_few_grey_values_is_no_label_map(tmp_path):
    """Saturated inside and outside, with grey values between over a few voxels, as micro-CT of 8 bits has them."""
    distance = np.linalg.norm(np.indices((48, 48, 48)) - 23.5, axis=0)
    grey = np.clip(60 * (22 - distance) + 30, 0, 220).astype(np.uint8)
    inside = grey[1:-1, 1:-1, 1:-1]
    assert np.mean(inside[inside > 0] == 220) > 0.5  # constant patches
    assert read_image(save(grey, tmp_path / "image.nii.gz")).data.max() == 220
    with pytest.raises(InputError, match="label map"):
        read_image(save((grey // 110 * 17).astype(np.uint8), tmp_path / "labels.nii.gz"))


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"SPIKEREG_DATA: no data at {DATA}")
def test_a_micro_ct_of_8_bits_is_read():
    assert read_image(DATA / "heads" / "Iguana.nii.gz").frame.size == (210, 256, 179)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"SPIKEREG_DATA: no data at {DATA}")
def test_label_maps_are_told_from_real_brains():
    images = [*sorted(DATA.glob("dev/*_t1brain.nii.gz"))[::4], *sorted(DATA.glob("small/*.nii.gz"))]
    assert images
    for path in images:
        volume = read_image(path)
        brain = foreground_mask(volume)
        assert 0.05 < float(brain.float().mean()) < 0.7, path
    for path in [*sorted(DATA.glob("dev/*_seg.nii.gz"))[::4], *sorted(DATA.glob("train/*.nii.gz"))[::8]]:
        with pytest.raises(InputError, match="label map"):
            read_image(path)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"SPIKEREG_DATA: no data at {DATA}")
def test_foreground_of_a_skull_stripped_brain_is_its_nonzero_region():
    path = sorted(DATA.glob("dev/*_t1brain.nii.gz"))[0]
    volume = read_image(path)
    assert float((foreground_mask(volume) ^ (volume.data > 0)).float().mean()) < 1e-3


def ball(radius: float, centre: float = 24.0) -> torch.Tensor:
    axis = torch.arange(48.0) - centre
    return (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2) < radius**2


def test_foreground_is_the_largest_region_with_its_holes_filled():
    head, ventricle = ball(18), ball(5)
    data = torch.where(head & ~ventricle, 100 + torch.randn(head.shape), torch.zeros(()))
    data[0:2, 0:2, 0:2] = 100  # a speck in a corner
    mask = foreground_mask(Volume(data, Frame((48, 48, 48))))
    assert torch.equal(mask, head)


@pytest.mark.parametrize(("background", "at"), [(0.0, 1.0), (-1000.0, -989.0)])
def test_foreground_begins_a_hundredth_of_the_range_above_an_exact_background(background: float, at: float):
    head, rim = ball(18), ball(20) & ~ball(18)
    for value, counts in ((at - 0.2, False), (at, False), (at + 0.2, True)):
        data = torch.full(head.shape, background)
        data[head], data[rim] = 100.0, value
        mask = foreground_mask(Volume(data, Frame((48, 48, 48))))
        assert torch.equal(mask, head | rim if counts else head), value


def head_with_electrodes(share: float) -> tuple[Volume, Volume, torch.Tensor]:
    """A head of three tissues in noise, without and with bright voxels, and where they are."""
    generator = torch.Generator().manual_seed(0)
    data = 3 * torch.rand(48, 48, 48, generator=generator)
    for radius, tissue in ((18, 70.0), (14, 110.0), (6, 40.0)):
        data = torch.where(ball(radius), tissue + 8 * torch.randn(data.shape, generator=generator), data)
    bright = ball(18) & ~ball(16) & (torch.rand(data.shape, generator=generator) < share * 3.4)
    frame = Frame((48, 48, 48))
    return Volume(data, frame), Volume(torch.where(bright, 500.0, data), frame), bright


@pytest.mark.parametrize("share", [0.001, 0.004, 0.01])
def test_a_few_bright_electrodes_change_neither_foreground_nor_scale(share):
    plain, bright, where = head_with_electrodes(share)
    assert 0.5 * share < float(where.sum()) / float(ball(18).sum()) < 2 * share
    assert float((foreground_mask(bright) ^ foreground_mask(plain)).float().mean()) < 1e-3
    scaled = [normalise_intensity(volume).data[~where] for volume in (plain, bright)]
    assert float((scaled[0] - scaled[1]).abs().max()) < 0.03


def test_intensities_without_outliers_are_left_alone():
    plain, bright, where = head_with_electrodes(0.01)
    values = plain.data[ball(18)]
    assert without_outliers(values) is values
    kept = without_outliers(bright.data[ball(18)])
    assert len(kept) == len(values) - int(where.sum()) and float(kept.max()) < 500
    assert without_outliers(values[:50]).numel() == 50
    two = torch.cat((torch.zeros(900), torch.ones(1000)))  # half of the values in one
    assert without_outliers(two) is two
    noise = torch.cat((values / values.max(), 50 + values))  # too much of it, and too far, to be an outlier
    assert without_outliers(noise) is noise


def test_foreground_is_found_above_a_noisy_background():
    torch.manual_seed(0)
    head = ball(18)
    data = torch.where(head, 100.0, 10.0) + 4 * torch.randn(head.shape)
    mask = foreground_mask(Volume(data, Frame((48, 48, 48))))
    assert float((mask ^ head).float().mean()) < 2e-3


def test_normalised_percentiles_inside_the_mask_are_zero_and_one():
    torch.manual_seed(0)
    head = ball(18)
    data = torch.where(head, 500 + 100 * torch.randn(head.shape), torch.zeros(()))
    data[24, 24, 24] = 1e6  # an outlier must not squeeze the rest
    result = normalise_intensity(Volume(data, Frame((48, 48, 48))), head).data
    assert float(result.min()) == 0
    assert float(result.max()) == 1
    low, high = torch.quantile(data[head], torch.tensor([0.005, 0.995]))
    inside = (data > low) & (data < high)
    assert torch.allclose(result[inside], (data[inside] - low) / (high - low), atol=1e-5)
    with pytest.raises(InputError, match="mask is empty"):
        normalise_intensity(Volume(data, Frame((48, 48, 48))), torch.zeros_like(head))


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_output(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_target_is_refused(tmp_path):
    volume = Volume(torch.from_numpy(noise()), FRAME)
    with pytest.raises(InputError, match="does not exist"):
        write_volume(volume, tmp_path / "nowhere" / "image.nii.gz")
    with pytest.raises(InputError, match="unknown image file type"):
        write_volume(volume, tmp_path / "image.xyz")
    with pytest.raises(InputError, match="is a folder"):
        (tmp_path / "folder.nii.gz").mkdir()
        write_volume(volume, tmp_path / "folder.nii.gz")
