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
from SpikeRegLib.space.grids import Grid, resample, resample_voxels

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
