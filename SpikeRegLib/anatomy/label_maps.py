"""From soft maps of 2 mm to a label map and a brain mask on any grid.

Logits are interpolated, and the likeliest class is taken where a voxel lies. On two brains with manual labels of 1 mm
that gives a mean Dice of .703 and .750; interpolated probabilities give .694 and .744, the nearest label .669 and .715.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch

from SpikeRegLib.anatomy.brain import BrainMask
from SpikeRegLib.anatomy.structures import LABELS
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.space.sampling import Positions, clamped

# Of a block of the fine grid: about so many mm and at least so many voxels along each axis. Few classes meet in one.
_BLOCK_MM, _LEAST_VOXELS = 24.0, 12


def numbered(classes: torch.Tensor) -> torch.Tensor:
    """FreeSurfer's numbers, int16, of the network's classes, any shape."""
    return torch.tensor([0, *LABELS], dtype=torch.int16)[classes]


def label_map(
    logits: torch.Tensor, brain: BrainMask, frame: Frame, *, tick: Tick = unheard
) -> tuple[torch.Tensor, torch.Tensor]:
    """FreeSurfer's numbers and the brain mask on a grid; where the mask is not, there are no labels.

    Done in blocks. In each, the classes that are likeliest somewhere around it are compared and no others, so that
    memory and time stay small on fine grids.

    Args:
        logits: [classes, D, H, W] on the grid of `brain`.
        brain: where it is; nothing is outside of its grid.
        frame: the grid wanted; may be oblique and anisotropic.
        tick: hears the share that is done.

    Returns:
        [d, h, w] int16 labels and [d, h, w] bool mask, both on `frame`.
    """
    source, likelier = brain.frame, brain.likelier
    classes = logits.argmax(0)
    labels, mask = torch.zeros(frame.shape, dtype=torch.int16), torch.zeros(frame.shape, dtype=torch.bool)
    blocks = list(_blocks(frame))
    for number, block in enumerate(blocks):
        tick(number / len(blocks))
        part = frame.part([s.start for s in block][::-1], _shape(block))
        around = _around(part, source)
        if not bool((likelier[around] > 0).any()):
            continue
        near = source.part([s.start for s in around][::-1], _shape(around))
        unit = Positions(part, 0, part.shape[0]).coordinates(near).permute(1, 2, 3, 0)
        mask[block] = clamped(likelier[around][None], unit)[0] > 0
        there = classes[around].unique()
        if len(there) == 1:
            likeliest = there.expand(part.shape)
        else:
            k, j, i = around
            likeliest = there[clamped(logits[:, k, j, i][there], unit).argmax(0)]
        labels[block] = torch.where(mask[block], numbered(likeliest), 0)
    return labels, mask


def _blocks(frame: Frame) -> Iterator[tuple[slice, slice, slice]]:
    """Boxes of voxels that together are the grid."""
    sizes = [max(_LEAST_VOXELS, round(_BLOCK_MM / spacing)) for spacing in reversed(frame.spacing)]
    axes = ([slice(a, min(n, a + m)) for a in range(0, n, m)] for n, m in zip(frame.shape, sizes, strict=True))
    yield from product(*axes)


def _around(part: Frame, source: Frame) -> tuple[slice, slice, slice]:
    """The voxels of `source` between which all of `part` lies."""
    index = source.to_index(part.corners())
    low = np.floor(index.min(0)).astype(int)
    high = np.ceil(index.max(0)).astype(int) + 1
    low = np.clip(low, 0, np.array(source.size) - 1)
    i, j, k = (
        slice(int(a), int(min(n, b))) for a, b, n in zip(low, np.maximum(high, low + 1), source.size, strict=True)
    )
    return k, j, i


def _shape(box: tuple[slice, slice, slice]) -> tuple[int, int, int]:
    depth, height, width = (s.stop - s.start for s in box)
    return depth, height, width
