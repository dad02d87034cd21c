"""Separable box and Gaussian filters as banded matrix products: on CPUs several times faster than pooling."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch

# The bands outlive the call that made them: made as ordinary tensors even inside `torch.inference_mode`, because a
# later call may differentiate through them.


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _box_band(length: int, window: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    index = torch.arange(length)
    near = (index[:, None] - index[None, :]).abs() <= window // 2
    return near.to(dtype).to(device)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _gaussian_band(length: int, sigma: float, device: str, dtype: torch.dtype) -> torch.Tensor:
    index = torch.arange(length)
    distance = (index[:, None] - index[None, :]).double()
    weight = torch.exp(-0.5 * (distance / sigma) ** 2)
    weight = weight * (distance.abs() <= math.ceil(3 * sigma))
    return (weight / weight.sum(1, keepdim=True)).to(dtype).to(device)


def _along_each_axis(volume: torch.Tensor, band: Callable[[int], torch.Tensor]) -> torch.Tensor:
    *lead, depth, height, width = volume.shape
    x = volume.reshape(-1, depth, height, width)
    x = torch.matmul(x, band(width).t())
    x = torch.matmul(band(height), x)
    x = torch.matmul(band(depth), x.reshape(-1, depth, height * width))
    return x.reshape(*lead, depth, height, width)


def box_sum(volume: torch.Tensor, window: int) -> torch.Tensor:
    """Sum over a cube of `window` voxels (odd) centred on each voxel; outside the array counts as zero.

    Args:
        volume: [..., D, H, W].
        window: edge of the cube in voxels, odd.

    Raises:
        ValueError: an even window.
    """
    if window % 2 != 1:
        raise ValueError(f"window must be odd, got {window}")
    device, dtype = str(volume.device), volume.dtype
    return _along_each_axis(volume, lambda length: _box_band(length, window, device, dtype))


def gaussian(volume: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian smoothing with `sigma` voxels, cut at 3 sigma, weights renormalised at the border.

    Args:
        volume: [..., D, H, W].
        sigma: standard deviation in voxels; 0 returns the input.
    """
    if sigma <= 0:
        return volume
    device, dtype = str(volume.device), volume.dtype
    return _along_each_axis(volume, lambda length: _gaussian_band(length, float(sigma), device, dtype))
