"""An image reduced to what alignment needs: foreground, local contrast and blurred intensity on a small grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn.functional import max_pool3d

from SpikeRegLib.affine.matrices import to_itk, unit_map
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import frame_of, set_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, foreground_mask, to_sitk, without_outliers
from SpikeRegLib.space.field_of_view import Faces, cut_faces, field_of_view
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import AffineTransform

_BLOCKS = 96  # voxels per axis, about, that an image is reduced to before anything else
_SPACING = 0.055  # of the working grid, in radii: 3 mm for an adult brain
_MARGIN = 0.6  # of background around the foreground, in radii
_LOCAL = 1.6  # standard deviation in voxels of the neighbourhood of the local contrast
_CLOSED, _OPENED = 6, 2  # voxels: bays of a mask up to twice and from twice as wide are holes in it
# Where a part of an image is compared, its outline does not help: voxels are smaller, and images are smoothed before
# they are sampled, so that it does not matter where the grid lies. A part then stays where it was cut out.
_FINER_SPACING = 0.038
_SMOOTHED = 0.7  # standard deviation in voxels
_BLUR = 1.5  # standard deviation in voxels of the smoothing for the start search


@dataclass(frozen=True)
class ReducedImage:
    """An image reduced to about `_BLOCKS` voxels per axis, with its foreground."""

    intensity: sitk.Image  # [0, 1] between the foreground's robust percentiles
    foreground: sitk.Image  # float32, 0 or 1
    box: np.ndarray  # [2, 3] LPS mm, of the foreground
    centre: np.ndarray  # [3] LPS mm, of the foreground
    radius: float  # root mean square distance of the foreground from its centre, mm
    volume: float  # of the foreground, mm^3
    cut: bool  # the foreground goes on beyond the field of view
    faces: Faces  # where it does
    left_out: sitk.Image | None  # float32 in [0, 1], what does not count


@dataclass(frozen=True)
class Prepared:
    """An image on the working grid; positions are LPS relative to the centre, in radii."""

    contrast: sitk.Image
    blurred: sitk.Image
    foreground: np.ndarray  # [D, H, W] bool
    known: np.ndarray | None  # [D, H, W] bool, where the contrast is known; None for everywhere


def find(volume: Volume, mask: Volume | None, role: str, left_out: Volume | None = None) -> ReducedImage:
    where = volume.name or f"{role} image"
    image = sitk.Cast(to_sitk(volume), sitk.sitkFloat32)
    extent = np.asarray(image.GetSize()) * image.GetSpacing()
    block = float(np.prod(extent)) ** (1 / 3) / _BLOCKS
    image = sitk.BinShrink(image, [max(1, round(block / s)) for s in image.GetSpacing()])
    data = torch.from_numpy(sitk.GetArrayFromImage(image))

    def on_image(part: Volume) -> sitk.Image:
        there = sitk.Cast(to_sitk(part) != 0, sitk.sitkFloat32)
        return sitk.Resample(there, image, sitk.Transform(), sitk.sitkLinear, 0.0)

    if mask is None:
        inside = foreground_mask(Volume(data, frame_of(image))).numpy()
    else:
        inside = sitk.GetArrayFromImage(on_image(mask)) > 0.5
        if not inside.any():
            raise InputError(f"{mask.name or role + ' mask'}: the mask is empty on {where}; give a mask that covers it")
    values, counting, out = data.numpy(), inside, None if left_out is None else on_image(left_out)
    if mask is not None and (holes := _holes(inside)).any():
        out = _joined(out, set_frame(sitk.GetImageFromArray(holes.astype(np.float32)), frame_of(image)))
        inside = inside | holes
    if out is not None:
        counting = counting & (sitk.GetArrayViewFromImage(out) < 0.1)
    tissue = without_outliers(torch.from_numpy(values[counting if counting.any() else inside])).numpy()
    low, high = np.percentile(tissue, (0.5, 99.5))
    background = float(values[~inside].min()) if mask is None and not inside.all() else float(low)
    low = min(float(low), max(background, float(low) - 0.5 * float(high - low)))
    if high <= low:
        raise InputError(f"{where}: the image is constant where the anatomy should be; check the image and the mask")
    scaled = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    if mask is not None:
        scaled *= inside
    index = np.argwhere(inside)[:, ::-1]
    frame = frame_of(image)
    points = frame.to_mm(index)
    centre = points.mean(0)
    faces = np.concatenate([np.take(inside, i, axis).ravel() for axis in range(3) for i in (0, -1)])
    whole = ((False, False),) * 3
    return ReducedImage(
        set_frame(sitk.GetImageFromArray(scaled), frame),
        set_frame(sitk.GetImageFromArray(inside.astype(np.float32)), frame),
        np.stack([points.min(0), points.max(0)]),
        centre,
        float(np.sqrt(((points - centre) ** 2).sum(1).mean())),
        float(len(points) * np.prod(frame.spacing)),
        mask is None and float(faces.mean()) > 0.05,
        cut_faces(torch.from_numpy(inside)) if mask is None else whole,
        out,
    )


def prepare(found: ReducedImage, radius: float, *, alone: bool = False, in_part: bool = False) -> Prepared:
    """Bring an image to the working grid.

    Args:
        found: the image.
        radius: the unit of length, mm.
        alone: nothing outside the foreground, its outline included, counts.
        in_part: one of the two images shows a part only; then both are smoothed, so that it does not matter where the
            grid lies.
    """
    lower = (found.box[0] - found.centre) / radius - _MARGIN
    upper = (found.box[1] - found.centre) / radius + _MARGIN
    spacing = max(_FINER_SPACING if in_part else _SPACING, float((upper - lower).max()) / 128)
    size = [int(n) for n in np.ceil((upper - lower) / spacing) + 1]
    frame = Frame((size[2], size[1], size[0]), (lower[0], lower[1], lower[2]), (spacing,) * 3)
    place = to_itk(np.linalg.inv(unit_map(found.centre, radius)))
    reference = set_frame(sitk.Image(size, sitk.sitkUInt8), frame)

    def on_grid(image: sitk.Image) -> torch.Tensor:
        return torch.from_numpy(
            sitk.GetArrayFromImage(sitk.Resample(image, reference, place, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
        )

    source = (
        sitk.DiscreteGaussian(found.intensity, [(_SMOOTHED * spacing * radius) ** 2] * 3)
        if in_part
        else found.intensity
    )
    intensity = gaussian(on_grid(source), 0.5)
    # Where the anatomy is cut by the field of view, the cut is no edge: only known voxels enter the local statistics.
    known = torch.ones_like(intensity)
    counted = _known(found, frame, place)
    if alone:
        known = (on_grid(found.foreground) > 0.5).float()
    elif found.cut:
        known = on_grid(sitk.Cast(found.foreground >= 0, sitk.sitkFloat32))
    if counted is not None:
        known = known * (counted[0] & counted[1])
    weight = gaussian(known, _LOCAL).clamp(min=1e-3)
    mean = gaussian(intensity * known, _LOCAL) / weight
    variance = gaussian(intensity * intensity * known, _LOCAL) / weight - mean * mean
    contrast = known * (intensity - mean) / (variance.clamp(min=0) + 0.05**2).sqrt()
    return Prepared(
        set_frame(sitk.GetImageFromArray(contrast.numpy()), frame),
        set_frame(sitk.GetImageFromArray(gaussian(intensity, _BLUR).numpy()), frame),
        (on_grid(found.foreground) > 0.5).numpy(),
        # A rim around what is left out would weigh more than the contrasts in it are wrong: without it a pose shifts.
        None if counted is None else _eroded(counted[0].float()) & counted[1].numpy(),
    )


def _joined(out: sitk.Image | None, more: sitk.Image) -> sitk.Image:
    return more if out is None else sitk.Maximum(out, more)


def _holes(mask: np.ndarray) -> np.ndarray:
    """[D, H, W] bool: what was cut out of a mask. Furrows of its outline are none."""
    image = sitk.GetImageFromArray(np.pad(mask, _CLOSED + 1).astype(np.uint8))
    closed = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(image, [_CLOSED] * 3))
    holes = sitk.BinaryMorphologicalOpening(closed & ~(image > 0), [_OPENED] * 3)
    inner = (slice(_CLOSED + 1, -_CLOSED - 1),) * 3
    return sitk.GetArrayFromImage(holes)[inner] > 0


def _known(found: ReducedImage, frame: Frame, place: sitk.AffineTransform) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Two of [D, H, W] bool on the working grid, inside the field of view and not left out; None for everywhere."""
    if found.left_out is None and not any(face for faces in found.faces for face in faces):
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(place.GetMatrix(), (3, 3))
    matrix[:3, 3] = place.GetTranslation()
    within = field_of_view(frame_of(found.intensity), found.faces, frame, AffineTransform(matrix))
    counts = torch.ones_like(within)
    if found.left_out is not None:
        reference = set_frame(sitk.Image(list(frame.size), sitk.sitkUInt8), frame)
        out = sitk.Resample(found.left_out, reference, place, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        counts = torch.from_numpy(sitk.GetArrayFromImage(out)) < 0.1
    return within, counts


def _eroded(known: torch.Tensor) -> np.ndarray:
    """[D, H, W] bool: where the local contrast says what it would say if all were known."""
    width = 2 * round(2.5 * _LOCAL) + 1
    unknown = max_pool3d(1 - known[None], width, stride=1, padding=width // 2)[0]
    return (unknown < 0.5).numpy()
