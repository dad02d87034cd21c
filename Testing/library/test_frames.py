"""Frames: voxel <-> mm agrees with ITK on any spacing and direction."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from SpikeRegLib.images.files import frame_of, set_frame
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.space.field_of_view import cut_faces, field_of_view
from SpikeRegLib.space.grids import Grid, resample, resample_voxels
from SpikeRegLib.space.transforms import AffineTransform

angles = st.tuples(*[st.floats(-180, 180)] * 3)
spacings = st.tuples(*[st.floats(0.3, 5)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)


@settings(max_examples=50, deadline=None)
@given(angles, spacings, origins, st.permutations(range(3)))
def test_voxel_positions_agree_with_itk(angle, spacing, origin, order):
    direction = Rotation.from_euler("xyz", angle, degrees=True).as_matrix()[:, order]
    frame = Frame((17, 19, 23), origin, spacing, tuple(direction.ravel()))
    image = set_frame(sitk.Image(frame.size, sitk.sitkUInt8), frame)
    for index in [(0, 0, 0), (22, 18, 16), (3, 14, 5)]:
        expected = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose((frame.matrix @ [*index, 1])[:3], expected, atol=1e-6)
        assert np.allclose((frame.inverse_matrix @ [*expected, 1])[:3], index, atol=1e-6)
    assert frame_of(image).shape == frame.shape
    assert np.allclose(frame_of(image).matrix, frame.matrix)


def test_corners_are_the_extreme_voxel_centres():
    frame = Frame((10, 20, 30), (1, 2, 3), (2, 3, 4))
    assert np.allclose(frame.corners().min(0), [1, 2, 3])
    assert np.allclose(frame.corners().max(0), [1 + 29 * 2, 2 + 19 * 3, 3 + 9 * 4])


@settings(max_examples=50, deadline=None)
@given(origins, st.tuples(*[st.floats(1, 250)] * 3), st.floats(0.8, 6), st.sampled_from([1, 8, 16]))
def test_world_aligned_covers_the_box_and_is_centred_on_it(lower, extent, spacing, multiple):
    lower = np.array(lower)
    upper = lower + extent
    frame = world_aligned(lower, upper, spacing, multiple)
    corners = frame.corners()
    assert (corners.min(0) <= lower + 1e-4).all()
    assert (corners.max(0) >= upper - 1e-4).all()
    assert np.allclose((corners.min(0) + corners.max(0)) / 2, (lower + upper) / 2, atol=1e-6)
    assert all(n % multiple == 0 and n >= 16 for n in frame.shape)
    assert frame.spacing == pytest.approx((spacing,) * 3)


def test_indices_and_millimetres_are_the_same_places_there_and_back():
    """As SimpleITK has it, on an anisotropic oblique grid; a part of a grid has the voxels of the whole."""
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
    frame = Frame((7, 9, 11), (-3.0, 5.0, 8.0), (0.7, 1.1, 2.3), turned)
    image = set_frame(sitk.Image(frame.size, sitk.sitkUInt8), frame)
    index = np.random.default_rng(0).uniform(-5, 15, (50, 3))
    points = frame.to_mm(index)
    oracle = [image.TransformContinuousIndexToPhysicalPoint(place) for place in index.tolist()]
    np.testing.assert_allclose(points, oracle, atol=1e-12)
    np.testing.assert_allclose(frame.to_index(points), index, atol=1e-12)
    part = frame.part((2, 1, -1), (3, 4, 5))
    assert part.shape == (3, 4, 5) and part.spacing == frame.spacing and part.direction == frame.direction
    np.testing.assert_allclose(part.to_mm(index), frame.to_mm(index + np.array([2, 1, -1])), atol=1e-12)


def test_voxels_of_a_grid_become_millimetres_and_back():
    fine, coarse = Grid((9, 11, 13), 1.5, (3.0, 0.0, 1.5)), Grid((5, 6, 7), 3.0, (3.0, 0.0, 1.5))
    field = torch.rand(3, *coarse.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(coarse.to_mm(field), 3 * field)
    torch.testing.assert_close(coarse.to_voxels(coarse.to_mm(field)), field)
    expected = fine.to_voxels(resample(coarse.to_mm(field), coarse, fine))
    torch.testing.assert_close(resample_voxels(field, coarse, fine), expected)
    points = torch.tensor([[1.5, 0.0, 3.0], [4.5, 3.0, 3.0]])
    torch.testing.assert_close(coarse.to_index(points), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])  # i, j, k
def test_beyond_a_face_that_cuts_the_anatomy_nothing_is_known_and_beyond_another_everything(axis, side):
    """Up to the centre of the outermost voxel, beyond which the image only seems to go on."""
    image = Frame((5, 6, 7), (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))
    around = Frame((13, 14, 15), (2.0, 12.0, 22.0), (2.0, 2.0, 2.0))  # four voxels more on each side
    faces = [(axis == n and side == 0, axis == n and side == 1) for n in range(3)]
    within = field_of_view(image, (faces[0], faces[1], faces[2]), around, AffineTransform(np.eye(4)))
    places = torch.arange(around.size[axis]) - 4
    seen = places >= 0 if side == 0 else places < image.size[axis]
    expected = torch.ones(around.shape, dtype=torch.bool)
    expected &= seen.view([-1 if n == 2 - axis else 1 for n in range(3)])
    assert torch.equal(within, expected)
    anatomy = torch.zeros(image.shape, dtype=torch.bool)
    anatomy.select(2 - axis, -side)[1:4, 1:4] = True
    assert [tuple(face) for face in cut_faces(anatomy)] == faces


@pytest.mark.parametrize(("beyond", "more"), [(2e-7, 0), (4e-6, 1)])
def test_what_reaches_over_by_rounding_alone_costs_no_voxel(beyond, more):
    frame = world_aligned(np.zeros(3), np.array([40.0, 50.0, 60.0]) * (1 + beyond / 20), 2.0)
    assert frame.size == (21 + more, 26 + more, 31 + more)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_beyond_its_grid_a_volume_goes_on_with_its_border_values(axis):
    """Also where a finer grid reaches over by more than half a voxel."""
    line = torch.tensor([3.0, 5.0, 4.0, 8.0])
    volume = line.view([-1 if n == axis else 1 for n in range(3)]).expand([4] * 3).contiguous()
    offset = tuple(-1.0 if n == axis else 0.0 for n in range(3))
    depth, height, width = (11 if n == axis else 7 for n in range(3))
    finer = Grid((depth, height, width), 1.0, offset)
    found = resample(volume, Grid((4, 4, 4), 2.0), finer)
    expected = torch.tensor([3, 3, 4, 5, 4.5, 4, 6, 8, 8, 8, 8.0])
    torch.testing.assert_close(found.movedim(axis, 0)[:, 3, 3], expected)
