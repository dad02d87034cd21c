"""Displacement fields as maps: sampling, composition, and the guard that keeps them one to one."""

from __future__ import annotations

import functools

import numpy as np
import torch

from SpikeRegLib.filters import box_sum, gaussian

# Smallest volume change a returned field may have. Above zero, so that resampling on another grid cannot fold it.
SMALLEST_JACOBIAN = 0.05
_LOCAL_ROUNDS = 40


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)
def _positions(
    shape: tuple[int, int, int], start: tuple[float, float, float], source: tuple[int, int, int], device: str
) -> torch.Tensor:
    """[3, D, H, W] normalised (x, y, z) coordinates, in the source array, of voxels that begin at index `start`."""
    axes = [(torch.arange(n) + a) * (2 / (m - 1)) - 1 for n, a, m in zip(shape, start, source, strict=True)]
    depth, height, width = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([width, height, depth]).float().to(device)


def sample(
    volume: torch.Tensor, displacement: torch.Tensor, *, start: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> torch.Tensor:
    """Linear interpolation of `volume` at x + displacement(x); border values continue outside.

    Args:
        volume: [C, D, H, W].
        displacement: [3, d, h, w] in voxels of `volume`, components (x, y, z).
        start: index (D, H, W) in `volume` of the first voxel of `displacement`.

    Returns:
        [C, d, h, w].
    """
    depth, height, width = volume.shape[-3:]
    shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
    position = _positions(shape, start, (depth, height, width), str(volume.device))
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1), 2 / (depth - 1)], device=volume.device).view(3, 1, 1, 1)
    grid = torch.addcmul(position, displacement, scale).permute(1, 2, 3, 0)[None]
    return torch.nn.functional.grid_sample(volume[None], grid, padding_mode="border", align_corners=True)[0]


def hold_border(field: torch.Tensor) -> torch.Tensor:
    """Set the outermost layer of `field` to zero, in place: outside its grid a displacement field is zero, too."""
    for axis in (-3, -2, -1):
        field.narrow(axis, 0, 1).zero_()
        field.narrow(axis, field.shape[axis] - 1, 1).zero_()
    return field


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
    sign = 1.0 if float(torch.linalg.det(linear)) >= 0 else -1.0
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
    """Smooth the field where, and only where, its Jacobian determinant is below `smallest`, until it is nowhere.

    Each round blends the field with its Gaussian average around the bad cells; the neighbourhood and the Gaussian grow
    slowly. A field that resists (noise, for instance) is shrunk towards the identity in the end, which always succeeds.

    Args:
        displacement: [3, D, H, W] in voxels, zero on the outermost layer.
        linear: [3, 3], a second reading of the Jacobian that has to be positive too (see `as_itk_sees`).

    Returns:
        The field, and the number of cells that were below `smallest` at the start (0: the same field is returned).
    """

    def bad_cells() -> torch.Tensor:
        bad = smallest_jacobian(displacement) < smallest
        if linear is not None:
            bad |= smallest_jacobian(displacement, linear) < smallest
        return bad

    found = 0
    for round_ in range(_LOCAL_ROUNDS):
        bad = bad_cells()
        count = int(bad.sum())
        found = found or count
        if not count:
            return displacement, found
        reach = 1 + round_ // 4
        near = torch.nn.functional.pad(bad[None].to(displacement.dtype), (0, 1, 0, 1, 0, 1))
        near = (box_sum(near, 2 * reach + 1) > 0.5).to(displacement.dtype)
        weight = gaussian(near, 1.0 + 0.25 * reach)
        smooth = gaussian(displacement, 0.8 + 0.15 * round_)
        displacement = hold_border(displacement + weight * (smooth - displacement))
    while bool(bad_cells().any()):
        displacement = 0.8 * displacement
    return displacement, found
