"""Whole-head label maps made ready for drawing: the head around the brain is kept, and its own pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn import functional

from SpikeRegLib.anatomy.layout import Layout, places
from SpikeRegLib.anatomy.structures import CLASS_OF, CLASSES, CSF, FOLDED, LABELS, OUTSIDE, VENTRICLES
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.training.subjects import read_label_map

# The grid of a head: 1 mm along the axes of LPS, the middle of the brain in its centre (z, y, x).
SHAPE = (224, 256, 224)
SPACING_MM = 1.0
# Voxels of 1 mm to a voxel that is drawn, and to one of the push, along an axis.
DRAWN, PUSHED = 2, 8
# Codes: the classes of the network, then what lies around the brain.
CODES = CLASSES + len(OUTSIDE)


@dataclass(frozen=True)
class WholeHead:
    """One head.

    Attributes:
        name: the file it came from.
        codes: [D, H, W] uint8 at 1 mm: 0 air, classes of structures, from `CLASSES` on the tissues of `OUTSIDE`.
        distance: [D/2, H/2, W/2] float16, mm to the brain (negative inside; CSF does not count as brain).
        ventricle_push: [3, D/8, H/8, W/8] vectors (x, y, z) of about unit size away from the lateral ventricles.
    """

    name: str
    codes: torch.Tensor
    distance: torch.Tensor
    ventricle_push: torch.Tensor


def code_table() -> np.ndarray:
    """[1024] uint8: the code of every label of a whole-head map; labels nobody knows become air."""
    table = np.zeros(1024, np.uint8)
    table[list(LABELS)] = [CLASS_OF[label] for label in LABELS]
    for label, target in FOLDED.items():
        table[label] = CLASS_OF.get(target, 0)
    table[list(OUTSIDE)] = np.arange(CLASSES, CODES)
    return table


def load_heads(paths: list[Path], shape: tuple[int, int, int] = SHAPE) -> list[WholeHead]:
    """Read whole-head label maps (FreeSurfer codes, what lies outside the brain from 500 on).

    Args:
        paths: of the files.
        shape: of the grid at 1 mm, multiples of 8.

    Raises:
        InputError: a file is unreadable, lacks a structure or has nothing around the brain.
    """
    return [_prepare(path, shape) for path in paths]


def layout_of(heads: list[WholeHead]) -> Layout:
    """The mean layout of the heads' structures, at the resolution at which they are drawn."""
    found = []
    for head in heads:
        codes = head.codes[::DRAWN, ::DRAWN, ::DRAWN].long()
        codes = torch.where(codes < CLASSES, codes, 0)
        maps = functional.one_hot(codes, CLASSES).movedim(-1, 0).float()
        depth, height, width = codes.shape
        found.append(places(maps, Frame((depth, height, width), spacing=(DRAWN * SPACING_MM,) * 3)))
    return Layout.of(found)


def _prepare(path: Path, shape: tuple[int, int, int]) -> WholeHead:
    image = read_label_map(path)
    codes = code_table()[sitk.GetArrayFromImage(image).clip(0, 1023)]
    found = set(np.unique(codes).tolist())
    if missing := [label for label, code in CLASS_OF.items() if code not in found]:
        raise InputError(f"{path}: lacks the labels {missing}; give whole-head FreeSurfer label maps")
    if not any(code >= CLASSES for code in found):
        raise InputError(f"{path}: has no labels around the brain ({OUTSIDE[0]} and more); give whole heads")
    middle = np.argwhere((codes > 0) & (codes < CLASSES)).mean(0)[::-1]
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(middle.tolist()))
    size = shape[::-1]
    origin = centre - (np.array(size) - 1) / 2
    coded = sitk.GetImageFromArray(codes)
    coded.CopyInformation(image)
    upright = np.eye(3).ravel().tolist()
    drawn = sitk.Resample(
        coded, size, sitk.Transform(), sitk.sitkNearestNeighbor, origin.tolist(), (SPACING_MM,) * 3, upright, 0
    )
    fine = torch.from_numpy(sitk.GetArrayFromImage(drawn))
    brain = (fine > 0) & (fine < CLASSES) & (fine != CLASS_OF[CSF])
    ventricles = torch.stack([fine == CLASS_OF[label] for label in VENTRICLES]).any(0)
    away = _signed_distance(ventricles)
    normal = torch.stack(torch.gradient(away)[::-1]) / (DRAWN * SPACING_MM)
    push = gaussian(normal * torch.exp(-((away.clamp_min(0) / 12.0) ** 2)), 1.0)
    push = functional.avg_pool3d(push[None], PUSHED // DRAWN)[0]
    return WholeHead(Path(path).name, fine, _signed_distance(brain).half(), push)


def _signed_distance(mask: torch.Tensor) -> torch.Tensor:
    """[D/2, H/2, W/2] mm to a mask at 1 mm, negative inside."""
    coarse = functional.avg_pool3d(mask[None, None].float(), DRAWN)[0, 0] > 0.5
    image = sitk.GetImageFromArray(coarse.numpy().astype(np.uint8))
    image.SetSpacing((DRAWN * SPACING_MM,) * 3)
    return torch.from_numpy(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))
