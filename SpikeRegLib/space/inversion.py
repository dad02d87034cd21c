"""The inverse of a displacement field on its own grid, by Newton's method at every voxel."""

from __future__ import annotations

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space.sampling import clamped, rotated

_CHUNK = 2**16  # points worked on at once: what is computed about them stays in the cache


def invert_field(
    field: torch.Tensor, frame: Frame, *, tolerance_mm: float = 2e-3, iterations: int = 20
) -> tuple[torch.Tensor, Frame]:
    """The displacement v with (x + u) o (y + v) = y, by a damped Newton iteration at every voxel.

    Voxels leave the iteration as they converge. Beyond the grid, u continues with its border value, and the result's
    grid is padded so that it covers every point that x + u reaches from the grid.

    Args:
        field: u, [3, D, H, W] mm on `frame`.
        frame: the grid of u.
        tolerance_mm: a voxel has converged when the remaining error is below this.
        iterations: upper bound on the iterations.

    Returns:
        v, [3, D', H', W'] mm, and its frame.
    """
    axes = frame.matrix[:3, :3]
    voxels = rotated(np.linalg.inv(axes), field)
    padded, first = _padded(voxels, frame)
    # u and its nine derivatives, sampled together: the derivatives only steer the steps, so differences will do.
    gradient = [torch.gradient(voxels, dim=axis)[0] for axis in (3, 2, 1)]  # along i, j, k
    table = torch.cat([voxels, *gradient])  # channel 3 + 3 a + c is d u_c / d index_a
    size = torch.tensor(frame.size, dtype=field.dtype)
    depth, height, width = padded.shape
    k, j, i = torch.meshgrid(
        *(torch.arange(n, dtype=field.dtype) + f for n, f in zip((depth, height, width), first[::-1], strict=True)),
        indexing="ij",
    )
    target = torch.stack([i.flatten(), j.flatten(), k.flatten()])
    metric = torch.as_tensor(axes, dtype=field.dtype)

    def sample(values: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        unit = ((2 * position + 1) / size[:, None] - 1).t().reshape(1, 1, -1, 3)
        return clamped(values, unit).reshape(len(values), -1)

    def evaluate(position: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sampled = sample(table, position)
        residual = position + sampled[:3] - wanted
        return residual, (metric @ residual).square().sum(0).sqrt(), sampled[3:].reshape(3, 3, -1)

    # The first step starts from the values at the voxels themselves; most voxels have converged after it.
    solution, active = torch.empty_like(target), torch.empty(target.shape[1], dtype=torch.bool)
    for begin in range(0, target.shape[1], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        start = _at_nearest(table, target[:, part])
        solution[:, part] = target[:, part] - _newton_step(start[3:].reshape(3, 3, -1), start[:3])
        residual = solution[:, part] + sample(voxels, solution[:, part]) - target[:, part]
        active[part] = (metric @ residual).square().sum(0) > tolerance_mm**2
    active = active.nonzero()[:, 0]
    position, wanted = solution[:, active], target[:, active]
    residual, error, slope = evaluate(position, wanted)
    damping = torch.ones_like(error)
    for _ in range(iterations):
        keep = error > tolerance_mm
        solution[:, active] = position
        if not keep.any():
            break
        active, position, wanted = active[keep], position[:, keep], wanted[:, keep]
        residual, error, slope, damping = residual[:, keep], error[keep], slope[:, :, keep], damping[keep]
        trial = position - damping * _newton_step(slope, residual)
        new_residual, new_error, new_slope = evaluate(trial, wanted)
        better = new_error < error
        position = torch.where(better, trial, position)
        residual, error = torch.where(better, new_residual, residual), torch.where(better, new_error, error)
        slope = torch.where(better, new_slope, slope)
        damping = torch.where(better, torch.ones_like(damping), damping / 2)
    solution[:, active] = position
    inverse = (solution - target).reshape(3, *padded.shape)
    return rotated(axes, inverse - _interpolation_bias(inverse)), padded


def _interpolation_bias(values: torch.Tensor) -> torch.Tensor:
    """Mean excess over a cell of trilinear interpolation of a smooth function: h^2 f'' / 12 along each axis.

    Taking it off the voxel values halves the error between them (0.035 to 0.017 mm on a 2 mm grid, 14 mm deformation).
    """
    bias = torch.zeros_like(values)
    for axis in (1, 2, 3):
        n = values.shape[axis] - 2
        before, here, after = (values.narrow(axis, start, n) for start in range(3))
        bias.narrow(axis, 1, n).add_(before + after - 2 * here, alpha=1 / 12)
    return bias


def _newton_step(slope: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Solve (I + du/dx) s = r for [3, N] at once by Cramer's rule; `slope[a, c]` is d u_c / d index_a."""
    column = slope.clone()
    for axis in range(3):
        column[axis, axis] += 1
    cross = [_cross(column[(a + 1) % 3], column[(a + 2) % 3]) for a in range(3)]
    determinant = (column[0] * cross[0]).sum(0)
    # Near or beyond a fold the Jacobian does not point to the solution; the plain fixed-point step still does.
    usable = determinant > 0.05
    newton = torch.stack([(c * residual).sum(0) for c in cross]) / determinant.clamp(min=0.05)
    return torch.where(usable, newton, residual)


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cross product of [3, N] vectors; `torch.linalg.cross` takes three times as long along the first dimension."""
    return torch.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


def _at_nearest(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    _, depth, height, width = values.shape
    i, j, k = (index[axis].long().clamp_(0, n - 1) for axis, n in enumerate((width, height, depth)))
    return values.flatten(1)[:, (k * height + j) * width + i]


def _padded(voxels: torch.Tensor, frame: Frame) -> tuple[Frame, tuple[int, int, int]]:
    """The frame enlarged by whole voxels to hold every index + u, and the (i, j, k) index of its first voxel."""
    first, last = [], []
    for axis, n in enumerate(frame.size):
        shape = [1, 1, 1]
        shape[2 - axis] = n
        reached = voxels[axis] + torch.arange(n, dtype=voxels.dtype).reshape(shape)
        first.append(min(0, int(torch.floor(reached.min()))))
        last.append(max(n - 1, int(torch.ceil(reached.max()))))
    size = [b - a + 1 for a, b in zip(first, last, strict=True)]
    return frame.part(first, (size[2], size[1], size[0])), (first[0], first[1], first[2])
