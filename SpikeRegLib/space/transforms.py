"""Spatial maps from fixed to moving points: affine, displacement field, composite; apply, compose, invert, store.

A transform T maps a FIXED point x to the MOVING point T(x), both in LPS mm; `warp_image` uses it as resampling does:
out(x) = moving(T(x)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images import files as image_files
from SpikeRegLib.images.files import (
    check_frame,
    frame_of,
    read_vectors,
    set_frame,
    write_sitk,
)
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space import sampling
from SpikeRegLib.space.inversion import invert_field
from SpikeRegLib.space.transform_files import Part, write_parts
from SpikeRegLib.space.transform_headers import check_transform_file
from SpikeRegLib.system.atomic_files import atomic_output, extension
from SpikeRegLib.system.foreign_prints import reading_with_itk
from SpikeRegLib.system.itk_names import itk_name

_TRANSFORM_EXTENSIONS = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
_COMPRESSED_EXTENSIONS = (".h5", ".hdf5")
_FIELD_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE_EXTENSIONS = (*_TRANSFORM_EXTENSIONS, *image_files.WRITABLE_EXTENSIONS)
_SAMPLES_PER_KNOT = 12  # a B-spline's error is then 0.2 % of its displacement, whatever its mesh


class Transform:
    """A map from fixed to moving points, LPS mm.

    `b @ a` maps x to b(a(x)): the right one sees the fixed point, as with matrices and in ITK's composite. `compose`
    takes the same ones in the order in which they act: `b @ a` is `compose(a, b)`.
    """

    @staticmethod
    def identity() -> AffineTransform:
        """The transform that leaves every point where it is."""
        return AffineTransform(np.eye(4))

    def __matmul__(self, first: Transform) -> Transform:
        if not isinstance(first, Transform):
            return NotImplemented
        return compose(first, self)

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        """Map [N, 3] float64 fixed points (LPS mm) to moving points."""
        raise NotImplementedError

    def inverse(self) -> Transform:
        """The map from moving to fixed points."""
        raise NotImplementedError

    def advance(self, positions: sampling.Positions) -> None:
        """Move a slab of positions through the transform, in place."""
        raise NotImplementedError

    def displacement_on(self, frame: Frame) -> torch.Tensor:
        """T(x) - x at the voxel centres x of `frame`: [3, D, H, W] float32 mm, LPS."""
        out = torch.empty(3, *frame.shape)
        for start, stop in sampling.slabs(frame):
            positions = sampling.Positions(frame, start, stop)
            self.advance(positions)
            out[:, start:stop] = positions.displacement()
        return out


class AffineTransform(Transform):
    """x -> M x + t.

    Args:
        matrix: [4, 4] float64, homogeneous, LPS mm.

    Raises:
        InputError: not 4x4, not finite, or singular.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.array(matrix, dtype=np.float64)
        if self.matrix.shape != (4, 4) or not np.isfinite(self.matrix).all():
            raise InputError("affine transform: not a finite 4x4 matrix; give a valid transform")
        if abs(np.linalg.det(self.matrix)) < 1e-9:
            raise InputError("affine transform: the matrix is singular; give an invertible transform")

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        matrix = torch.from_numpy(self.matrix)
        return points.double() @ matrix[:3, :3].t() + matrix[:3, 3]

    def inverse(self) -> AffineTransform:
        return AffineTransform(np.linalg.inv(self.matrix))

    def advance(self, positions: sampling.Positions) -> None:
        positions.apply_affine(self.matrix)

    def __repr__(self) -> str:
        rows = ", ".join(_numbers(row) for row in self.matrix[:3, :3])
        return f"AffineTransform([{rows}], translation {_numbers(self.matrix[:3, 3])} mm)"


class DisplacementTransform(Transform):
    """x -> x + u(x), u trilinear between the voxels of its grid and 0 outside it, as ITK has it.

    Args:
        field: u, [3, D, H, W] mm, components (x, y, z) LPS; kept as float32 on the CPU.
        frame: the grid of the field.
    """

    def __init__(self, field: torch.Tensor, frame: Frame) -> None:
        if tuple(field.shape) != (3, *frame.shape):
            raise ValueError(f"field must be [3, {', '.join(map(str, frame.shape))}], got {list(field.shape)}")
        self.field, self.frame = field.detach().float().cpu(), frame

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        points = points.double()
        to_unit = torch.from_numpy(sampling.unit_matrix(self.frame))
        unit = (points @ to_unit[:3, :3].t() + to_unit[:3, 3]).t()[:, None, None]
        return points + sampling.linear_in_double(self.field, unit).t()

    def inverse(self) -> DisplacementTransform:
        """Within the interpolation error of the grid; defined on every point the field reaches from its own grid."""
        return DisplacementTransform(*invert_field(self.field, self.frame))

    def advance(self, positions: sampling.Positions) -> None:
        if positions.is_grid_of(self.frame):
            positions.add(self.field[:, positions.start : positions.stop].to(positions.dtype))
        else:
            positions.add(sampling.displacement_at(self.field, self.frame, positions).to(positions.dtype))

    def __repr__(self) -> str:
        return f"DisplacementTransform({list(self.frame.shape)}, spacing {_numbers(self.frame.spacing)} mm)"


