"""Keeping displacement fields one to one: the Jacobian of every cell, and the nearest field without a fold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.filters import box_sum, gaussian

# Smallest volume change a returned field may have. Above zero, so that resampling on another grid cannot fold it.
SMALLEST_JACOBIAN = 0.05
# A correction aims this much higher, so that its neighbours' corrections do not undo it.
_RESERVE = 0.02
# Every node is corrected by up to eight cells at once: the share of its correction that each may make.
_SHARE = 0.5
_SWEEPS, _ROUNDS, _ATTEMPTS = 8, 10, 40
# A field with a larger share of bad cells holds little worth keeping: smoothing is faster.
_FEW = 0.1

_CELLS = 2**15

# Corner c of a cell is its node c = x + 2 y + 4 z; its three edges along x, y and z run from _LOW[c] to _HIGH[c].
_CORNERS = tuple((x, y, z) for z, y, x in itertools.product((0, 1), repeat=3))
_LOW = tuple(c - (c & 1 << axis) for c in range(8) for axis in range(3))
_HIGH = tuple(low + (1 << n % 3) for n, low in enumerate(_LOW))


def smallest_jacobian(displacement: torch.Tensor, linear: torch.Tensor | None = None) -> torch.Tensor:
    """The smallest of the eight Jacobian determinants a trilinear map has in the corners of each cell.

    Args:
        displacement: [3, D, H, W] in voxels, components (x, y, z).
        linear: [3, 3] L of the map L x + displacement(x); None for the identity.

    Returns:
        [D-1, H-1, W-1], one value for the cell between eight neighbours. Central differences at a voxel are averages
        of the corners that meet there, so the Jacobian computed with them is positive where these are.
    """
    depth, height, width = displacement.shape[1:]
    linear = torch.eye(3) if linear is None else linear.to(displacement.dtype)
    # The edges of every cell as vectors.
    along_x = displacement[:, :, :, 1:] - displacement[:, :, :, :-1] + linear[:, 0].view(3, 1, 1, 1)
    along_y = displacement[:, :, 1:] - displacement[:, :, :-1] + linear[:, 1].view(3, 1, 1, 1)
    along_z = displacement[:, 1:] - displacement[:, :-1] + linear[:, 2].view(3, 1, 1, 1)
    sign = _orientation(linear)
    smallest: torch.Tensor | None = None
    for x_side in (0, 1):
        y_edges, z_edges = (edge[..., x_side : x_side + width - 1] for edge in (along_y, along_z))
        for y_side in (0, 1):
            z_edge = z_edges[:, :, y_side : y_side + height - 1]
            x_edges = along_x[:, :, y_side : y_side + height - 1]
            for z_side in (0, 1):
                x_edge = x_edges[:, z_side : z_side + depth - 1]
                y_edge = y_edges[:, z_side : z_side + depth - 1]
                determinant = sign * x_edge[0] * (y_edge[1] * z_edge[2] - y_edge[2] * z_edge[1])
                determinant += sign * x_edge[1] * (y_edge[2] * z_edge[0] - y_edge[0] * z_edge[2])
                determinant += sign * x_edge[2] * (y_edge[0] * z_edge[1] - y_edge[1] * z_edge[0])
                smallest = determinant if smallest is None else torch.minimum(smallest, determinant, out=smallest)
    assert smallest is not None
    return smallest


def as_itk_sees(direction: np.ndarray, affine: np.ndarray) -> torch.Tensor:
    """The linear part L for which det(L + Du) is, up to a constant, what ITK's Jacobian filter reports.

    `itk::DisplacementFieldJacobianDeterminantFilter` differentiates along the axes of the array and ignores their
    direction cosines. On a flipped axis it therefore has the sign of that derivative wrong, and calls a stretch beyond
    twice the length a fold. For the total map A(x + u(x)) on a grid of direction R it computes
    det(I + (A (I + Du) - I) R) = det(A) det(R) det(L + Du), L = I + inverse(A) (inverse(R) - I).

    Args:
        direction: 3x3 R of the fixed image.
        affine: 3x3 A, linear part of the map that follows the deformation.
    """
    linear = np.eye(3) + np.linalg.solve(affine, np.linalg.inv(direction) - np.eye(3))
    return torch.from_numpy(linear)


def remove_folds(
    displacement: torch.Tensor, *, linear: torch.Tensor | None = None, smallest: float = SMALLEST_JACOBIAN
) -> tuple[torch.Tensor, int]:
    """Change the field as little as possible until no Jacobian determinant of a cell is below `smallest`.

    Bad cells are projected: their eight nodes move along the gradient of the offending determinants, again and again,
    so that the excess spreads to the neighbours only as far as it must. What resists is smoothed where it is bad, and
    projected again; a field that resists even that (noise, for instance) is shrunk towards the identity in the end,
    which always succeeds.

    Args:
        displacement: [3, D, H, W] in voxels, zero on the outermost layer.
        linear: [3, 3], a second reading of the Jacobian that has to be positive too (see `as_itk_sees`).

    Returns:
        The field, and the number of cells that were below `smallest` at the start (0: the same field is returned).
    """
    readings = [torch.eye(3, device=displacement.device)]
    if linear is not None:
        readings.append(linear.to(displacement))
    bad = _bad_cells(displacement, readings, smallest)
    found = int(bad.sum())
    for attempt in range(_ATTEMPTS):
        if not bool(bad.any()):
            return displacement, found
        if float(bad.float().mean()) <= _FEW:
            displacement = _projected(displacement, bad, readings, smallest)
            bad = _bad_cells(displacement, readings, smallest)
        if bool(bad.any()):
            displacement = _smoothed_near(displacement, bad, 1 + attempt // 4, 0.8 + 0.15 * attempt)
            bad = _bad_cells(displacement, readings, smallest)
    while bool(_bad_cells(displacement, readings, smallest).any()):
        displacement = 0.8 * displacement
    return displacement, found


def _smoothed_near(displacement: torch.Tensor, bad: torch.Tensor, reach: int, sigma: float) -> torch.Tensor:
    """The field blended with its Gaussian average within about `reach` voxels of the bad cells."""
    near = torch.nn.functional.pad(bad[None].to(displacement.dtype), (0, 1, 0, 1, 0, 1))
    near = (box_sum(near, 2 * reach + 1) > 0.5).to(displacement.dtype)
    weight = gaussian(near, 1.0 + 0.25 * reach)
    return hold_border(displacement + weight * (gaussian(displacement, sigma) - displacement))


def _orientation(linear: torch.Tensor) -> float:
    return 1.0 if float(torch.linalg.det(linear)) >= 0 else -1.0


def _bad_cells(displacement: torch.Tensor, readings: Sequence[torch.Tensor], smallest: float) -> torch.Tensor:
    """[D-1, H-1, W-1] bool."""
    depth, height, width = (n - 1 for n in displacement.shape[1:])
    bad = torch.empty(depth, height, width, dtype=torch.bool, device=displacement.device)
    # On a processor, what is computed about so many cells stays in its cache.
    step = max(1, _CELLS // (height * width)) if displacement.device.type == "cpu" else depth
    for start in range(0, depth, step):
        part = displacement[:, start : start + step + 1]
        found = [smallest_jacobian(part, linear) < smallest for linear in readings]
        bad[start : start + step] = torch.stack(found).any(0)
    return bad


def _projected(
    displacement: torch.Tensor, bad: torch.Tensor, readings: Sequence[torch.Tensor], smallest: float
) -> torch.Tensor:
    """The field after projecting its bad cells, and those that become bad on the way, for a bounded number of rounds.

    A cell with one determinant d(u) < t in a corner is corrected by (t - d) g / |g|^2, g the gradient of d with respect
    to the four nodes that take part: the smallest change that mends it to first order.
    """
    shape = displacement.shape[1:]
    _, height, width = shape
    rows, device = width * height, displacement.device
    nodes = torch.tensor([x + width * y + rows * z for x, y, z in _CORNERS], device=device)
    steps = (-1, 0, 1)
    neighbours = torch.tensor([x + width * y + rows * z for z in steps for y in steps for x in steps], device=device)
    field = displacement.reshape(3, -1).clone()
    inner = hold_border(torch.ones(shape, device=device)).flatten()
    is_cell = torch.zeros(shape, dtype=torch.bool, device=device)
    is_cell[:-1, :-1, :-1] = True
    is_cell = is_cell.flatten()
    active = torch.nn.functional.pad(bad, (0, 1, 0, 1, 0, 1)).flatten().nonzero()[:, 0]
    for _ in range(_ROUNDS):
        changed = active
        for _ in range(_SWEEPS):
            push, found = _correction(_edges(field, active, nodes), readings, smallest + _RESERVE)
            if not bool(found.any()):
                break
            where = (active[None] + nodes[:, None]).flatten()
            field.index_add_(1, where, push.reshape(3, -1) * (_SHARE * inner[where]))
            active = active[found]
        # Only cells that share a node with a changed one can have become bad.
        near = torch.zeros_like(is_cell)
        near[(changed[:, None] + neighbours).flatten().clamp_(0, len(near) - 1)] = True
        near = (near & is_cell).nonzero()[:, 0]
        _, found = _correction(_edges(field, near, nodes), readings, smallest)
        active = near[found]
        if not len(active):
            break
    return field.reshape(displacement.shape)


def _edges(field: torch.Tensor, cells: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """[3 components, 8 corners, 3 axes, N] change of the flat `field` along the edges of cells given by first node."""
    values = field[:, (cells[None] + nodes[:, None]).flatten()].view(3, 8, -1)
    return (values[:, list(_HIGH)] - values[:, list(_LOW)]).view(3, 8, 3, -1)


def _correction(
    edges: torch.Tensor, readings: Sequence[torch.Tensor], least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """[3, 8, N] sum of the corrections of the eight nodes of each cell, and [N] whether a determinant is below `least`.

    Corners whose determinants are sound take no part.
    """
    total, found = edges.new_zeros(3, 8, edges.shape[3]), torch.zeros(edges.shape[3], dtype=torch.bool)
    found = found.to(edges.device)
    for linear in readings:
        a, b, c = (edges + linear.view(3, 1, 3, 1)).unbind(2)
        b_c = _cross(b, c)
        missing = least - _orientation(linear) * (a * b_c).sum(0)
        hit = (missing > 0).any(0).nonzero()[:, 0]
        if not len(hit):
            continue
        found[hit] = True
        a, b, c, b_c = a[..., hit], b[..., hit], c[..., hit], b_c[..., hit]
        gradient = torch.stack((b_c, _cross(c, a), _cross(a, b)), 2) * _orientation(linear)  # of each edge
        signs = torch.tensor([[1.0 if c >> axis & 1 else -1.0 for axis in range(3)] for c in range(8)])
        shared = (gradient * signs.view(1, 8, 3, 1).to(gradient)).sum(2)  # of the node where the three edges meet
        norm = gradient.square().sum((0, 2)) + shared.square().sum(0)
        push = gradient * (missing[:, hit].clamp(min=0) / norm.clamp(min=1e-3))[None, :, None]
        push = push.reshape(3, 24, -1)
        part = edges.new_zeros(3, 8, len(hit))
        part.index_add_(1, torch.tensor(_HIGH, device=edges.device), push)
        part.index_add_(1, torch.tensor(_LOW, device=edges.device), -push)
        total[..., hit] += part
    return total, found


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cross product of vectors along the first dimension."""
    return torch.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))
