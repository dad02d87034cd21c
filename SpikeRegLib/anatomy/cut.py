"""Structures that the field of view cuts: the centre of what is left of one is not its centre."""

from __future__ import annotations

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space.sampling import Positions

# A structure of which more than this share lies within this of a face of the image goes on beyond it.
_SHARE, _RIM_MM = 0.005, 3.0


def cut_structures(probabilities: torch.Tensor, frame: Frame, image: Frame) -> np.ndarray:
    """[classes] bool: which structures lie against a face of the image's grid.

    Args:
        probabilities: [classes, D, H, W] on `frame`; little outside of the image.
        frame: of the maps.
        image: the grid of the image that was read.
    """
    rim = torch.zeros(frame.shape, dtype=torch.bool)
    for along, size, spacing in zip(
        Positions(frame, 0, frame.shape[0]).coordinates(image), image.size, image.spacing, strict=True
    ):
        # From -1 to 1 between the outer edges of the first and the last voxel.
        rim |= along.abs() > 1 - 2 * _RIM_MM / (size * spacing)
    sums = probabilities.sum((1, 2, 3)).double()
    there = probabilities[:, rim].sum(1).double()
    return (there > _SHARE * sums.clamp_min(1e-9)).numpy()
