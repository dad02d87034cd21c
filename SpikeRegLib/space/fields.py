"""Fields on world-aligned grids in voxel units: warping, composition and the exponential of a velocity field."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept beyond this call, perhaps for one that differentiates
def _identity(shape: tuple[int, int, int], device: str) -> torch.Tensor:
    axes = [torch.linspace(-1, 1, n, device=device) for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y, z), -1)[None]


def warp(image: torch.Tensor, displacement: torch.Tensor, *, mode: str = "bilinear") -> torch.Tensor:
    """image(x + u(x)) by linear interpolation, clamped at the border.

    Args:
        image: [B, C, D, H, W].
        displacement: [B, 3, D, H, W], in voxels, components (x, y, z) = along (W, H, D).
        mode: "bilinear" (trilinear for volumes) or "nearest", as `grid_sample` names them.
    """
    shape = displacement.shape[2:]
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in reversed(shape)], device=displacement.device)
    grid = _identity(tuple(shape), str(displacement.device)) + displacement.movedim(1, -1) * scale
    return functional.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)


def values_at(field: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """[N, C] values of `field` at points, by linear interpolation, clamped at the border.

    Args:
        field: [C, D, H, W].
        position: [N, 3] (x, y, z) in voxels of the field.
    """
    size = position.new_tensor([n - 1 for n in reversed(field.shape[1:])]).clamp_min(1)
    grid = (position / size * 2 - 1)[None, None, None].to(field.dtype)
    sampled = functional.grid_sample(field[None], grid, padding_mode="border", align_corners=True)
    return sampled[0, :, 0, 0].t()


def compose(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The displacement of x -> second(first(x)): u1(x) + u2(x + u1(x)). Both [B, 3, D, H, W] in voxels."""
    return first + warp(second, first)


def exponential(velocity: torch.Tensor, *, squarings: int = 6) -> torch.Tensor:
    """Displacement of the flow of a stationary velocity field at time one, by scaling and squaring.

    Args:
        velocity: [B, 3, D, H, W] in voxels. exp(-velocity) is the inverse map.
        squarings: the field is divided by 2**squarings and composed with itself that many times.
    """
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement


def taper(field: torch.Tensor, voxels: int) -> torch.Tensor:
    """The field, falling smoothly to zero over the outer `voxels` of its grid: outside it is zero, and may not jump.

    Args:
        field: [..., D, H, W].
        voxels: width of the ramp.
    """
    for axis in (-3, -2, -1):
        length = field.shape[axis]
        index = torch.arange(length, dtype=field.dtype, device=field.device)
        edge = (torch.minimum(index, length - 1 - index) / voxels).clamp(0, 1)
        ramp = edge * edge * (3 - 2 * edge)
        field = field * ramp.view([-1 if a == axis else 1 for a in (-3, -2, -1)])
    return field


def upsample(field: torch.Tensor, shape: tuple[int, int, int], factor: int) -> torch.Tensor:
    """A field from a grid whose voxel n lies at voxel `factor * n` of the finer grid, in the finer grid's voxels.

    Args:
        field: [B, 3, d, h, w] in coarse voxels.
        shape: (D, H, W) of the finer grid; beyond the last coarse voxel the field continues constantly, and what lies
            beyond the finer grid is cut off.
        factor: fine voxels per coarse voxel.
    """
    fine = [(n - 1) * factor + 1 for n in field.shape[2:]]
    result = field
    if factor > 1:
        result = functional.interpolate(field * factor, size=fine, mode="trilinear", align_corners=True)
    padding = []
    for have, want in zip(reversed(fine), reversed(shape), strict=True):
        padding += [0, max(0, want - have)]
    result = functional.pad(result, padding, mode="replicate")
    return result[..., : shape[0], : shape[1], : shape[2]]
