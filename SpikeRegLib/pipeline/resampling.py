"""Images and segmentations resampled on the grid of fixed, so that a run can be stopped at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.space.transforms import DisplacementTransform, warp_image

# Resampled between two reports.
VOXELS_PER_REPORT = 2_000_000


def resampled(
    volume: Volume, displacement: torch.Tensor, frame: Frame, listener: Listener, *, message: str, begin: float,
    outside: float = 0.0,
) -> Volume:  # fmt: skip
    """An image (linear) or segmentation (nearest) on `frame`, through a displacement on it.

    Args:
        volume: on the grid of moving.
        displacement: [3, D, H, W] mm, fixed -> moving, on `frame`.
        frame: the grid of fixed.
        listener, message, begin: for the reports; `begin` is the share of the step that is done before, the next tenth
            is this.
        outside: beyond the edges of an image; a segmentation has 0 there.
    """
    labels = not volume.data.is_floating_point()
    interpolation, outside = ("nearest", 0.0) if labels else ("linear", outside)
    values = torch.empty(frame.shape, dtype=volume.data.dtype)
    for start, stop, slab in slabs(frame):
        listener(Progress("finish", begin + 0.1 * start / len(values), message))
        sampled = DisplacementTransform(displacement[:, start:stop], slab)
        values[start:stop] = warp_image(volume, sampled, slab, interpolation=interpolation, outside=outside).data
    return replace(volume, data=values, frame=frame)


def slabs(frame: Frame) -> Iterator[tuple[int, int, Frame]]:
    """Ranges of slices and the grid of each, small enough to be resampled between two reports."""
    depth, height, width = frame.shape
    step = max(1, VOXELS_PER_REPORT // (height * width))
    for start in range(0, depth, step):
        stop = min(depth, start + step)
        x, y, z = (float(v) for v in (frame.matrix @ np.array([0, 0, start, 1]))[:3])
        yield start, stop, replace(frame, shape=(stop - start, height, width), origin=(x, y, z))
