"""Frames: voxel <-> mm agrees with ITK on any spacing and direction."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from SpikeRegLib.images.files import frame_of, set_frame
from SpikeRegLib.images.frames import Frame, world_aligned

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
