"""An image reduced to what alignment needs: foreground, local contrast and blurred intensity on a small grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.affine.matrices import to_itk, unit_map
from SpikeRegLib.errors import InputError
from SpikeRegLib.filters import gaussian
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume, foreground_mask, frame_of, set_frame, to_sitk

_BLOCKS = 96  # voxels per axis, about, that an image is reduced to before anything else
_SPACING = 0.055  # of the working grid, in radii: 3 mm for an adult brain
_MARGIN = 0.6  # of background around the foreground, in radii
_LOCAL = 1.6  # standard deviation in voxels of the neighbourhood of the local contrast
_BLUR = 1.5  # standard deviation in voxels of the smoothing for the start search


@dataclass(frozen=True)
class Anatomy:
    """An image reduced to about `_BLOCKS` voxels per axis, with its foreground."""

    intensity: sitk.Image  # [0, 1] between the foreground's robust percentiles
    foreground: sitk.Image  # float32, 0 or 1
    box: np.ndarray  # [2, 3] LPS mm, of the foreground
    centre: np.ndarray  # [3] LPS mm, of the foreground
    radius: float  # root mean square distance of the foreground from its centre, mm
    volume: float  # of the foreground, mm^3
    cut: bool  # the foreground goes on beyond the field of view


@dataclass(frozen=True)
class Prepared:
    """An image on the working grid; positions are LPS relative to the centre, in radii."""

    contrast: sitk.Image
    blurred: sitk.Image
    foreground: np.ndarray  # [D, H, W] bool


def find(volume: Volume, mask: Volume | None, role: str) -> Anatomy:
    where = volume.name or f"{role} image"
    image = sitk.Cast(to_sitk(volume), sitk.sitkFloat32)
    extent = np.asarray(image.GetSize()) * image.GetSpacing()
    block = float(np.prod(extent)) ** (1 / 3) / _BLOCKS
    image = sitk.BinShrink(image, [max(1, round(block / s)) for s in image.GetSpacing()])
    data = torch.from_numpy(sitk.GetArrayFromImage(image))
    if mask is None:
        inside = foreground_mask(Volume(data, frame_of(image))).numpy()
    else:
        there = sitk.Resample(
            sitk.Cast(to_sitk(mask) != 0, sitk.sitkFloat32), image, sitk.Transform(), sitk.sitkLinear, 0.0
        )
        inside = sitk.GetArrayFromImage(there) > 0.5
        if not inside.any():
            raise InputError(f"{mask.name or role + ' mask'}: the mask is empty on {where}; give a mask that covers it")
    values = data.numpy()
    low, high = np.percentile(values[inside], (0.5, 99.5))
    background = float(values[~inside].min()) if mask is None and not inside.all() else float(low)
    low = min(float(low), max(background, float(low) - 0.5 * float(high - low)))
    if high <= low:
        raise InputError(f"{where}: the image is constant where the anatomy should be; check the image and the mask")
    scaled = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    if mask is not None:
        scaled *= inside
    index = np.argwhere(inside)[:, ::-1]
    frame = frame_of(image)
    points = index @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
    centre = points.mean(0)
    faces = np.concatenate([np.take(inside, i, axis).ravel() for axis in range(3) for i in (0, -1)])
    return Anatomy(
        set_frame(sitk.GetImageFromArray(scaled), frame),
        set_frame(sitk.GetImageFromArray(inside.astype(np.float32)), frame),
        np.stack([points.min(0), points.max(0)]),
        centre,
        float(np.sqrt(((points - centre) ** 2).sum(1).mean())),
        float(len(points) * np.prod(frame.spacing)),
        mask is None and float(faces.mean()) > 0.05,
    )


def prepare(found: Anatomy, radius: float, *, alone: bool = False) -> Prepared:
    """Bring an image to the working grid; `alone`: nothing outside the foreground, its outline included, counts."""
    lower = (found.box[0] - found.centre) / radius - _MARGIN
    upper = (found.box[1] - found.centre) / radius + _MARGIN
    spacing = max(_SPACING, float((upper - lower).max()) / 128)
    size = [int(n) for n in np.ceil((upper - lower) / spacing) + 1]
    frame = Frame((size[2], size[1], size[0]), (lower[0], lower[1], lower[2]), (spacing,) * 3)
    place = to_itk(np.linalg.inv(unit_map(found.centre, radius)))
    reference = set_frame(sitk.Image(size, sitk.sitkUInt8), frame)

    def on_grid(image: sitk.Image) -> torch.Tensor:
        return torch.from_numpy(
            sitk.GetArrayFromImage(sitk.Resample(image, reference, place, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
        )

    intensity = gaussian(on_grid(found.intensity), 0.5)
    # Where the anatomy is cut by the field of view, the cut is no edge: only known voxels enter the local statistics.
    known = torch.ones_like(intensity)
    if alone:
        known = (on_grid(found.foreground) > 0.5).float()
    elif found.cut:
        known = on_grid(sitk.Cast(found.foreground >= 0, sitk.sitkFloat32))
    weight = gaussian(known, _LOCAL).clamp(min=1e-3)
    mean = gaussian(intensity * known, _LOCAL) / weight
    variance = gaussian(intensity * intensity * known, _LOCAL) / weight - mean * mean
    contrast = known * (intensity - mean) / (variance.clamp(min=0) + 0.05**2).sqrt()
    return Prepared(
        set_frame(sitk.GetImageFromArray(contrast.numpy()), frame),
        set_frame(sitk.GetImageFromArray(gaussian(intensity, _BLUR).numpy()), frame),
        (on_grid(found.foreground) > 0.5).numpy(),
    )
