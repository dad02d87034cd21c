"""What a registration is given: checks on volumes in memory, working frames, and images brought onto them."""

from __future__ import annotations

from dataclasses import replace

import brains
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from brains import on_grid, sample

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, to_sitk
from SpikeRegLib.inference import SpikeRegInference
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.inputs import check_pair, load_side, on_working_frame, same_grid, working_frame
from SpikeRegLib.space.transforms import CompositeTransform, DisplacementTransform, Transform


@pytest.fixture(scope="module")
def brain() -> Volume:
    return replace(on_grid(sample("fixed"), (4.0, 4.0, 4.0)), name="")


def spoilt(brain: Volume, value: float, count: int = 5) -> Volume:
    data = brain.data.clone()
    data[0, 0, :count] = value
    return replace(brain, data=data)


def test_images_in_memory_are_checked_as_files_are(brain):
    flat = torch.full((20, 20, 20), 3.0)
    sheared = replace(brain.frame, direction=(1.0, 0.3, 0, 0, 1.0, 0, 0, 0, 1.0))
    cases = [
        (spoilt(brain, float("nan")), "5 of .* voxels are NaN or infinite"),
        (spoilt(brain, float("inf"), 2), "2 of .* voxels are NaN or infinite"),
        (Volume(flat, Frame((20, 20, 20))), "constant, every voxel is 3"),
        (Volume(flat[0], Frame((20, 20, 20))), "give one 3-D volume"),
        (Volume(flat[:8], Frame((8, 20, 20))), "axis under 16 voxels"),
        (replace(brain, frame=sheared), "sheared"),
        (replace(brain, frame=replace(brain.frame, spacing=(4000.0,) * 3)), "4000 mm.*at the longest side"),
    ]
    for volume, message in cases:
        with pytest.raises(InputError, match=f"moving image: .*{message}"):
            load_side(volume, role="moving image")


def test_nonfinite_voxels_become_background_only_on_request(brain):
    side = load_side(spoilt(brain, float("nan")), allow_nonfinite=True)
    assert side.image.nonfinite == 5 and bool((side.image.data[0, 0, :5] == 0).all())
    assert torch.equal(side.mask, load_side(brain).mask)


def test_whole_numbers_in_memory_are_taken_as_an_image(brain):
    whole = replace(brain, data=brain.data.round().to(torch.int16))
    side = load_side(whole)
    assert side.image.data.dtype == torch.float32
    assert torch.equal(side.image.data, brain.data.round())


def test_masks_and_segmentations_must_fit_the_image(brain):
    labels = Volume((brain.data > 0).to(torch.int16), brain.frame)
    moved = replace(labels, frame=replace(brain.frame, origin=(0.0, 0.0, 0.0)), name="seg.nii.gz")
    with pytest.raises(InputError, match=r"seg\.nii\.gz: the segmentation is on another grid"):
        load_side(brain, labels=moved)
    with pytest.raises(InputError, match=r"seg\.nii\.gz: the mask is on another grid"):
        load_side(brain, mask=moved)
    empty = replace(labels, data=torch.zeros_like(labels.data))
    with pytest.raises(InputError, match="the mask is empty"):
        load_side(brain, mask=empty)
    with pytest.raises(InputError, match="no label above 0"):
        load_side(brain, labels=empty)


def test_points_in_memory_are_checked(brain):
    centre = torch.from_numpy(brain.frame.corners().mean(0))[None]
    assert torch.equal(load_side(brain, points=centre.float()).points, centre.float().double())
    for points, message in (
        (centre[:, :2], "finite"),
        (centre * float("nan"), "finite"),
        (torch.cat((centre, centre + 500)), "1 of 2 points lie outside the image, the first is number 2"),
    ):
        with pytest.raises(InputError, match=f"points of the fixed image: .*{message}"):
            load_side(brain, points=points, role="fixed image")
    sides = [load_side(brain, points=points) for points in (centre, centre.repeat(2, 1))]
    with pytest.raises(InputError, match="1 fixed but 2 moving points"):
        check_pair(*sides)


