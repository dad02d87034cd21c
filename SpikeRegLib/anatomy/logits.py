"""From the head of the network, which answers for patches of 2^3 voxels, to every voxel."""

from __future__ import annotations

import torch

PATCH = 2


def voxel_logits(output: torch.Tensor) -> torch.Tensor:
    """The logits of every voxel, [B, classes, 2d, 2h, 2w].

    Args:
        output: [B, 8 classes, d, h, w]; channel 8 c + 4 z + 2 y + x is class c at the voxel (z, y, x) of a patch.
    """
    batch, channels, depth, height, width = output.shape
    classes = channels // PATCH**3
    parts = output.view(batch, classes, PATCH, PATCH, PATCH, depth, height, width)
    parts = parts.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(batch, classes, PATCH * depth, PATCH * height, PATCH * width)
