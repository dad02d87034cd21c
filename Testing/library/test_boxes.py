"""The box of a mask: every true voxel, and a true one on each of its faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.refinement.level_images import content_of


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=6))
def test_the_box_is_that_of_the_indices(voxels):
    mask = torch.zeros(5, 7, 6, dtype=torch.bool)
    for voxel in voxels:
        mask[voxel] = True
    box, index = bounding_box(mask), np.argwhere(mask.numpy())
    assert box == (index.min(0).tolist(), index.max(0).tolist())
    assert int(mask[slices_of(*box)].sum()) == int(mask.sum())
    assert list(mask[slices_of(*box)].shape) == (index.max(0) - index.min(0) + 1).tolist()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_an_empty_mask_has_no_box(dtype):
    assert bounding_box(torch.zeros(5, 7, 6, dtype=dtype)) is None


def test_a_thousandth_of_the_brightest_is_empty():
    image = torch.zeros(1, 4, 5, 6)
    image[0, 1, 2, 3], image[0, 3, 4, 5], image[0, 0, 0, 0] = 1.1e-3, 1.0, 1e-3
    assert content_of(image) == ([1, 2, 3], [3, 4, 5])


def test_the_content_of_an_image_spans_its_channels_and_of_an_empty_one_is_all():
    image = torch.zeros(2, 5, 7, 6)
    assert content_of(image) == ([0, 0, 0], [4, 6, 5])
    image[0, 1, 2, 3] = image[1, 3, 2, 4] = 1
    assert content_of(image) == ([1, 2, 3], [3, 2, 4])
