"""Heads that were moved in a known way, drawn by SimpleITK alone so that nothing that is tested takes part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.commissioning import KINDS

# Least and most of what is drawn: degrees and mm, scales and shears, mm of the warps.
_TURN_DEGREES, _SHIFT_MM = 12.0, 15.0
_SCALE, _SHEAR = 0.08, 0.05
# Correlation length and root mean square of the parts of a smooth warp; pushes of a local one and their width.
_SMOOTH_MM = ((45.0, 3.0), (22.0, 1.2))
_PUSHES_MM = ((10.0, 18.0), (6.0, 12.0))
_FIELD_MM = 4.0
_MARGIN_MM = 24.0
# Standard deviation of the noise in each image, as a share of its bright parts.
_NOISE = 0.02


@dataclass(frozen=True)
class Phantom:
    """Two images of one head and the map that one was drawn from the other with.

    Attributes:
        kind: one of `commissioning.KINDS`.
        fixed, moving: float32.
        drawn: maps points of the moving image to points of the fixed one (LPS mm): the inverse of what a registration
            looks for, moving(y) = fixed(drawn(y)).
    """

    kind: str
    fixed: sitk.Image
    moving: sitk.Image
    drawn: sitk.Transform


def make_phantom(head: sitk.Image, kind: str, seed: int) -> Phantom:
    """The head, and the head moved.

    Args:
        head: scalar image; zero, or nearly, around the head.
        kind: rigid, affine (scales and shears as well), smooth (a warp everywhere) or local (two places pushed).
        seed: of the motion and the noise.
    """
    random = np.random.default_rng([seed, KINDS.index(kind)])
    head = sitk.Cast(head, sitk.sitkFloat32)
    anatomy = anatomy_mm(head)
    grid = _with_margin(head)
    drawn: sitk.Transform
    if kind in ("rigid", "affine"):
        drawn = _linear(random, anatomy.mean(0), sheared=kind == "affine")
    else:
        field = _smooth(random, grid) if kind == "smooth" else _local(random, grid, anatomy)
        drawn = sitk.DisplacementFieldTransform(field)
    moving = sitk.Resample(head, grid, drawn, sitk.sitkBSpline, 0.0)
    return Phantom(kind, _noisy(head, random), _noisy(moving, random), drawn)


def anatomy_mm(head: sitk.Image) -> np.ndarray:
    """[N, 3] LPS mm: where the head is, by Otsu's threshold."""
    inside = np.argwhere(sitk.GetArrayFromImage(sitk.OtsuThreshold(head, 0, 1)) > 0)[:, ::-1]
    direction = np.reshape(head.GetDirection(), (3, 3)) * np.asarray(head.GetSpacing())
    points: np.ndarray = inside @ direction.T + np.asarray(head.GetOrigin())
    return points


def _with_margin(head: sitk.Image) -> sitk.Image:
    """An empty image on a larger grid, onto which the head stays when it is moved."""
    margin = [int(np.ceil(_MARGIN_MM / spacing)) for spacing in head.GetSpacing()]
    size = [n + 2 * m for n, m in zip(head.GetSize(), margin, strict=True)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing(head.GetSpacing())
    grid.SetDirection(head.GetDirection())
    grid.SetOrigin(head.TransformContinuousIndexToPhysicalPoint([-float(m) for m in margin]))
    return grid


def _linear(random: np.random.Generator, centre: np.ndarray, *, sheared: bool) -> sitk.AffineTransform:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad(random.uniform(-_TURN_DEGREES, _TURN_DEGREES, 3)))
    matrix = np.reshape(turn.GetMatrix(), (3, 3))
    shift = random.uniform(-_SHIFT_MM, _SHIFT_MM, 3)
    if sheared:
        matrix = matrix @ (np.diag(random.uniform(1 - _SCALE, 1 + _SCALE, 3)) + np.triu(random.uniform(
            -_SHEAR, _SHEAR, (3, 3)), 1))  # fmt: skip
    drawn = sitk.AffineTransform(3)
    drawn.SetMatrix(matrix.ravel().tolist())
    drawn.SetCenter(centre.tolist())
    drawn.SetTranslation(shift.tolist())
    return drawn


def _field_grid(grid: sitk.Image) -> sitk.Image:
    """The same box in voxels of `_FIELD_MM`."""
    size = [int(np.ceil(n * s / _FIELD_MM)) + 1 for n, s in zip(grid.GetSize(), grid.GetSpacing(), strict=True)]
    coarse = sitk.Image(size, sitk.sitkUInt8)
    coarse.SetSpacing([_FIELD_MM] * 3)
    coarse.SetDirection(grid.GetDirection())
    coarse.SetOrigin(grid.GetOrigin())
    return coarse


def _smooth(random: np.random.Generator, grid: sitk.Image) -> sitk.Image:
    coarse = _field_grid(grid)
    parts: list[np.ndarray] = []
    for _ in range(3):
        part: np.ndarray = np.zeros(coarse.GetSize()[::-1])
        for length, size_mm in _SMOOTH_MM:
            noise = sitk.GetImageFromArray(random.normal(size=part.shape))
            waves = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise, length / 2 / _FIELD_MM))
            part += waves * (size_mm / waves.std())
        parts.append(part)
    return _vectors(np.stack(parts, -1), coarse)


def _local(random: np.random.Generator, grid: sitk.Image, anatomy: np.ndarray) -> sitk.Image:
    coarse = _field_grid(grid)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in coarse.GetSize()[::-1]), indexing="ij"), -1)[..., ::-1]
    direction = np.reshape(coarse.GetDirection(), (3, 3)) * _FIELD_MM
    points = index @ direction.T + np.asarray(coarse.GetOrigin())
    field = np.zeros(points.shape)
    for push_mm, width_mm in _PUSHES_MM:
        centre = anatomy[random.integers(len(anatomy))]
        way = random.normal(size=3)
        near = np.exp(-((points - centre) ** 2).sum(-1) / (2 * width_mm**2))
        field += near[..., None] * way * (push_mm / np.linalg.norm(way))
    return _vectors(field, coarse)


def _vectors(field: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(grid)
    return sitk.Cast(image, sitk.sitkVectorFloat64)


def _noisy(image: sitk.Image, random: np.random.Generator) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    bright = float(np.quantile(values[values > values.mean()], 0.9))
    values = np.maximum(values, 0) + (values > 0.05 * bright) * random.normal(size=values.shape) * _NOISE * bright
    noisy = sitk.GetImageFromArray(values.astype(np.float32))
    noisy.CopyInformation(image)
    return noisy
