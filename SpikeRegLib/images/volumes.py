"""Volumes: a tensor with its frame, read from and written to medical image files, refused clearly when unusable."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.images.files import frame_of, header_warnings, read_array, set_frame, write_sitk
from SpikeRegLib.images.frames import Frame

# Intensities so many times as far from the median as the 5th or 95th percentile belong to no tissue.
_FAR = 4.0
_RARE = 1 / 2_000, 1 / 50  # shares of an anatomy between which there are outliers, and not another tissue
_FEW = 100  # values of which nothing can be said


@dataclass(frozen=True)
class Volume:
    """A scalar image or a label map on its grid.

    Attributes:
        data: [D, H, W]; float32 for images, int16 or int32 for label maps.
        frame: where the voxels lie (mm, LPS).
        name: the file it came from, for messages.
        nonfinite: how many NaN or infinite voxels were replaced by 0 on reading (only on request).
        warnings: what is doubtful about the file it came from.
    """

    data: torch.Tensor
    frame: Frame
    name: str = ""
    nonfinite: int = 0
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        spacing = ", ".join(f"{value:.6g}" for value in self.frame.spacing)
        kind = str(self.data.dtype).removeprefix("torch.")
        return f"Volume({list(self.frame.shape)} {kind}, spacing ({spacing}) mm{self.name and f', {self.name!r}'})"


def read_image(
    path: str | os.PathLike[str], *, allow_nonfinite: bool = False, allow_few_values: bool = False
) -> Volume:
    """Read a scalar 3-D image (NIfTI, NRRD, MetaImage, MGZ; whatever else SimpleITK reads) as float32.

    Args:
        path: the file.
        allow_nonfinite: take NaN and infinite voxels as background (see `background_value`) and count them in
            `Volume.nonfinite`, instead of refusing.
        allow_few_values: take an image of few grey values with sharp edges, as of a phantom, for what it is, instead of
            for a label map.

    Raises:
        InputError: missing or unreadable file, not a scalar 3-D volume, an axis under 16 voxels, unusable header,
            NaN or infinite voxels, an empty or constant image, or a label map.
    """
    array, frame = read_array(path)
    data, nonfinite = torch.from_numpy(array.astype(np.float32, copy=False)), 0
    if np.issubdtype(array.dtype, np.floating):
        data, nonfinite = finite_voxels(data, path, allowed=allow_nonfinite)
    if float(data.min()) == float(data.max()):
        raise InputError(
            f"{path}: the image is empty or constant, every voxel is {float(data.min()):g}; check the file"
        )
    if not allow_few_values and _looks_like_labels(array):
        raise InputError(
            f"{path}: this looks like a label map, not an image; give the intensity image here "
            "and the label map as the segmentation, or add --allow-few-values if it is an image"
        )
    return Volume(data, frame, str(path), nonfinite, header_warnings(frame, path))


def finite_voxels(data: torch.Tensor, where: str | os.PathLike[str], *, allowed: bool) -> tuple[torch.Tensor, int]:
    """`data` with NaN and infinite voxels replaced by the background's value, and how many there were.

    Args:
        data: an image.
        where: its name, for the message.
        allowed: whether there may be any.

    Raises:
        InputError: there are some and they are not allowed; the message says how many.
    """
    finite = torch.isfinite(data)
    nonfinite = int(data.numel() - finite.sum())
    if not nonfinite:
        return data, 0
    if not allowed:
        raise InputError(
            f"{where}: {nonfinite} of {data.numel()} voxels are NaN or infinite; "
            "repair the image, or add --allow-nonfinite to take them as background"
        )
    if nonfinite == data.numel():
        return torch.zeros_like(data), nonfinite
    # The corners alone may be the ones that are missing: what is darkest stands for them.
    data = torch.where(finite, data, data[finite].min())
    return torch.where(finite, data, _fourth_corner(data)), nonfinite


def read_labels(path: str | os.PathLike[str]) -> Volume:
    """Read a 3-D label map as int16 (int32 where a label needs it).

    Raises:
        InputError: as `read_image`, or a voxel that is not a whole number, or no voxel other than 0.
    """
    array, frame = read_array(path)
    if np.issubdtype(array.dtype, np.floating):
        whole = np.isfinite(array) & (array == np.rint(array))
        if not whole.all():
            raise InputError(
                f"{path}: {int((~whole).sum())} voxels are not whole numbers, so it is no label map; "
                "give a segmentation (resampled with nearest neighbour, if it was resampled)"
            )
    low, high = int(array.min()), int(array.max())
    if low == high == 0:
        raise InputError(f"{path}: the label map is empty, every voxel is 0; check that it is the right file")
    if low < -(2**31) or high >= 2**31:
        raise InputError(f"{path}: labels from {low} to {high} do not fit 32 bits; renumber them")
    small = low >= -(2**15) and high < 2**15
    data = torch.from_numpy(array.astype(np.int16 if small else np.int32))
    return Volume(data, frame, str(path), warnings=header_warnings(frame, path))


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> None:
    """Write NIfTI, NRRD or MetaImage, compressed at the fastest level; the file appears complete or not at all.

    Raises:
        InputError: an extension that is not .nii.gz, .nii, .nrrd or .mha, or a folder that cannot be written.
    """
    write_sitk(to_sitk(volume), path)


def to_sitk(volume: Volume) -> sitk.Image:
    """The volume as a SimpleITK image with the same pixel type (Boolean becomes uint8) and frame."""
    data = volume.data.detach().cpu()
    image = sitk.GetImageFromArray((data.to(torch.uint8) if data.dtype == torch.bool else data).numpy())
    return set_frame(image, volume.frame)


def from_sitk(image: sitk.Image, name: str = "") -> Volume:
    """A scalar 3-D SimpleITK image as a Volume: floating types become float32, integer types int16 or int32."""
    array = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(array.dtype, np.floating):
        dtype: type = np.float32
    else:
        dtype = np.int16 if array.dtype in (np.int8, np.uint8, np.int16) else np.int32
    return Volume(torch.from_numpy(array.astype(dtype)), frame_of(image), name)


def background_value(volume: Volume) -> float:
    """What an image has outside its anatomy, hence beyond its edges: the fourth of its eight corners by value.

    As Slicer fills what it hardens (vtkMRMLVolumeNode::GetImageBackgroundScalarComponentAsDouble): air in CT, 0 in most
    MR images.
    """
    return float(_fourth_corner(volume.data))


def _fourth_corner(data: torch.Tensor) -> torch.Tensor:
    return data[[0, -1]][:, [0, -1]][:, :, [0, -1]].flatten().sort().values[3]


# Size, in parts of the largest region's, from which another one belongs to the anatomy.
_COMPARABLE = 0.5


def foreground_mask(volume: Volume) -> torch.Tensor:
    """Where the anatomy is: largest connected region above the background, others of its size, holes filled.

    A background of one exact value (skull-stripped, masked) is recognised as such; otherwise Otsu's threshold
    (Otsu 1979) on a subsample separates it. Falls back to every voxel when nothing stands out.

    Returns:
        [D, H, W] bool.
    """
    data = volume.data
    sample = data.flatten()[:: max(1, data.numel() // 200_000)].float()
    faces = torch.cat([data[i].flatten() for i in (0, -1)] + [data[:, i].flatten() for i in (0, -1)]
                      + [data[:, :, i].flatten() for i in (0, -1)])  # fmt: skip
    background = float(faces.mode().values)
    ordinary = without_outliers(sample[sample > background])
    if len(ordinary):
        sample = sample.clamp(max=float(ordinary.max()))
    low, high = (float(v) for v in torch.quantile(sample, torch.tensor([0.005, 0.995])))
    exact = float((sample == background).float().mean()) > 0.1 and background <= low
    threshold = background + 0.01 * (high - background) if exact else _otsu(sample.clamp(low, high))
    mask = data > threshold
    if not mask.any():
        return torch.ones_like(mask)
    return _largest_filled(mask)


def normalise_intensity(volume: Volume, mask: torch.Tensor | None = None) -> Volume:
    """Map the 0.5th to 99.5th percentile of the intensities inside the mask to [0, 1] and clip.

    Outliers (electrodes, clips) take no part in the percentiles, see `without_outliers`.

    Args:
        volume: an image.
        mask: [D, H, W] bool; the foreground by default.

    Raises:
        InputError: the mask is empty or the image is constant inside it.
    """
    inside = volume.data[foreground_mask(volume) if mask is None else mask]
    where = volume.name or "image"
    if inside.numel() == 0:
        raise InputError(f"{where}: the mask is empty; give a mask that covers the anatomy")
    sample = without_outliers(inside[:: max(1, inside.numel() // 200_000)].float())
    low, high = (float(v) for v in torch.quantile(sample, torch.tensor([0.005, 0.995])))
    if high <= low:
        low, high = float(inside.min()), float(inside.max())
    if high <= low:
        raise InputError(f"{where}: the image is constant ({low:g}) inside the mask; check the image and the mask")
    return replace(volume, data=((volume.data.float() - low) / (high - low)).clamp_(0, 1))


def without_outliers(values: torch.Tensor) -> torch.Tensor:
    """The intensities of an anatomy without the few that lie far from all tissue: electrodes, clips.

    Far is beyond four times the distance from the median to the 5th or 95th percentile. Where fewer than 1 in 2,000 lie
    there, as in ordinary images, or more than 1 in 50, the same tensor is returned.

    Args:
        values: [N] float.
    """
    sample = values[:: max(1, len(values) // 200_000)]
    if len(sample) < _FEW:
        return values
    low, middle, high = torch.quantile(sample, torch.tensor([0.05, 0.5, 0.95]))
    least, most = middle - _FAR * (middle - low), middle + _FAR * (high - middle)
    share = float(((sample < least) | (sample > most)).float().mean())
    return values[(values >= least) & (values <= most)] if _RARE[0] < share < _RARE[1] else values


def _otsu(sample: torch.Tensor) -> float:
    low, high = float(sample.min()), float(sample.max())
    count = torch.histc(sample, 128, low, high).double()
    centre = low + (torch.arange(128, dtype=torch.float64) + 0.5) * (high - low) / 128
    below, total = count.cumsum(0), count.sum()
    mean_below = (count * centre).cumsum(0) / below.clamp(min=1)
    mean_above = ((count * centre).sum() - (count * centre).cumsum(0)) / (total - below).clamp(min=1)
    between = below * (total - below) * (mean_below - mean_above) ** 2
    return float(centre[int(between.argmax())])


def _largest_filled(mask: torch.Tensor) -> torch.Tensor:
    box = bounding_box(mask)
    assert box is not None
    part = slices_of(*box)  # the rest costs time
    image = sitk.GetImageFromArray(mask[part].to(torch.uint8).numpy())
    regions = sitk.ConnectedComponent(image)
    sizes = np.bincount(sitk.GetArrayViewFromImage(regions).ravel())
    # Two lungs, kidneys or legs are one anatomy; which of them is the larger says nothing.
    comparable = np.flatnonzero(sizes >= _COMPARABLE * sizes[1:].max())
    anatomy = np.isin(sitk.GetArrayViewFromImage(regions), comparable[comparable > 0])
    largest = sitk.BinaryFillhole(sitk.GetImageFromArray(anatomy.astype(np.uint8)))
    filled = torch.zeros_like(mask)
    filled[part] = torch.from_numpy(sitk.GetArrayFromImage(largest)).bool()
    return filled


def _looks_like_labels(array: np.ndarray) -> bool:
    """Few distinct whole numbers in constant patches with sharp edges between them.

    Noise and partial volume leave no patches in most images. A smooth image of few grey values has some, but it changes
    from one to the next over several voxels.
    """
    if not np.issubdtype(array.dtype, np.integer):
        return False
    sample = array.ravel()[:: max(1, array.size // 50_000)]
    values, counts = np.unique(sample, return_counts=True)
    if len(values) > 256:
        return False
    background = values[counts.argmax()]
    planes = array[:: max(1, array.shape[0] // 32)]  # enough of the volume to judge by
    here, right, below = planes[:, :-1, :-1], planes[:, :-1, 1:], planes[:, 1:, :-1]
    foreground = here != background
    if not foreground.any() or float(((here == right) & (here == below))[foreground].mean()) <= 0.5:
        return False
    edge = (foreground & (here != right))[:, :, 1:]
    return not edge.any() or float((planes[:, :-1, :-2] != here[:, :, 1:])[edge].mean()) < 0.5