class CompositeTransform(Transform):
    """Several transforms, applied in list order: the first element sees the fixed point."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        points = points.double()
        for transform in self.transforms:
            points = transform.map_points(points)
        return points

    def inverse(self) -> CompositeTransform:
        return CompositeTransform([transform.inverse() for transform in reversed(self.transforms)])

    def advance(self, positions: sampling.Positions) -> None:
        for transform in self.transforms:
            transform.advance(positions)

    def __repr__(self) -> str:
        return f"CompositeTransform([{', '.join(map(repr, self.transforms))}])"


def compose(*transforms: Transform) -> Transform:
    """The transform that applies the given ones from left to right; nested composites and affine runs are merged."""
    merged: list[Transform] = []
    for transform in transforms:
        for part in transform.transforms if isinstance(transform, CompositeTransform) else (transform,):
            flat = compose(part) if isinstance(part, CompositeTransform) else part
            if isinstance(flat, CompositeTransform):
                merged.extend(flat.transforms)
            elif isinstance(flat, AffineTransform) and merged and isinstance(merged[-1], AffineTransform):
                merged[-1] = AffineTransform(flat.matrix @ merged[-1].matrix)
            else:
                merged.append(flat)
    if not merged:
        return Transform.identity()
    return merged[0] if len(merged) == 1 else CompositeTransform(merged)


def check_finite(transform: Transform, where: str | os.PathLike[str]) -> None:
    """Refuse a displacement with NaN or infinite values, also as a part of a composite.

    Raises:
        InputError: names `where` it came from.
    """
    for part in transform.transforms if isinstance(transform, CompositeTransform) else (transform,):
        if isinstance(part, CompositeTransform):
            check_finite(part, where)
        elif isinstance(part, DisplacementTransform) and not bool(torch.isfinite(part.field).all()):
            raise InputError(f"{where}: the displacement field has NaN or infinite values; repair or recompute it")


def warp_image(
    moving: Volume, transform: Transform, frame: Frame, *, interpolation: str = "linear", outside: float = 0.0
) -> Volume:
    """Resample `moving` on the grid `frame`: out(x) = moving(T(x)). The same numbers as SimpleITK's Resample.

    Args:
        moving: an image, or a label map (which needs "nearest").
        transform: maps points of `frame` to points of `moving`.
        frame: the output grid, usually the fixed image's.
        interpolation: "linear" or "nearest".
        outside: the value where T(x) leaves the moving image.

    Returns:
        A volume on `frame` with the dtype of `moving`.
    """
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f'interpolation must be "linear" or "nearest", got "{interpolation}"')
    if interpolation == "linear" and not moving.data.is_floating_point():
        raise ValueError('interpolation "linear" would mix labels; use "nearest"')
    values = moving.data.detach().cpu()[None]
    # Half-way positions decide which label is nearest, so they are worth double precision.
    dtype = torch.float32 if interpolation == "linear" else torch.float64
    sample = sampling.linear if interpolation == "linear" else sampling.nearest
    out = torch.empty(frame.shape, dtype=values.dtype)
    for start, stop in sampling.slabs(frame):
        positions = sampling.Positions(frame, start, stop, dtype)
        transform.advance(positions)
        out[start:stop] = sample(values, positions.coordinates(moving.frame), outside)[0]
    return replace(moving, data=out, frame=frame)


def write_transform(transform: Transform, path: str | os.PathLike[str], *, step_mm: float | None = None) -> None:
    """Write an ITK transform file (.h5, .tfm, .txt, .mat), or a displacement volume (.nii.gz, .nii, .nrrd, .mha).

    The file appears complete or not at all. A displacement volume needs a single `DisplacementTransform`; its vectors
    are LPS mm (NIfTI: vector intent, as ITK writes and Slicer reads it). Displacements are kept to the last bit.

    Args:
        transform: fixed -> moving points, LPS mm.
        path: of the file; its extension says which.
        step_mm: round the displacements of an .h5 file to multiples of this, which makes it about half as large; other
            formats keep them as they are.

    Raises:
        InputError: an unknown extension, a folder that cannot be written, or no single displacement field.
    """
    merged, kind = compose(transform), extension(path)
    if kind in _FIELD_EXTENSIONS:
        if not isinstance(merged, DisplacementTransform):
            raise InputError(f"{path}: a displacement volume holds one field on one grid; write .h5 instead")
        write_sitk(_field_image(merged, np.float32), path)
        return
    if kind not in _TRANSFORM_EXTENSIONS:
        known = ", ".join(_TRANSFORM_EXTENSIONS + _FIELD_EXTENSIONS)
        raise InputError(f"{path}: unknown transform file type; use one of {known}")
    with atomic_output(path) as temporary:
        if kind in _COMPRESSED_EXTENSIONS:
            write_parts(_to_parts(merged, step_mm), temporary)
        else:
            sitk.WriteTransform(_to_itk(merged), itk_name(temporary))


def read_transform(path: str | os.PathLike[str]) -> Transform:
    """Read what `write_transform` writes, and other ITK transform files.

    Every linear ITK transform becomes an `AffineTransform`; a B-spline becomes a sampled displacement field.

    Raises:
        InputError: missing or unreadable file, an image that is no displacement field, or a 2-D transform.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; check the path")
    kind = extension(path)
    if kind in _FIELD_EXTENSIONS:
        return _as_field(*read_vectors(path), path)
    check_transform_file(path)
    try:
        with reading_with_itk():
            transform = sitk.ReadTransform(itk_name(path))
        return compose(_from_itk(transform, path))
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as a transform; give an ITK transform (.h5, .tfm) or a displacement volume"
        ) from error


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _field_image(transform: DisplacementTransform, dtype: type) -> sitk.Image:
    array: np.ndarray = transform.field.permute(1, 2, 3, 0).numpy().astype(dtype)
    return set_frame(sitk.GetImageFromArray(array, isVector=True), transform.frame)


