"""The grid on which the moving image is seen through an initial transform, before the alignment goes on from there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SpikeRegLib.affine.given import frame_seen_through
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.transforms import AffineTransform

FIXED = Frame((40, 60, 50), (-60.0, 20.0, 5.0), (2.0, 2.0, 3.0))
MOVING_FRAME = Frame((30, 20, 40), (100.0, -80.0, 40.0), (1.5, 2.5, 2.0))
MOVING = Volume(torch.zeros(MOVING_FRAME.shape), MOVING_FRAME)


def shift(by: np.ndarray) -> AffineTransform:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return AffineTransform(matrix)


def test_it_holds_the_moving_image_closely_and_as_finely_as_that_is():
    """Part of the moving image lies beyond the fixed one, and is not lost."""
    corners, own = FIXED.corners(), MOVING_FRAME.corners()
    by = own.mean(0) - corners.mean(0) - np.array([30.0, 0.0, -40.0])
    frame = frame_seen_through(shift(by), FIXED, MOVING)
    seen, wanted = frame.corners(), own - by
    step = (np.linalg.norm(np.ptp(corners, 0)) + np.ptp(corners, 0)) / 47  # of 48 probes
    assert (seen.min(0) <= wanted.min(0)).all() and (seen.max(0) >= wanted.max(0)).all()
    assert (wanted.min(0) - seen.min(0) <= 2 * step).all() and (seen.max(0) - wanted.max(0) <= 2 * step).all()
    assert frame.spacing == (1.5, 1.5, 1.5) and np.allclose(np.reshape(frame.direction, (3, 3)), np.eye(3))


def test_a_transform_that_leads_past_the_moving_image_is_refused():
    with pytest.raises(InputError, match="takes no part of the fixed image into it; check its direction"):
        frame_seen_through(shift(np.array([5000.0, 0.0, 0.0])), FIXED, MOVING)
