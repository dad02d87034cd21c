"""Displacement fields as maps: sampling through them, and their border."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample


def sample(
    volume: torch.Tensor,
    displacement: Sequence[torch.Tensor] | torch.Tensor,
    *,
    start: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
    buffer: torch.Tensor | None = None,
) -> torch.Tensor:
    """Linear interpolation of `volume` at x + scale * displacement(x); border values continue outside.

    Args:
        volume: [C, D, H, W].
        displacement: components (x, y, z), each [d, h, w], in voxels of `volume` once multiplied with `scale`.
        start: index (D, H, W) in `volume` of the first voxel of `displacement`.
        buffer: [d, h, w, 3] for the positions; at the finest level a new one is costly, as the system clears it first.

    Returns:
        [C, d, h, w].
    """
    shape = tuple(displacement[0].shape)
    positions = displacement[0].new_empty(*shape, 3) if buffer is None else buffer
    for component, axis in enumerate((2, 1, 0)):
        step = 2 / (volume.shape[1 + axis] - 1)
        index = torch.arange(shape[axis], dtype=positions.dtype, device=positions.device)
        centre = ((index + start[axis]) * step - 1).view([-1 if a == axis else 1 for a in range(3)])
        torch.add(centre, displacement[component], alpha=step * scale, out=positions[..., component])
    return grid_sample(volume[None], positions[None], padding_mode="border", align_corners=True)[0]


def hold_border(field: torch.Tensor) -> torch.Tensor:
    """Set the outermost layer of `field` to zero, in place: outside its grid a displacement field is zero, too."""
    for axis in (-3, -2, -1):
        field.narrow(axis, 0, 1).zero_()
        field.narrow(axis, field.shape[axis] - 1, 1).zero_()
    return field
