"""How good a registration is: overlap and distance of labels, landmark error, regularity, inverse consistency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.images.files import set_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.sampling import slabs
from SpikeRegLib.space.transforms import CompositeTransform, Transform

# Labels up to which a table of all of them is small; those of some atlases have nine digits.
MOST_TABLE = 1 << 20


def dice(fixed_labels: Volume, warped_labels: Volume, groups: Mapping[int, int] | None = None) -> dict[int, float]:
    """Dice overlap 2 |A and B| / (|A| + |B|) of every label of the fixed map, 0 (background) left out.

    Args:
        fixed_labels: label map.
        warped_labels: label map on the same grid.
        groups: label -> group; labels missing from it are background, as in the published evaluations.

    Returns:
        {label or group: Dice in [0, 1]}, ascending; 0 for a label that the warped map lacks.

    Raises:
        InputError: the grids differ.
    """
    labels, fixed, warped = _grouped(fixed_labels, warped_labels, groups)
    in_fixed, in_warped, common = (np.zeros(len(labels), np.int64) for _ in range(3))
    for first, second in zip(fixed, warped, strict=True):  # plane by plane: counting takes eight bytes a voxel
        in_fixed += np.bincount(first.ravel(), minlength=len(labels))
        in_warped += np.bincount(second.ravel(), minlength=len(labels))
        common += np.bincount(first[first == second], minlength=len(labels))
    return {int(labels[n]): float(2 * common[n] / (in_fixed[n] + in_warped[n])) for n in np.flatnonzero(in_fixed) if n}


def hd95_mm(fixed_labels: Volume, warped_labels: Volume, groups: Mapping[int, int] | None = None) -> dict[int, float]:
    """95th percentile Hausdorff distance between the label surfaces: the larger of the two directions, in mm.

    Surface voxels are those of the label with a face neighbour outside it. A label that one of the maps lacks has no
    distance and is left out. Arguments and errors as in `dice`.
    """
    labels, *arrays = _grouped(fixed_labels, warped_labels, groups)
    frame = fixed_labels.frame
    maps = [set_frame(sitk.GetImageFromArray(array), frame) for array in arrays]
    boxes = []
    for image in maps:
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.ComputeFeretDiameterOff()
        shapes.ComputePerimeterOff()
        shapes.Execute(image)
        boxes.append({label: np.array(shapes.GetBoundingBox(label)) for label in shapes.GetLabels() if label})
    result = {}
    for label in sorted(boxes[0].keys() & boxes[1].keys()):
        first = np.minimum(boxes[0][label][:3], boxes[1][label][:3])
        last = np.maximum(*(box[label][:3] + box[label][3:] for box in boxes))
        lower = [int(v) for v in np.maximum(first - 1, 0)]
        size = [int(v) for v in np.minimum(last + 1, frame.size) - lower]
        surfaces = [
            sitk.LabelContour(sitk.Equal(sitk.RegionOfInterest(image, size, lower), label), False) for image in maps
        ]
        result[int(labels[label])] = max(_directed_hd95(*surfaces), _directed_hd95(*reversed(surfaces)))
    return result


def _directed_hd95(surface: sitk.Image, other: sitk.Image) -> float:
    distance = sitk.SignedMaurerDistanceMap(other, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    on_surface = sitk.GetArrayViewFromImage(surface) > 0
    return float(np.percentile(np.abs(sitk.GetArrayViewFromImage(distance)[on_surface]), 95))


def _grouped(
    fixed: Volume, warped: Volume, groups: Mapping[int, int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels or groups of two maps, ascending from 0 on, and both maps [D, H, W] as places in that list.

    Some atlases have labels of nine digits, for which no table of all numbers in between would fit.
    """
    if fixed.frame.shape != warped.frame.shape or not np.allclose(fixed.frame.matrix, warped.frame.matrix, atol=1e-3):
        raise InputError(
            f"{warped.name or 'labels'}: the labels are on another grid than {fixed.name or 'the fixed labels'}; "
            "resample them with nearest neighbour first"
        )
    arrays = [volume.data.detach().cpu().numpy() for volume in (fixed, warped)]
    wanted = {int(label): int(group) for label, group in (groups or {}).items()}
    top = max(int(array.max()) for array in arrays)
    if top < MOST_TABLE:
        seen = np.zeros(max(top, 0) + 1, bool)
        seen[0] = True
        for array in arrays:
            for plane in array:
                seen[np.maximum(plane, 0).astype(np.intp)] = True
        present = np.flatnonzero(seen)
    else:
        present = np.unique(np.concatenate([[0], *(np.unique(plane) for array in arrays for plane in array)]))
        present = present[present >= 0].astype(np.int64)
    group_of = present if groups is None else np.array([wanted.get(int(label), 0) for label in present])
    labels, places = np.unique(np.maximum(group_of, 0), return_inverse=True)
    if labels[0] != 0:  # a group of its own for the background
        labels, places = np.concatenate(([0], labels)), places + 1
    kind = np.uint16 if len(labels) <= 2**16 else np.int32
    table = None
    if top < MOST_TABLE:
        table = np.zeros(len(seen), kind)
        table[present] = places
    placed = [np.empty(array.shape, kind) for array in arrays]
    for array, out in zip(arrays, placed, strict=True):
        for plane, found in zip(array, out, strict=True):
            values = np.maximum(plane, 0).astype(np.int64)
            found[...] = places[np.searchsorted(present, values)] if table is None else table[values]
    return labels, placed[0], placed[1]


