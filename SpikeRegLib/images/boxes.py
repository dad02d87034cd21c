"""The box of voxels around what a mask covers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# First and last index along (D, H, W); both are inside.
Box = tuple[list[int], list[int]]


def bounding_box(mask: torch.Tensor) -> Box | None:
    """The smallest box with all true voxels of a mask [D, H, W]; None where there is none.

    Found from what each plane holds: the indices of every voxel would take twenty times the memory of the mask.
    """
    rows = mask.any(2)
    seen = [axis.nonzero()[:, 0] for axis in (rows.any(1), rows.any(0), mask.any(1).any(0))]
    if not len(seen[0]):
        return None
    return [int(axis[0]) for axis in seen], [int(axis[-1]) for axis in seen]


def slices_of(first: Sequence[int], last: Sequence[int]) -> tuple[slice, slice, slice]:
    """The slices along (D, H, W) that take a box out of an array."""
    depth, height, width = (slice(a, b + 1) for a, b in zip(first, last, strict=True))
    return depth, height, width
