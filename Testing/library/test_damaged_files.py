"""Files that have suffered: refused with one line, whatever ITK makes of them. Whole ones are read as ITK does."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import read_array
from SpikeRegLib.images.volumes import read_image, read_labels
from SpikeRegLib.space.transforms import Transform, read_transform, write_transform

SHAPE = (20, 22, 24)


def values(dtype: type = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).normal(100, 30, shape).clip(0, 250).astype(dtype)


def save(array: np.ndarray, path: Path, packed: bool = True) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 4), str(path), packed)
    return path


def body_begins(path: Path) -> int:
    """The first byte after a text header."""
    content = path.read_bytes()
    if path.suffix == ".mha":
        return content.index(b"ElementDataFile = LOCAL\n") + 24
    return content.index(b"\n\n") + 2 if path.suffix == ".nrrd" else 0


def refusal(path: Path, read=read_image) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and ";" in message and "\n" not in message
    return message


KINDS = ["image.nii.gz", "image.mha", "image.nrrd"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_flipped_byte_in_a_compressed_file_is_always_found(tmp_path, capfd, name, dtype):
    path = save(values(dtype), tmp_path / name)
    whole, begin = path.read_bytes(), body_begins(path)
    for part in range(1, 10):
        at = begin + (len(whole) - begin) * part // 10
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        assert "damaged; copy or download it again" in refusal(path)
        assert refusal(path, read_labels) == refusal(path)
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])  # the checksum or the length alone
    assert "damaged" in refusal(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_byte_in_a_compressed_displacement_is_found(tmp_path, name):
    path = save(values(np.float32, (*SHAPE, 3)), tmp_path / name)
    read_transform(path)
    whole, begin = path.read_bytes(), body_begins(path)
    at = (begin + len(whole)) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
    assert "damaged" in refusal(path, read_transform)


def test_a_flipped_byte_in_a_freesurfer_volume_is_found(tmp_path):
    path = tmp_path / "image.mgz"
    nibabel.save(nibabel.MGHImage(values().T, np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", [*KINDS, "image.nii"])
@pytest.mark.parametrize("missing", [1, 1000])
def test_a_file_that_ends_early_is_found(tmp_path, name, packed, missing):
    path = save(values(), tmp_path / name, packed)
    path.write_bytes(path.read_bytes()[:-missing])
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize("missing", [1, 48, 5000])
def test_packed_voxels_fewer_than_the_header_says_are_found(tmp_path, missing):
    """The checksum holds: the file was packed after it had lost its end."""
    plain = save(values(), tmp_path / "plain.nii").read_bytes()
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(plain[:-missing]))
    assert "truncated" in refusal(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", [*KINDS, "image.nii"])
def test_a_file_longer_than_its_header_says_is_refused_but_padding_is_not(tmp_path, name, packed):
    path = save(values(), tmp_path / name, packed)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    assert np.array_equal(read_array(path)[0], values())
    path.write_bytes(whole + b"\0\1" * 50)
    assert "100 bytes more than the 21120 of voxels" in refusal(path)
    path.write_bytes(whole + bytes(5000))
    assert "5000 bytes more" in refusal(path)


def test_a_packed_file_with_a_header_of_fewer_slices_is_refused(tmp_path):
    plain = bytearray(save(values(), tmp_path / "plain.nii").read_bytes())
    struct.pack_into("<h", plain, 46, 19)
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(bytes(plain)))
    assert f"{2 * 22 * 24} bytes more" in refusal(tmp_path / "image.nii.gz")


def test_voxels_in_a_file_of_their_own_are_checked_too(tmp_path):
    for name in ("image.mhd", "image.nhdr", "image.hdr"):
        for packed in (True, False):
            path = save(values(), tmp_path / name, packed)
            assert np.array_equal(read_array(path)[0], values())
            (body,) = [p for p in tmp_path.iterdir() if p != path]
            body.write_bytes(body.read_bytes()[:-3])
            assert "truncated or damaged" in refusal(path)
            for p in tmp_path.iterdir():
                p.unlink()


def test_what_itk_only_prints_counts_where_only_itk_reads(tmp_path, capfd):
    """MetaImage with a `HeaderSize` is left to ITK, which goes on after a checksum that does not hold."""
    path = save(values(), tmp_path / "image.mhd")
    path.write_text(path.read_text().replace("ElementDataFile", "HeaderSize = 2\nElementDataFile"))
    body = tmp_path / "image.zraw"
    whole = body.read_bytes()
    body.write_bytes(b"ab" + whole)
    assert np.array_equal(read_array(path)[0], values())
    body.write_bytes(b"ab" + whole[:5000] + bytes([whole[5000] ^ 16]) + whole[5001:])
    refusal(path)
    assert capfd.readouterr().err == ""


DTYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_voxels_are_those_that_itk_reads(tmp_path, dtype, name):
    array = values(dtype).clip(0, 120)
    for packed in (True, False):
        path = save(array, tmp_path / name, packed)
        read, frame = read_array(path)
        image = sitk.ReadImage(str(path))
        assert read.dtype == dtype
        assert np.array_equal(read, sitk.GetArrayFromImage(image))
        assert (frame.origin, frame.spacing) == (image.GetOrigin(), image.GetSpacing())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scale", [(2.5, 0), (1, -1024), (0.37, 12.3), (0, 5), (-1, 0), (1, 0)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_scaled_voxels_are_those_that_itk_reads(tmp_path, order, scale, dtype):
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    path = tmp_path / "image.nii"
    nibabel.save(nibabel.Nifti1Image(values(dtype).T, np.eye(4), header), path)
    raw = bytearray(path.read_bytes())
    struct.pack_into(order + "ff", raw, 112, *scale)
    path.write_bytes(raw)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    read = read_array(path)[0]
    assert read.dtype == expected.dtype
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("packed", [True, False])
def test_displacements_are_those_that_itk_reads(tmp_path, name, packed):
    path = save(values(np.float32, (*SHAPE, 3)), tmp_path / name, packed)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(read_transform(path).field.numpy(), np.moveaxis(expected, -1, 0))


def test_displacements_in_ras_are_turned(tmp_path):
    """Intent 1006 is in NIfTI's own RAS, 1007 as ITK writes it in LPS."""
    vectors = np.random.default_rng(2).normal(0, 3, (16, 17, 18, 1, 3)).astype(np.float32)
    for intent, sign in ((1007, (1, 1, 1)), (1006, (-1, -1, 1))):
        image = nibabel.Nifti1Image(vectors, np.eye(4))
        image.header["intent_code"] = intent
        nibabel.save(image, tmp_path / "field.nii.gz")
        expected = vectors[:, :, :, 0].transpose(3, 2, 1, 0) * np.array(sign)[:, None, None, None]
        assert np.array_equal(read_transform(tmp_path / "field.nii.gz").field.numpy(), expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_displacements_that_are_not_finite_are_refused_whatever_the_format(tmp_path, name, value):
    field = values(np.float32, (*SHAPE, 3))
    field[3, 4, 5, 1] = value
    assert "NaN or infinite" in refusal(save(field, tmp_path / name), read_transform)


@pytest.mark.parametrize("name", ["flat.nii.gz", "flat.mha", "flat.nrrd", "scalar.nii.gz"])
def test_what_is_no_displacement_is_refused(tmp_path, name):
    path = save(values(np.float32, SHAPE if name.startswith("scalar") else SHAPE[:2]), tmp_path / name)
    assert "not a displacement field" in refusal(path, read_transform)


def test_nonfinite_voxels_of_a_nifti_label_map_are_no_background(tmp_path):
    labels = np.zeros(SHAPE, np.float32)
    labels[5:9, 5:9, 5:9] = 3
    labels[0, 0, :7] = np.nan
    assert "7 voxels are not whole numbers" in refusal(save(labels, tmp_path / "seg.nii.gz"), read_labels)


HEADERS = {
    "NDims = 99": ("a.mha", b"NDims = 3", b"NDims = 99"),
    "NDims = -1": ("a.mha", b"NDims = 3", b"NDims = -1"),
    "DimSize = 24 22": ("a.mha", b"DimSize = 24 22 20", b"DimSize = 24 22"),
    "DimSize = 24 -22 20": ("a.mha", b"DimSize = 24 22 20", b"DimSize = 24 -22 20"),
    "ElementNumberOfChannels": ("a.mha", b"NDims = 3", b"NDims = 3\nElementNumberOfChannels = 1000000"),
    "TransformMatrix": ("a.mha", b"TransformMatrix = 1 0", b"TransformMatrix = 1 0 0 0 0 0"),
    "NDims is given twice": ("a.mha", b"NDims = 3", b"NDims = 3\nNDims = 99"),
    "damaged": ("a.mha", b"ElementDataFile = LOCAL", b"ElementDataFile = LO\0AL"),
    "dimension: 99": ("a.nrrd", b"dimension: 3", b"dimension: 99"),
    "sizes: 24 22 -20": ("a.nrrd", b"sizes: 24 22 20", b"sizes: 24 22 -20"),
    "truncated": ("a.mha", b"DimSize = 24 22 20", b"DimSize = 240000 220000 200000"),
    "truncated ": ("a.nrrd", b"sizes: 24 22 20", b"sizes: 240000 220000 200000"),
    "axes": ("a.nii", struct.pack("<4h", 3, 24, 22, 20), struct.pack("<4h", 3, 24, -22, 20)),
    "99 axes": ("a.nii", struct.pack("<4h", 3, 24, 22, 20), struct.pack("<4h", 99, 24, 22, 20)),
    "truncated  ": ("a.nii", struct.pack("<4h", 3, 24, 22, 20), struct.pack("<4h", 3, 32000, 32000, 32000)),
}


@pytest.mark.parametrize("problem", HEADERS)
def test_an_impossible_header_is_refused_before_itk_sees_it(tmp_path, problem):
    name, old, new = HEADERS[problem]
    path = save(values(), tmp_path / name, False)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    assert problem.strip() in refusal(path)


def grid_transform(kind: str) -> sitk.Transform:
    if kind == "spline":
        return sitk.BSplineTransformInitializer(sitk.Image([20, 20, 20], sitk.sitkFloat32), [4, 4, 4])
    return sitk.DisplacementFieldTransform(sitk.Image([5, 6, 7], sitk.sitkVectorFloat64))


@pytest.mark.parametrize("kind", ["spline", "field"])
@pytest.mark.parametrize("name", ["a.tfm", "a.txt", "a.mat"])
def test_a_transform_on_a_grid_of_another_size_is_refused_before_itk_sees_it(tmp_path, kind, name):
    transform = sitk.CompositeTransform([sitk.AffineTransform(3), grid_transform(kind)])
    path = tmp_path / name
    sitk.WriteTransform(grid_transform(kind) if name == "a.mat" else transform, str(path))
    read_transform(path)
    whole = path.read_bytes()
    size = np.array(grid_transform(kind).GetFixedParameters()[:3])
    for other in (np.full(3, 1e9), size + [0, 0, 1], -size, np.full(3, np.nan)):
        if name == "a.mat":
            old, new = (np.array(v, "<f8").tobytes() for v in (size, other))
        else:
            old, new = (" ".join(f"{v:g}" for v in vs).encode() for vs in (size, other))
            old, new = b"FixedParameters: " + old, b"FixedParameters: " + new
        assert whole.count(old) == 1
        path.write_bytes(whole.replace(old, new))
        assert "Transform_double_3_3 on a grid of " in refusal(path, read_transform)
    if name == "a.mat":
        path.write_bytes(whole[:-9])
        assert "ends early" in refusal(path, read_transform)


@pytest.fixture
def damaged(tmp_path) -> dict[str, list[str]]:
    """Damaged files, each with the command line that reads it."""
    good = save(values(), tmp_path / "good.nii.gz")
    write_transform(Transform.identity(), tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.nii", "cut.nii.gz", "cut.mha", "cut.nrrd"):
        path = save(values(np.float32), tmp_path / name)
        path.write_bytes(path.read_bytes()[:-800])
    out = str(tmp_path / "out.nii.gz")
    images = {
        name: ["apply", str(tmp_path / "whole.h5"), str(tmp_path / name), out, "--reference", str(good)]
        for name in ("cut.nii", "cut.nii.gz", "cut.mha", "cut.nrrd")
    }
    return {"cut.h5": ["apply", str(tmp_path / "cut.h5"), str(good), out, "--reference", str(good)], **images}


@pytest.mark.usefixtures("signal_handlers_restored")
def test_a_damaged_file_is_one_line_and_the_rest_is_for_debug(damaged, capfd):
    for name, command in damaged.items():
        assert main(command) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and name in error, error
    assert main([*damaged["cut.h5"], "--debug"]) == 2
    error = capfd.readouterr().err
    assert "HDF5" in error and "Traceback" in error


def test_a_process_without_stderr_reads_as_any_other(damaged):
    """fd 2 is closed: there is nothing to silence, and nothing to trip over."""
    code = (
        "import os, sys; os.close(2); from SpikeRegLib.images.volumes import read_image; "
        f"print(read_image({damaged['cut.h5'][2]!r}).frame.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], env=os.environ
    )
    assert done.stdout.strip() == str(SHAPE)