def target_registration_error_mm(
    fixed_points: torch.Tensor, moving_points: torch.Tensor, transform: Transform
) -> torch.Tensor:
    """|T(f) - m| of corresponding landmarks.

    Args:
        fixed_points: [N, 3] LPS mm.
        moving_points: [N, 3] LPS mm, in the same order.
        transform: maps fixed to moving points.

    Returns:
        [N] float64 mm.

    Raises:
        InputError: the numbers of points differ.
    """
    if len(fixed_points) != len(moving_points):
        raise InputError(
            f"points: {len(fixed_points)} fixed and {len(moving_points)} moving points; give corresponding lists"
        )
    return (transform.map_points(fixed_points) - moving_points.double()).norm(dim=1)


def jacobian_determinant(displacement: torch.Tensor, frame: Frame) -> torch.Tensor:
    """det(I + du/dx) by central differences (one-sided at the border of the grid), in patient space.

    The derivative is taken along the patient axes on any grid. ITK's DisplacementFieldJacobianDeterminant ignores the
    direction cosines; the two agree where these are the identity.

    Args:
        displacement: u, [3, D, H, W] mm on `frame`.
        frame: any spacing and direction.

    Returns:
        [D, H, W] float32; 1 where the volume is preserved, <= 0 where the map folds.
    """
    # det(I + du/dx) = det(M + du/dindex) / det(M), M = dx/dindex: no rotation of the nine derivatives is needed.
    axes = frame.matrix[:3, :3]
    out = torch.empty(frame.shape)
    depth = frame.shape[0]
    for start, stop in slabs(frame):
        first, last = max(0, start - 1), min(depth, stop + 1)
        if last - first < 2:
            first = max(0, first - 1)
        block = displacement[:, first:last].float()
        own = slice(start - first, stop - first)
        slope = _twice_slope(block[:, own], 3), _twice_slope(block[:, own], 2), _twice_slope(block, 1)[:, own]
        a, b, c = (slope[n].add_(torch.as_tensor(2 * axes[:, n]).float()[:, None, None, None]) for n in range(3))
        determinant = (b[1] * c[2]).addcmul_(b[2], c[1], value=-1).mul_(a[0])
        determinant += (b[2] * c[0]).addcmul_(b[0], c[2], value=-1).mul_(a[1])
        determinant += (b[0] * c[1]).addcmul_(b[1], c[0], value=-1).mul_(a[2])
        torch.mul(determinant, 1 / (8 * float(np.linalg.det(axes))), out=out[start:stop])
    return out


def _twice_slope(values: torch.Tensor, dim: int) -> torch.Tensor:
    """What lies between the two neighbours along an axis; at its ends, twice what lies up to the one."""
    out, n = torch.empty_like(values, memory_format=torch.contiguous_format), values.shape[dim]
    torch.sub(values.narrow(dim, 2, n - 2), values.narrow(dim, 0, n - 2), out=out.narrow(dim, 1, n - 2))
    for end, inner in ((0, 0), (n - 1, n - 2)):
        torch.sub(values.narrow(dim, inner + 1, 1), values.narrow(dim, inner, 1), out=out.narrow(dim, end, 1)).mul_(2)
    return out