def _to_itk(transform: Transform) -> sitk.Transform:
    if isinstance(transform, AffineTransform):
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(transform.matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(transform.matrix[:3, 3].tolist())
        return affine
    if isinstance(transform, DisplacementTransform):
        return sitk.DisplacementFieldTransform(_field_image(transform, np.float64))
    if isinstance(transform, CompositeTransform):
        # ITK applies the transform that was added LAST first.
        return sitk.CompositeTransform([_to_itk(part) for part in reversed(transform.transforms)])
    raise TypeError(f"cannot write a {type(transform).__name__}")


def _to_parts(transform: Transform, step_mm: float | None) -> list[Part]:
    """The transform as the parts of an ITK file."""
    if isinstance(transform, AffineTransform):
        parameters = np.concatenate((transform.matrix[:3, :3].ravel(), transform.matrix[:3, 3]))
        return [Part("AffineTransform_double_3_3", np.zeros(3), parameters)]
    if isinstance(transform, DisplacementTransform):
        frame = transform.frame
        fixed = np.array([*frame.size, *frame.origin, *frame.spacing, *frame.direction], dtype=np.float64)
        field = transform.field.flatten(1).numpy()
        return [Part("DisplacementFieldTransform_double_3_3", fixed, field, step_mm)]
    if isinstance(transform, CompositeTransform):
        # ITK applies the transform that was added LAST first.
        parts = [part for inner in reversed(transform.transforms) for part in _to_parts(inner, step_mm)]
        return [Part("CompositeTransform_double_3_3"), *parts]
    raise TypeError(f"cannot write a {type(transform).__name__}")


def _from_itk(transform: sitk.Transform, path: str | os.PathLike[str]) -> Transform:
    if transform.GetDimension() != 3:
        raise InputError(f"{path}: a {transform.GetDimension()}-D transform; give a 3-D one")
    concrete = transform.Downcast()
    if isinstance(concrete, sitk.CompositeTransform):
        parts = [concrete.GetNthTransform(n) for n in range(concrete.GetNumberOfTransforms())]
        return CompositeTransform([_from_itk(part, path) for part in reversed(parts)])
    if isinstance(concrete, sitk.DisplacementFieldTransform):
        return _from_field_image(concrete.GetDisplacementField(), path)
    if concrete.IsLinear():
        origin = np.array(concrete.TransformPoint((0.0, 0.0, 0.0)))
        matrix = np.eye(4)
        matrix[:3, 3] = origin
        for axis in range(3):
            matrix[:3, axis] = np.array(concrete.TransformPoint(np.eye(3)[axis].tolist())) - origin
        return AffineTransform(matrix)
    if isinstance(concrete, sitk.BSplineTransform):
        extent = np.array(concrete.GetTransformDomainPhysicalDimensions())
        size = np.array(concrete.GetTransformDomainMeshSize()) * _SAMPLES_PER_KNOT + 1
        sampled = sitk.TransformToDisplacementField(
            concrete, sitk.sitkVectorFloat32, size.tolist(), concrete.GetTransformDomainOrigin(),
            (extent / (size - 1)).tolist(), concrete.GetTransformDomainDirection(),
        )  # fmt: skip
        return _from_field_image(sampled, path)
    raise InputError(f"{path}: {concrete.GetName()} is not supported; convert it to a displacement field")


def _from_field_image(image: sitk.Image, path: str | os.PathLike[str]) -> DisplacementTransform:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(
            f"{path}: not a displacement field (three components on a 3-D grid); give a transform, not an image"
        )
    return _as_field(np.moveaxis(sitk.GetArrayFromImage(image), -1, 0), frame_of(image), path)


def _as_field(vectors: np.ndarray, frame: Frame, path: str | os.PathLike[str]) -> DisplacementTransform:
    """[3, D, H, W] mm LPS as a transform, if it can be one."""
    check_frame(frame, path)
    if min(frame.shape) < 3:
        raise InputError(f"{path}: the displacement field has an axis under 3 voxels; give a field on a 3-D grid")
    field = torch.from_numpy(vectors.astype(np.float32, copy=False))
    transform = DisplacementTransform(field.contiguous(), frame)
    check_finite(transform, path)
    return transform
