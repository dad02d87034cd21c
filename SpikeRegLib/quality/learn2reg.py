"""The figures of the Learn2Reg challenge as its own evaluation defines them, beside ours in `quality.metrics`.

Source: github.com/MDL-UzL/L2R, `evaluation/evaluation.py` and `evaluation/utils.py` (version of February 2025), and for
the surface distance github.com/google-deepmind/surface-distance, which it uses. Everything is in voxels of the fixed
image. Where they differ from ours:

- HD95 is in voxels, whatever their size. The surface goes through corners of voxels, is weighted by its area and closed
  at the border of the image. Ours is in mm; all voxels of the surface count alike, and the border is no surface. Both
  are the larger of the two directed 95th percentiles.
- TRE reads the displacement by a cubic spline, takes it as 0 outside the grid and measures lengths by the spacing of
  the moving image. Ours takes the transform itself, in patient space.
- SDlogJ is of log(clip(det + 3, 1e-9, 1e9)), which makes it far smaller, over the whole grid or a mask with two voxels
  of each border left out. Ours is of log(max(det, 1e-3)) inside the fixed labels, one voxel of each border left out.
- Folds are counted there as det + 3 <= 0 after that clip, which never happens. So they are not given here; ours are the
  share of det <= 0.

Dice is the same: 2 |A and B| / (|A| + |B|) of the labels that the fixed and the moving map both have. Moving labels are
resampled by the nearest voxel in both; only for positions up to half a voxel outside the moving image, Learn2Reg reads
background and everything here, as ITK, the outermost voxel.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.quality.metrics import jacobian_determinant
from SpikeRegLib.quality.splines import spline_weights

_BORDER = 2
_SHIFT = 3.0
_LEAST, _MOST = 1e-9, 1e9
_PERCENT = 95.0
_NEGLIGIBLE = 1e-12  # weight of a voxel in a spline
# Area of the surface (marching cubes through the middles of edges, unit voxels) between eight neighbours, by how many
# of them are inside, how many edges join two of these, and the most edges at one. Outside and inside count alike.
_R2, _R3 = 2**0.5, 3**0.5
_AREAS = {
    (0, 0, 0): 0.0,
    (1, 0, 0): _R3 / 8,
    (2, 0, 0): _R3 / 4,
    (2, 1, 1): _R2 / 2,
    (3, 0, 0): 3 * _R3 / 8,
    (3, 1, 1): _R2 / 2 + _R3 / 8,
    (3, 2, 2): 1 / 2 + 3 * _R3 / 8,
    (4, 0, 0): _R3 / 2,
    (4, 2, 1): _R2,
    (4, 2, 2): 1 / 2 + _R3 / 2,
    (4, 3, 2): _R2 / 2 + _R3 / 2,
    (4, 3, 3): 3 * _R3 / 4,
    (4, 4, 2): 1.0,
}


def learn2reg_sdlogj(displacement: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Standard deviation of log(clip(det(I + du/dindex) + 3, 1e-9, 1e9)), two voxels of each border left out.

    Args:
        displacement: u, [3, D, H, W] in voxels, components (i, j, k): from a fixed index to the moving one.
        mask: [D, H, W] bool, where it is taken; everywhere by default.

    Raises:
        InputError: an axis under five voxels, or no voxel of the mask left.
    """
    shape = tuple(int(length) for length in displacement.shape[1:])
    if min(shape) <= 2 * _BORDER:
        raise InputError(f"displacement: the grid {shape} has no voxel two voxels from its border; give a full field")
    inner = (slice(_BORDER, -_BORDER),) * 3
    determinant = jacobian_determinant(displacement, Frame((shape[0], shape[1], shape[2])))[inner].double()
    values = determinant if mask is None else determinant[mask[inner].bool()]
    if not values.numel():
        raise InputError("mask: has no voxel more than two voxels from the border; give a mask that covers the anatomy")
    return float((values + _SHIFT).clamp_(_LEAST, _MOST).log_().std(correction=0))