def deformation_summary(
    displacement: torch.Tensor, frame: Frame, mask: torch.Tensor | None = None, *, jacobian: torch.Tensor | None = None
) -> dict[str, float]:
    """Regularity and size of a deformation, on the interior of the grid (its outermost voxels left out).

    Args:
        displacement: [3, D, H, W] mm on `frame`.
        frame: its grid.
        mask: [D, H, W] bool for `sdlogj`; everywhere by default.
        jacobian: the determinant of this field, if it is at hand already.

    Returns:
        folding_percent: share of the interior with det <= 0. sdlogj: standard deviation of log(max(det, 1e-3)) inside
        the mask. jacobian_min, jacobian_max: over the interior. mean_mm, max_mm: length of the displacement over the
        whole grid.
    """
    determinant = jacobian_determinant(displacement, frame) if jacobian is None else jacobian
    interior = determinant[1:-1, 1:-1, 1:-1]
    brain = interior if mask is None else interior[mask[1:-1, 1:-1, 1:-1].bool()]
    logarithm = brain.clamp(min=1e-3).log_().double()
    smallest, largest = float(interior.min()), float(interior.max())
    total, longest = 0.0, 0.0
    for start, stop in slabs(frame):
        length = displacement[:, start:stop].square().sum(0).sqrt_()
        total += float(length.sum(dtype=torch.float64))
        longest = max(longest, float(length.max()))
    return {
        "folding_percent": 100 * int((interior <= 0).count_nonzero()) / interior.numel(),
        "sdlogj": float(logarithm.std(correction=0)) if logarithm.numel() else 0.0,
        "jacobian_min": smallest,
        "jacobian_max": largest,
        "mean_mm": total / determinant.numel(),
        "max_mm": longest,
    }


def inverse_consistency_mm(
    forward: Transform,
    inverse: Transform,
    frame: Frame,
    mask: torch.Tensor | None = None,
    *,
    samples: int | None = None,
) -> float:
    """Mean of |T^-1(T(x)) - x| over the voxel centres x of `frame` inside the mask, in mm.

    Args:
        forward, inverse: two maps that should undo each other.
        frame: where they are compared; a field's own nodes would show its interpolation at its best or worst.
        mask: [D, H, W] bool; everywhere by default.
        samples: at most so many voxels, drawn with a fixed seed; all of them by default.
    """
    inside = torch.ones(frame.shape, dtype=torch.bool) if mask is None else mask.bool()
    box = bounding_box(inside)
    if box is None:
        raise InputError("mask: empty; give a mask that covers the anatomy")
    if samples is not None:
        index = _drawn(inside, samples)
        matrix = torch.from_numpy(frame.matrix)
        points = index.double() @ matrix[:3, :3].t() + matrix[:3, 3]
        return float((inverse.map_points(forward.map_points(points)) - points).norm(dim=1).mean())
    first, last = box  # the rest of the grid costs time only
    depth, height, width = (b - a + 1 for a, b in zip(first, last, strict=True))
    cropped = frame.part(first[::-1], (depth, height, width))
    length = CompositeTransform([forward, inverse]).displacement_on(cropped).square_().sum(0).sqrt_()
    return float(length[inside[slices_of(first, last)]].double().mean())


def _drawn(inside: torch.Tensor, count: int) -> torch.Tensor:
    """[n, 3] indices (i, j, k) of at most `count` of the true voxels of [D, H, W], drawn with a fixed seed."""
    planes = np.array([int(plane.count_nonzero()) for plane in inside])  # `sum` would copy to eight bytes a voxel
    ends = planes.cumsum()
    ranks = _first_of_permutation(int(ends[-1]), count)
    where = np.searchsorted(ends, ranks, side="right")
    index = np.empty((len(ranks), 3), dtype=np.int64)
    for k in np.unique(where):
        here = where == k
        j, i = torch.nonzero(inside[k], as_tuple=True)
        chosen = torch.from_numpy(ranks[here] - (ends[k] - planes[k]))
        index[here] = np.stack((i[chosen].numpy(), j[chosen].numpy(), np.full(len(chosen), k)), 1)
    return torch.from_numpy(index)


def _first_of_permutation(count: int, wanted: int) -> np.ndarray:
    """The first `wanted` of a random permutation of 0 .. count - 1, without the memory of the whole one.

    Fisher and Yates' shuffle of which only the places that it has touched are kept; for less than 2 x 10^8 the same
    numbers as torch.randperm gives with seed 0.
    """
    wanted = min(wanted, count)
    draws = np.random.RandomState(0).randint(0, 2**32, size=wanted, dtype=np.uint32).tolist()
    moved: dict[int, int] = {}
    chosen = []
    for place, draw in enumerate(draws):
        other = place + draw % (count - place)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return np.array(chosen, dtype=np.int64)