def test_the_same_grid_up_to_rounding_in_the_header():
    frame = Frame((40, 50, 60), (-17.3, 4.25, 99.9), (0.9, 1.1, 1.3), tuple(float(v) for v in brains.TURNED))
    rounded = replace(frame, origin=tuple(float(np.float32(v)) for v in frame.origin))
    assert same_grid(frame, rounded)
    assert not same_grid(frame, replace(frame, origin=(-17.2, 4.25, 99.9)))
    assert not same_grid(frame, replace(frame, spacing=(0.9, 1.1, 1.31)))
    assert not same_grid(frame, replace(frame, shape=(40, 50, 61)))


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.0])
def test_the_working_frame_covers_the_mask_and_a_margin(spacing):
    turned = load_side(on_grid(sample("fixed"), (2.5, 3.5, 4.0), direction=brains.TURNED))
    frame = working_frame(turned, spacing)
    assert frame.spacing == (spacing,) * 3 and np.allclose(frame.direction, np.eye(3).ravel())
    assert all(n % 8 == 0 for n in frame.shape)
    index = torch.nonzero(turned.mask).flip(1).double().numpy()
    points = index @ turned.image.frame.matrix[:3, :3].T + turned.image.frame.matrix[:3, 3]
    corners = frame.corners()
    assert (points.min(0) - 12 >= corners.min(0) - 1e-3).all() and (points.max(0) + 12 <= corners.max(0) + 1e-3).all()


def test_the_working_grid_can_follow_the_size_of_the_anatomy(brain):
    small = load_side(brain)
    tiny = load_side(replace(brain, frame=replace(brain.frame, spacing=(0.4, 0.4, 0.4))))
    frames = [working_frame(side, 1.0, 50_000) for side in (small, tiny)]
    assert frames[0].shape == frames[1].shape
    assert frames[0].spacing[0] == pytest.approx(10 * frames[1].spacing[0], rel=1e-4)


def test_images_on_the_working_frame_lie_where_the_anatomy_is():
    """The centre of gravity in the patient is that of the original, through fine and coarse working grids."""
    side = load_side(on_grid(sample("fixed"), (2.5, 2.0, 3.0), direction=brains.TURNED))

    def centre(volume: Volume) -> np.ndarray:
        total = sitk.Cast(to_sitk(volume), sitk.sitkFloat64)
        array = sitk.GetArrayFromImage(total)
        index = np.stack(np.nonzero(array), 1)
        weight = array[tuple(index.T)]
        position = (index * weight[:, None]).sum(0)[::-1] / weight.sum()
        return np.array(total.TransformContinuousIndexToPhysicalPoint(position.tolist()))

    expected = centre(side.scaled)
    for spacing in (1.5, 4.0, 8.0):
        frame = working_frame(side, spacing)
        there = on_working_frame(side, frame, None)
        assert float(there.min()) >= 0 and float(there.max()) <= 1 + 1e-6
        assert np.abs(centre(Volume(there, frame)) - expected).max() < 0.1 * spacing


def test_what_is_doubtful_about_the_headers_is_in_the_result(brain, quick, tmp_path):
    """Positions that contradict each other, or none: which one ITK took cannot be seen in the images."""
    for name, shift, code in (("fixed", 3.0, 1), ("moving", 0.0, 0)):
        image = nibabel.Nifti1Image(brain.data.numpy().T, np.diag([-4.0, -4.0, 4.0, 1.0]))
        other = image.affine + np.array([[0, 0, 0, shift], *[[0] * 4] * 3])
        image.set_sform(image.affine, code=code)
        image.set_qform(other, code=code)
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    warnings = register(
        tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", preset=quick, refine_iterations=0, skip_affine=True,
        threads=1,
    ).result["warnings"]  # fmt: skip
    assert any("fixed.nii.gz: sform (code 1) and qform (code 1) contradict each other" in line for line in warnings)
    assert any("moving.nii.gz: the header says nothing of orientation" in line for line in warnings)


def test_a_displacement_in_memory_is_checked_as_files_are(brain, quick):
    field = torch.zeros(3, *brain.frame.shape)
    field[0, 3, 4, 5] = float("nan")
    bad = DisplacementTransform(field, brain.frame)
    for given in (bad, CompositeTransform([Transform.identity(), bad])):
        with pytest.raises(InputError, match="initial_transform: the displacement field has NaN"):
            register(brain, brain, preset=quick, initial_transform=given)
    with pytest.raises(InputError, match="deformation_field: the displacement field has NaN"):
        SpikeRegInference("brain-t1").apply_deformation(brain, field)