def learn2reg_hd95_voxels(
    fixed_labels: torch.Tensor, warped_labels: torch.Tensor, labels: Iterable[int]
) -> dict[int, float]:
    """95th percentile Hausdorff distance of label surfaces, in voxels whatever their size in mm.

    The surface consists of the corners of voxels around which some of the eight voxels are inside and some are not;
    beyond the image nothing is. Each corner counts with the area of the surface there. The distance is the larger of
    the two directed 95th percentiles.

    Args:
        fixed_labels, warped_labels: [D, H, W] label maps.
        labels: to be measured.

    Returns:
        {label: voxels}; infinite where one of the maps lacks the label, as in Learn2Reg.
    """
    fixed, warped = (volume.detach().cpu().numpy() for volume in (fixed_labels, warped_labels))
    if fixed.shape != warped.shape:
        raise InputError(f"labels: grids of {fixed.shape} and {warped.shape} voxels; give both on the fixed grid")
    found = {}
    for label in labels:
        masks = fixed == label, warped == label
        if not (masks[0].any() and masks[1].any()):
            found[label] = float("inf")
            continue
        box = _bounds(masks[0] | masks[1])
        surfaces = [_surface(mask[box]) for mask in masks]
        distances = [_distance_to(border) for border, _ in surfaces]
        found[label] = max(
            _percentile(distances[1 - n][border], areas[border]) for n, (border, areas) in enumerate(surfaces)
        )
    return found


def _bounds(mask: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the corners of voxels lie on the surface of [d, h, w], and its area there: [d + 1, h + 1, w + 1] each."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros(tuple(length + 1 for length in mask.shape), np.uint8)
    for bit in range(8):
        a, b, c = bit >> 2, bit >> 1 & 1, bit & 1
        code |= padded[a : a + code.shape[0], b : b + code.shape[1], c : c + code.shape[2]] << bit
    return (code != 0) & (code != 255), _area_table()[code]


def _area_table() -> np.ndarray:
    """[256] the area for each set of inside neighbours, bit n of which is the one at (n >> 2, n >> 1 & 1, n & 1)."""
    table = np.zeros(256)
    for code in range(256):
        inside = [bit for bit in range(8) if code >> bit & 1]
        if len(inside) > 4:
            inside = [bit for bit in range(8) if not code >> bit & 1]
        joined = [sum(one ^ other in (1, 2, 4) for other in inside) for one in inside]
        table[code] = _AREAS[len(inside), sum(joined) // 2, max(joined, default=0)]
    return table


def _distance_to(border: np.ndarray) -> np.ndarray:
    """Distance of every corner to the nearest one of the border, in voxels."""
    image = sitk.GetImageFromArray(border.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=False)
    return np.maximum(sitk.GetArrayFromImage(distance), 0)


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """The smallest distance up to which the surface has 95 % of its area."""
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    place = min(int(np.searchsorted(share, _PERCENT / 100)), len(order) - 1)
    return float(distances[order[place]])


def learn2reg_tre_mm(
    fixed_index: np.ndarray,
    moving_index: np.ndarray,
    displacement: torch.Tensor,
    moving_spacing: tuple[float, float, float],
) -> np.ndarray:
    """Target registration error of landmarks given in voxels, the field read by a cubic spline.

    Args:
        fixed_index: [N, 3] (i, j, k) of the fixed image, with fractions.
        moving_index: [N, 3] (i, j, k) of the moving image, in the same order.
        displacement: [3, D, H, W] in voxels, components (i, j, k): from a fixed index to the moving one.
        moving_spacing: mm along (i, j, k).

    Returns:
        [N] float64 mm.

    Raises:
        InputError: the numbers of points differ.
    """
    if len(fixed_index) != len(moving_index):
        raise InputError(
            f"points: {len(fixed_index)} fixed and {len(moving_index)} moving points; give corresponding lists"
        )
    field = displacement.detach().cpu().numpy()
    size = np.array(field.shape[:0:-1])  # along (i, j, k)
    moved = np.array(fixed_index, np.float64)
    inside = ((moved >= 0) & (moved <= size - 1)).all(1)
    weights = [spline_weights(moved[inside, axis], int(size[axis]), 3) for axis in range(3)]
    for row, point in enumerate(np.flatnonzero(inside)):
        along = [np.flatnonzero(np.abs(weights[axis][row]) > _NEGLIGIBLE) for axis in range(3)]
        i, j, k = (slice(int(there[0]), int(there[-1]) + 1) for there in along)
        part = field[:, k, j, i].astype(np.float64)
        moved[point] += np.einsum("ckji,k,j,i->c", part, weights[2][row, k], weights[1][row, j], weights[0][row, i])
    return np.linalg.norm((moved - moving_index) * np.asarray(moving_spacing), axis=1)
