"""Make the bundled sample pair from two label maps: python -m SpikeRegLib.training.sample FIXED_MAP MOVING_MAP OUT.

Two different synthetic heads, T1-like, skull-stripped, on different grids: the moving one is anisotropic, oblique and
elsewhere in the scanner, so that the demo shows alignment and deformation. Its segmentations belong to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.anatomy.structures import CSF, LABELS
from SpikeRegLib.training.appearance import T1_MEANS
from SpikeRegLib.training.subjects import fold_labels


def _grid(
    spacing: tuple[float, float, float],
    angles: tuple[float, float, float],
    centre: np.ndarray,
    extent_mm: tuple[int, int, int],
) -> sitk.Image:
    """An empty image of `extent_mm` around `centre` (LPS mm), rotated by Euler angles in degrees."""
    rotation = sitk.Euler3DTransform((0.0, 0.0, 0.0), *np.deg2rad(angles).tolist())
    direction = np.reshape(rotation.GetMatrix(), (3, 3))
    size = [round(e / s) for e, s in zip(extent_mm, spacing, strict=True)]
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((centre - direction @ (np.array(spacing) * (np.array(size) - 1) / 2)).tolist())
    return image


def _draw(path: Path, grid_of: dict[str, Any], seed: int) -> tuple[sitk.Image, sitk.Image]:
    """The image (uint8) and the label map (uint8) of one head."""
    random = np.random.default_rng(seed)
    source = sitk.ReadImage(str(path), sitk.sitkInt16)
    labels = fold_labels(sitk.GetArrayFromImage(source))
    brain = sitk.GetImageFromArray(((labels > 0) & (labels != CSF)).astype(np.uint8))
    shell = sitk.GetArrayFromImage(sitk.BinaryDilate(sitk.BinaryMorphologicalClosing(brain, (4, 4, 4)), (2, 2, 2)))
    labels[(labels == CSF) & (shell == 0)] = 0
    table = np.zeros(256, np.float32)
    for label in LABELS:
        table[label] = T1_MEANS[label] * (1 + 0.03 * random.standard_normal())
    intensity = table[labels]
    noise = sitk.GetImageFromArray(random.standard_normal(labels.shape).astype(np.float32))
    texture = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise, 2.0))
    intensity *= 1 + 0.06 * texture / texture.std()
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in labels.shape), indexing="ij")
    a, b, c = random.uniform(-0.12, 0.12, 3)
    intensity *= np.exp(a * x + b * y + c * z)
    image = sitk.GetImageFromArray(intensity)
    image.CopyInformation(source)
    seg = sitk.GetImageFromArray(np.where(labels == CSF, 0, labels))
    seg.CopyInformation(source)
    index = np.argwhere(labels > 0).mean(0)[::-1]
    grid = _grid(centre=np.array(source.TransformContinuousIndexToPhysicalPoint(index.tolist())), **grid_of)
    smooth = sitk.SmoothingRecursiveGaussian(image, [0.4 * s for s in grid_of["spacing"]])
    drawn = sitk.GetArrayFromImage(sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, 0.0))
    drawn = np.where(drawn > 8, drawn + 2.0 * random.standard_normal(drawn.shape), 0)
    result = sitk.GetImageFromArray(np.clip(np.rint(drawn), 0, 255).astype(np.uint8))
    result.CopyInformation(grid)
    return result, sitk.Resample(seg, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def make_sample(fixed_map: Path, moving_map: Path, out: Path) -> None:
    """Write fixed, moving, fixed_seg and moving_seg as .nii.gz into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    fixed_grid = {"spacing": (1.8, 1.8, 1.8), "angles": (0, 0, 0), "extent_mm": (158, 194, 162)}
    moving_grid = {"spacing": (1.6, 1.6, 2.4), "angles": (8, -5, 12), "extent_mm": (166, 204, 168)}
    for role, path, grid, seed in (("fixed", fixed_map, fixed_grid, 1), ("moving", moving_map, moving_grid, 2)):
        image, labels = _draw(path, grid, seed)
        if role == "moving":
            shift = np.array(image.GetOrigin()) + (31.0, -24.0, 17.0)
            image.SetOrigin(shift.tolist())
            labels.SetOrigin(shift.tolist())
        sitk.WriteImage(image, str(out / f"{role}.nii.gz"), True, 9)
        sitk.WriteImage(sitk.Cast(labels, sitk.sitkUInt8), str(out / f"{role}_seg.nii.gz"), True, 9)


if __name__ == "__main__":
    make_sample(*(Path(argument) for argument in sys.argv[1:4]))
