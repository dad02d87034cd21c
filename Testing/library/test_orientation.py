"""Units, impossible sizes, and NIfTI headers with two orientations, or none."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import read_image, read_labels
from SpikeRegLib.space.transforms import read_transform

AFFINE = np.array([[0, 2.0, 0, -10], [-1.5, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
METRE = np.diag([1e-3, 1e-3, 1e-3, 1.0])


def noise(shape=(20, 22, 24)) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, shape).astype(np.float32)


def nifti(path: Path, sform=AFFINE, qform=AFFINE, codes=(1, 1), units=2, data=None) -> Path:
    image = nibabel.Nifti1Image(noise() if data is None else data, AFFINE)
    image.set_sform(sform, code=codes[0])
    image.set_qform(qform, code=codes[1])
    image.header["xyzt_units"] = units
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (2, 1)])
@pytest.mark.parametrize(("units", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 1e-3), (2 | 8, 1)])
def test_a_nifti_in_metres_or_microns_is_read_in_mm(tmp_path, codes, units, mm):
    """The origin, too, which ITK below 5.4 forgets."""
    stored = np.diag([1 / mm] * 3 + [1]) @ AFFINE
    volume = read_image(nifti(tmp_path / "image.nii.gz", stored, stored, codes, units))
    assert np.allclose(volume.frame.matrix, LPS @ AFFINE, atol=1e-3)
    assert volume.warnings == ()


@pytest.mark.parametrize(("word", "mm"), [("mm", 1), ("um", 1e-3), ("µm", 1e-3), ("cm", 10), ("m", 1e3), ("", 1)])
@pytest.mark.parametrize("name", ["image.nrrd", "image.mha"])
def test_units_of_nrrd_and_metaimage_are_honoured(tmp_path, name, word, mm):
    image = sitk.GetImageFromArray(noise())
    image.SetSpacing([s / mm for s in (1.5, 2.0, 3.0)])
    image.SetOrigin([s / mm for s in (10.0, -20.0, 30.0)])
    path = tmp_path / name
    sitk.WriteImage(image, str(path))
    if name == "image.nrrd":
        line = f'space units: "{word}" "{word}" "{word}"\nkinds:'.encode()
        path.write_bytes(path.read_bytes().replace(b"kinds:", line, 1))
    else:
        path.write_bytes(path.read_bytes().replace(b"DimSize", f"DistanceUnits = {word}\nDimSize".encode(), 1))
    frame = read_image(path).frame
    assert np.allclose(frame.spacing, (1.5, 2, 3))
    assert np.allclose(frame.origin, (10, -20, 30))


@pytest.mark.parametrize("units", ['"mm" "mm" "um"', '"parsec" "parsec" "parsec"'])
def test_units_that_are_none_are_refused_by_name(tmp_path, units):
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path))
    path.write_bytes(path.read_bytes().replace(b"kinds:", f"space units: {units}\nkinds:".encode(), 1))
    with pytest.raises(InputError, match=r"image\.nrrd: the header measures in (mm, um|parsec); write"):
        read_image(path)


@pytest.mark.parametrize("spacing", [1e-6, 4000.0])
def test_a_size_that_no_patient_has_is_refused_by_name(tmp_path, spacing):
    image = sitk.GetImageFromArray(noise())
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(tmp_path / "image.nrrd"))
    with pytest.raises(
        InputError, match=r"image\.nrrd: voxels of .* mm at the longest side; repair the header's voxel size or unit"
    ):
        read_image(tmp_path / "image.nrrd")
    field = sitk.GetImageFromArray(np.zeros((20, 22, 24, 3)), isVector=True)
    field.SetSpacing([spacing] * 3)
    sitk.WriteImage(field, str(tmp_path / "field.nrrd"))
    with pytest.raises(InputError, match=r"field\.nrrd: voxels of"):
        read_transform(tmp_path / "field.nrrd")


@pytest.mark.parametrize(("spacing", "words"), [(0.1, "2.4 mm"), (300.0, "7.2e+03 mm"), (1.0, ""), (0.3, "")])
def test_a_size_that_few_have_is_a_warning(tmp_path, spacing, words):
    image = sitk.GetImageFromArray(noise())
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(tmp_path / "image.nrrd"))
    warnings = read_image(tmp_path / "image.nrrd").warnings
    assert bool(warnings) == bool(words)
    assert all(words in warning and "image.nrrd" in warning for warning in warnings)


def turned(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return turn @ AFFINE


SHIFTED = AFFINE + np.array([[0, 0, 0, 3.0], [0, 0, 0, 4.0], [0, 0, 0, 0], [0, 0, 0, 0]])
CONTRADICTIONS = {
    "shifted": (SHIFTED, "up to 5 mm elsewhere; check"),
    "turned": (turned(20), "turned by 20 degrees; check"),
    "mirrored": (AFFINE @ np.diag([-1, 1, 1, 1]), ", mirrored; check"),
}


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (4, 1)])
@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_contradiction_is_a_warning_that_says_which_was_taken(tmp_path, kind, codes):
    other, words = CONTRADICTIONS[kind]
    volume = read_image(nifti(tmp_path / "image.nii", AFFINE, other, codes))
    (warning,) = volume.warnings
    taken = "sform" if np.allclose(volume.frame.matrix, LPS @ AFFINE, atol=1e-3) else "qform"
    assert f"the {taken} was taken" in warning and words in warning
    assert f"sform (code {codes[0]}) and qform (code {codes[1]})" in warning
    assert read_labels(nifti(tmp_path / "seg.nii", AFFINE, other, codes, data=np.ones((20, 22, 24), np.int16))).warnings


def test_a_header_without_orientation_is_a_warning(tmp_path):
    (warning,) = read_image(nifti(tmp_path / "image.nii", codes=(0, 0))).warnings
    assert "code 0" in warning and "check left and right" in warning


def test_voxel_sizes_that_differ_from_pixdim_are_a_warning(tmp_path):
    (warning,) = read_image(nifti(tmp_path / "image.nii", AFFINE @ np.diag([1.2, 1, 1, 1]), codes=(1, 0))).warnings
    assert "voxels of 1.8 x 2 x 3 mm, pixdim of 1.5 x 2 x 3 mm; pixdim's were taken" in warning


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (4, 2)])
def test_orientations_that_agree_are_no_warning(tmp_path, codes):
    assert read_image(nifti(tmp_path / "image.nii", codes=codes)).warnings == ()
    half = AFFINE @ np.diag([-1, -1, 1, 1])  # half a turn, whose quaternion has no real part
    assert read_image(nifti(tmp_path / "image.nii", half, half, codes)).warnings == ()


def test_a_displacement_whose_place_is_in_doubt_is_refused(tmp_path):
    vectors = np.zeros((16, 17, 18, 1, 3), np.float32)

    def field(**header) -> Path:
        path = nifti(tmp_path / "field.nii.gz", data=vectors, **header)
        image = nibabel.load(path)
        image.header["intent_code"] = 1007
        nibabel.save(image, tmp_path / "field.nii.gz")
        return path

    read_transform(field())
    with pytest.raises(InputError, match="contradict each other"):
        read_transform(field(qform=SHIFTED))
    with pytest.raises(InputError, match="does not measure in mm"):
        read_transform(field(units=3))
