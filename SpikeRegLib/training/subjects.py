"""Label maps made ready for drawing: aligned to a common space and stored as the share of every label in each voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.anatomy.structures import CSF, FOLDED, LABELS, VENTRICLES
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.system.itk_names import itk_name

# The common space: 2 mm, world-aligned, large enough for any adult brain (z, y, x), multiples of 16 voxels.
SHAPE = (80, 96, 80)
SPACING_MM = 2.0


@dataclass(frozen=True)
class Subject:
    """One head in the common space.

    Attributes:
        name: the file it came from.
        shares: [labels, D, H, W] uint8 in 0..8, eighths of each 2 mm voxel covered by each of `LABELS`.
        distance: [D, H, W] float16, mm to the brain (negative inside).
        ventricle_push: [3, D, H, W] float16, smooth unit-sized vectors away from the lateral ventricles, fading with
            distance: a multiple of it enlarges or shrinks them.
        fine_labels: [2D, 2H, 2W] uint8 at 1 mm, 1 + the place in `LABELS`, 0 elsewhere; the voxel n of 2 mm covers
            2n and 2n + 1 along each axis.
    """

    name: str
    shares: torch.Tensor
    distance: torch.Tensor
    ventricle_push: torch.Tensor
    fine_labels: torch.Tensor


def fold_labels(labels: np.ndarray) -> np.ndarray:
    """Whole-head codes to `LABELS` and 0."""
    table = np.zeros(max(1024, int(labels.max()) + 1), np.uint8)
    table[list(LABELS)] = LABELS
    for code, target in FOLDED.items():
        table[code] = target
    return table[np.maximum(labels, 0)]


def _centroids(labels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """[labels, 3] LPS mm; CSF is left out, it has no stable centre."""
    index = np.stack(np.nonzero(labels), 1)
    code = labels[labels > 0]
    count = np.bincount(code, minlength=256).astype(float)
    sums = [np.bincount(code, weights=index[:, axis], minlength=256) for axis in (2, 1, 0)]
    mean = np.stack(sums, 1) / np.maximum(count, 1)[:, None]
    wanted = [label for label in LABELS if label != CSF]
    return mean[wanted] @ matrix[:3, :3].T + matrix[:3, 3]


def _fit_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[3, 4] least-squares affine map of points source -> target."""
    homogeneous = np.concatenate((source, np.ones((len(source), 1))), 1)
    return np.linalg.lstsq(homogeneous, target, rcond=None)[0].T


def _rotation(matrix: np.ndarray) -> np.ndarray:
    """[3, 3] the rotation nearest to a matrix."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right


def _common_centroids(points: list[np.ndarray]) -> np.ndarray:
    """The mean arrangement of structures, at the mean size and in the mean orientation of the heads, about the origin.

    Heads are brought together by rotation and size alone: under general affine maps any sheared and turned arrangement
    would be a mean as good as another, and no head would look like the heads that are registered later.
    """
    centred = [p - p.mean(0) for p in points]
    sizes = [np.sqrt((p**2).sum(1).mean()) for p in centred]
    shapes = [p / size for p, size in zip(centred, sizes, strict=True)]
    mean = shapes[0]
    for _ in range(8):
        turned = [p @ _rotation(p.T @ mean) for p in shapes]
        mean = np.mean(turned, 0)
        mean = mean / np.sqrt((mean**2).sum(1).mean())
    # Rows are points: p is about mean @ turn, so the mean of the turns brings it into the heads' own orientation.
    upright = _rotation(np.mean([_rotation(mean.T @ p) for p in shapes], 0))
    return mean @ upright * np.mean(sizes)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((SPACING_MM,) * 3)
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))


def _prepare(name: str, labels: np.ndarray, frame: Frame, to_head: np.ndarray) -> Subject:
    """Draw one head into the common space; `to_head` [3, 4] maps common LPS points to the head's LPS points."""
    depth, height, width = SHAPE
    fine = Frame((2 * depth, 2 * height, 2 * width))
    centre = (np.array(fine.size) - 1) / 2
    image = sitk.GetImageFromArray(labels)
    image.SetOrigin(frame.origin)
    image.SetSpacing(frame.spacing)
    image.SetDirection(frame.direction)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_head[:, :3].ravel().tolist())
    transform.SetTranslation(to_head[:, 3].tolist())
    upright = np.eye(3).ravel().tolist()
    drawn = sitk.Resample(
        image, fine.size, transform, sitk.sitkNearestNeighbor, (-centre).tolist(), (1.0, 1.0, 1.0), upright, 0
    )
    table = np.zeros(256, np.uint8)
    table[list(LABELS)] = np.arange(1, len(LABELS) + 1)
    fine_array = sitk.GetArrayFromImage(drawn)
    array = torch.from_numpy(fine_array).reshape(depth, 2, height, 2, width, 2)
    shares = torch.stack([(array == label).sum((1, 3, 5), dtype=torch.uint8) for label in LABELS])
    brain = [i for i, label in enumerate(LABELS) if label != CSF]
    distance = _signed_distance((shares[brain].sum(0) >= 4).numpy())
    ventricles = shares[[LABELS.index(label) for label in VENTRICLES]].sum(0) >= 4
    away = torch.from_numpy(_signed_distance(ventricles.numpy()))
    normal = torch.stack(torch.gradient(away)[::-1]) / SPACING_MM
    push = gaussian(normal * torch.exp(-((away.clamp_min(0) / 12.0) ** 2)), 2.0)
    fine_labels = torch.from_numpy(table[fine_array])
    return Subject(name, shares, torch.from_numpy(distance).half(), push.half(), fine_labels)


def read_label_map(path: Path) -> sitk.Image:
    """A three-dimensional label map with 16-bit codes.

    Raises:
        InputError: the file is missing or unreadable, or has another number of dimensions.
    """
    try:
        image = sitk.ReadImage(itk_name(path), sitk.sitkInt16)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise InputError(f"{path}: not a readable label map ({reason}); give NIfTI, NRRD or MHA") from error
    if image.GetDimension() != 3:
        raise InputError(f"{path}: has {image.GetDimension()} dimensions; give one three-dimensional label map")
    return image


def load_subjects(paths: list[Path]) -> list[Subject]:
    """Read whole-head label maps (FreeSurfer codes) and bring them to the common space.

    Raises:
        InputError: a file is missing, unreadable or lacks one of the structures.
    """
    heads = []
    for path in paths:
        image = read_label_map(path)
        labels = fold_labels(sitk.GetArrayFromImage(image))
        missing = set(LABELS) - set(np.unique(labels).tolist())
        if missing:
            raise InputError(f"{path}: lacks the labels {sorted(missing)}; give whole-head FreeSurfer label maps")
        frame = Frame(labels.shape, image.GetOrigin(), image.GetSpacing(), image.GetDirection())
        heads.append((Path(path).name, labels, frame))
    points = [_centroids(labels, frame.matrix) for _, labels, frame in heads]
    common = _common_centroids(points)
    # The mean of the structures lies below and in front of the middle of the brain: this centres the brain instead.
    common = common - np.array([0.0, 1.0, 4.0])
    return [
        _prepare(name, labels, frame, _fit_affine(common, centroids))
        for (name, labels, frame), centroids in zip(heads, points, strict=True)
    ]
