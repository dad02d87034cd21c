"""What can be wrong with the moving image of a pair: noise, bias field, another pose, thick slices, a cut, lesions.

Each takes an image and a random stream and returns the damaged image, where its labels now lie, and which of their
voxels the image no longer shows. Labels are never damaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from evaluation import ROOT  # noqa: F401  puts the library on the path

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.filters import gaussian

# Rician noise, share of the white matter's intensity: BrainWeb's highest level.
NOISE = 0.09
# Ratio of the strongest to the weakest gain inside the brain.
BIAS = 2.0
ROTATION_DEGREES = 30.0
SLICE_MM = 3.0
CUT_MM = 20.0
# How many, their radii in mm, and their intensity relative to white matter (between grey matter and fluid).
LESIONS, LESION_MM, LESION_INTENSITY = 3, (8.0, 14.0), 0.45


@dataclass(frozen=True)
class Damaged:
    """A moving image after damage.

    Attributes:
        image: the damaged image.
        frame: where the (untouched) labels lie.
        lost: [D, H, W] bool on the labels' grid: anatomy that the image no longer shows; None if it shows all.
    """

    image: Volume
    frame: Frame
    lost: torch.Tensor | None = None


def white_matter(image: Volume) -> float:
    """Intensity of the brightest tissue of a skull-stripped T1-weighted brain."""
    return float(np.percentile(image.data[image.data > 0].numpy(), 90))


def noise(image: Volume, random: torch.Generator) -> Damaged:
    """Rician noise inside the brain, as skull stripping leaves it."""
    sigma = NOISE * white_matter(image)
    first, second = (sigma * torch.randn(image.data.shape, generator=random) for _ in range(2))
    noisy = torch.hypot(image.data + first, second) * (image.data > 0)
    return Damaged(replace(image, data=noisy), image.frame)


def bias(image: Volume, random: torch.Generator) -> Damaged:
    """A smooth gain (random polynomial of second order) that varies by `BIAS` over the brain."""
    axes = [torch.linspace(-1, 1, n) for n in image.data.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    terms = (x, y, z, x * x, y * y, z * z, x * y, y * z, x * z)
    weights = torch.randn(len(terms), generator=random)
    field = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    brain = image.data > 0
    low, high = field[brain].min(), field[brain].max()
    gain = torch.exp(math.log(BIAS) * ((field - low) / (high - low) - 0.5))
    return Damaged(replace(image, data=image.data * gain), image.frame)


def rotation(image: Volume, random: torch.Generator) -> Damaged:
    """The head turned by 30 degrees about a random axis through the brain, by its header: no voxel is resampled."""
    axis = torch.nn.functional.normalize(torch.randn(3, generator=random), dim=0).double().numpy()
    angle = math.radians(ROTATION_DEGREES)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    frame = image.frame
    index = (image.data > 0).nonzero().double().mean(0).flip(0).numpy()
    centre = frame.matrix[:3, :3] @ index + frame.matrix[:3, 3]
    direction = turn @ np.reshape(frame.direction, (3, 3))
    x, y, z = (float(v) for v in turn @ (np.array(frame.origin) - centre) + centre)
    turned = replace(frame, origin=(x, y, z), direction=tuple(direction.ravel().tolist()))
    return Damaged(replace(image, frame=turned), turned)


def slices(image: Volume, random: torch.Generator) -> Damaged:
    """Contiguous axial slices of 3 mm, each the mean of what it covers."""
    frame = image.frame
    count = round(SLICE_MM / frame.spacing[2])
    depth = frame.shape[0] // count
    data = image.data[: depth * count].reshape(depth, count, *frame.shape[1:]).mean(1)
    step = frame.matrix[:3, 2] * (count - 1) / 2
    x, y, z = (float(v) for v in np.array(frame.origin) + step)
    spacing = (frame.spacing[0], frame.spacing[1], frame.spacing[2] * count)
    thick = replace(frame, shape=(depth, *frame.shape[1:]), origin=(x, y, z), spacing=spacing)
    return Damaged(replace(image, data=data, frame=thick), frame)


def cut(image: Volume, random: torch.Generator) -> Damaged:
    """A field of view that ends 20 mm inside the brain, at its top or its bottom."""
    frame = image.frame
    height = (image.data > 0).flatten(1).any(1).nonzero()
    voxels = round(CUT_MM / frame.spacing[2])
    lost = torch.zeros(frame.shape, dtype=torch.bool)
    if torch.rand((), generator=random) < 0.5:
        first, last = int(height[0]) + voxels, frame.shape[0]
        lost[:first] = True
    else:
        first, last = 0, int(height[-1]) + 1 - voxels
        lost[last:] = True
    x, y, z = (float(v) for v in np.array(frame.origin) + frame.matrix[:3, 2] * first)
    shown = replace(frame, shape=(last - first, *frame.shape[1:]), origin=(x, y, z))
    return Damaged(replace(image, data=image.data[first:last].clone(), frame=shown), frame, lost)


def lesions(image: Volume, random: torch.Generator) -> Damaged:
    """Dark blobs with irregular, soft outlines, centred deep in the brain."""
    brain = (image.data > 0).float()
    deep = (gaussian(brain, 8.0) > 0.97).nonzero()
    grid = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in brain.shape), indexing="ij"))
    spacing = torch.tensor(image.frame.spacing[::-1]).view(3, 1, 1, 1)
    ripple = gaussian(torch.randn(brain.shape, generator=random), 4.0)
    ripple = ripple / ripple.std()
    share = torch.zeros_like(brain)
    for _ in range(LESIONS):
        centre = deep[int(torch.randint(len(deep), (), generator=random))].float().view(3, 1, 1, 1)
        low, high = LESION_MM
        radius = low + (high - low) * float(torch.rand((), generator=random))
        distance = ((grid - centre) * spacing).square().sum(0).sqrt() + 1.5 * ripple
        share = torch.maximum(share, torch.sigmoid(radius - distance))
    share = share * brain
    data = image.data * (1 - share) + share * LESION_INTENSITY * white_matter(image) * (1 + 0.05 * ripple)
    return Damaged(replace(image, data=data), image.frame, share > 0.5)


CORRUPTIONS: dict[str, Callable[[Volume, torch.Generator], Damaged]] = {
    "noise": noise,
    "bias field": bias,
    "30-degree rotation": rotation,
    "3 mm slices": slices,
    "cut field of view": cut,
    "lesions": lesions,
}
