"""Folders as a registration writes them, small and with known content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LAYERS = ("enc0.conv", "bottleneck", "dec0.conv")
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS


def itkImage(array: np.ndarray, ijkToRas: np.ndarray, vector: bool = False) -> sitk.Image:
    """A [K, J, I] array on a grid given in RAS, as an image in LPS."""
    matrix = FLIP @ ijkToRas
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def smoothDisplacement(shape: tuple[int, int, int], ijkToRas: np.ndarray, size: float = 4.0) -> sitk.Transform:
    """A displacement field of up to `size` mm that vanishes at the border of its grid, as a registration's does."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, np.pi, n) for n in shape], indexing="ij"), -1)
    bump = np.prod(np.sin(grid), axis=-1)
    field = (
        size
        * bump[..., None]
        * np.stack([np.cos(2 * grid[..., 0]), np.sin(3 * grid[..., 1]), np.cos(grid[..., 2] + 1)], -1)
    )
    return sitk.DisplacementFieldTransform(itkImage(field, ijkToRas, vector=True))


def affine(seed: int = 0) -> sitk.AffineTransform:
    """A rotation of some degrees with scale, shear and shift, LPS."""
    random = np.random.default_rng(seed)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.eye(3) + random.uniform(-0.12, 0.12, (3, 3))).ravel().tolist())
    transform.SetTranslation(random.uniform(-5, 5, 3).tolist())
    return transform


def composite(shape: tuple[int, int, int], ijkToRas: np.ndarray, size: float = 4.0) -> sitk.CompositeTransform:
    """What `transform.h5` holds: the displacement sees the fixed point first, then the affine part."""
    return sitk.CompositeTransform([affine(), smoothDisplacement(shape, ijkToRas, size)])


def writeRunFolder(
    folder: Path,
    moving: sitk.Image,
    fixed: sitk.Image,
    transform: sitk.Transform,
    folded: int = 0,
    layers: tuple[str, ...] = LAYERS,
) -> Path:
    """Write `transform.h5`, `warped`, `jacobian`, `spikes/` and `result.json` of a registration with that transform.

    Args:
        folded: how many voxels at the start of the fixed grid have a Jacobian determinant of -0.5.
    """
    (folder / "spikes").mkdir(parents=True)
    sitk.WriteTransform(transform, str(folder / "transform.h5"))
    sitk.WriteImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear), str(folder / "warped.nii.gz"))
    values = np.ones(fixed.GetSize()[::-1], np.float32)
    values.ravel()[:folded] = -0.5
    jacobian = sitk.GetImageFromArray(values)
    jacobian.CopyInformation(fixed)
    sitk.WriteImage(jacobian, str(folder / "jacobian.nii.gz"))
    random = np.random.default_rng(0)
    for number, name in enumerate(layers):
        shape = tuple(max(4, n >> number) for n in fixed.GetSize()[::-1])
        rate = itkImage(random.uniform(0, 1, shape).astype(np.float32), np.diag([2.0 * 2**number] * 3 + [1]))
        sitk.WriteImage(rate, str(folder / "spikes" / f"{name}.nii.gz"))
    result = {
        "schema": 1,
        "verdict": {"level": "good", "reasons": ["a “made-up” run"]},
        "spikes": {"layers": [{"name": name, "rate": 0.1} for name in (*layers, "head")]},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder
