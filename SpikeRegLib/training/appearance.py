"""What turns a drawing of tissue means into something like a scan: contrast, texture, bias, resolution, damage, noise.

Everything works on a cubic grid of any spacing, so that whole heads and finer crops of them are drawn alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.anatomy.structures import FLUID, LABELS, MIRRORED
from SpikeRegLib.space.filters import FOREGROUND, gaussian
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.stream import Stream

# T1-weighted mean intensity of every label, white matter 160, from the SynthSeg priors (Apache-2.0).
T1_MEANS = {2: 160, 3: 96, 4: 44, 5: 44, 7: 136, 8: 88, 10: 130, 11: 102, 12: 124, 13: 145, 14: 44, 15: 44, 16: 136}
T1_MEANS |= {17: 96, 18: 96, 24: 44, 26: 116, 28: 142}
T1_MEANS |= {right: T1_MEANS[left] for left, right in MIRRORED.items()}


@dataclass(frozen=True)
class SyntheticOptions:
    """How different the two heads of a pair may be; amplitudes are standard deviations unless said otherwise.

    Attributes:
        random_contrast: share of pairs whose tissue intensities are random instead of T1-like.
        same_head: share of pairs made from one head deformed twice (two heads otherwise).
        rotation_degrees, scale, shear, translation_mm: what affine alignment leaves behind, for each head.
        elastic_mm: displacement of the random smooth deformation of each head.
        ventricle_mm: largest push of the ventricle walls (enlarged more often than shrunk).
        bias: log-amplitude of the multiplicative bias field.
        texture: amplitude of smooth intensity variation within tissue, relative to white matter.
        noise: largest amplitude of white noise, relative to white matter.
        thick_slices: share of images blurred along one axis as thick slices are.
        other_contrasts: share of pairs that are T2-like, FLAIR-like or inverted.
        cross_contrast: share of pairs whose two images have different contrasts.
        lesions: share of images with lesions or a mass that the other image lacks.
        stripping_errors: share of images whose brain mask is ragged, with pieces missing or too many.
        atrophy_mm: largest depth to which the surface of a brain is replaced by fluid.
        cut: share of images whose lowest slices are missing.
        orientation_degrees: of the rotation that both heads of a pair share, as heads lie differently in scanners.
    """

    random_contrast: float = 0.1
    same_head: float = 0.1
    rotation_degrees: float = 2.0
    scale: float = 0.03
    shear: float = 0.015
    translation_mm: float = 1.5
    elastic_mm: float = 1.5
    ventricle_mm: float = 5.0
    bias: float = 0.15
    texture: float = 0.05
    noise: float = 0.035
    thick_slices: float = 0.15
    other_contrasts: float = 0.0
    cross_contrast: float = 0.0
    lesions: float = 0.0
    stripping_errors: float = 0.0
    atrophy_mm: float = 0.0
    cut: float = 0.0
    orientation_degrees: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)


def contrast(stream: Stream, random_share: float) -> torch.Tensor:
    """Mean intensity of every label, white matter about 1, T1-like or random; left and right alike."""
    if stream.happens(random_share):
        values = {label: stream.uniform() for label in LABELS}
        values |= {right: values[left] for left, right in MIRRORED.items()}
    else:
        gamma = math.exp(0.2 * float(stream.normal(1)))
        jitter = {label: 1 + 0.05 * float(stream.normal(1)) for label in LABELS}
        jitter |= {right: jitter[left] for left, right in MIRRORED.items()}
        values = {label: (T1_MEANS[label] / 160 * jitter[label]) ** gamma for label in LABELS}
    return torch.tensor([values[label] for label in LABELS], device=stream.device)


def other_contrast(means: torch.Tensor, stream: Stream) -> torch.Tensor:
    """The T1-like means turned round, as T2 (bright fluid), FLAIR (dark fluid, bright grey matter) or inverted."""
    kind = stream.integer(3)
    turned = (1.25 - means).clamp_min(0.05)
    if kind == 2:
        return turned
    fluid = torch.tensor([label in FLUID for label in LABELS], device=means.device)
    flattened = 0.45 + stream.uniform(0.4, 0.8) * (turned - 0.45)
    level = stream.uniform(1.0, 1.4) if kind == 0 else stream.uniform(0.05, 0.2)
    return torch.where(fluid, torch.full_like(means, level), flattened)


def smooth_noise(
    stream: Stream, shape: tuple[int, int, int], spacing_mm: float, length_mm: float, channels: int = 1
) -> torch.Tensor:
    """[channels, D, H, W] of unit variance at the nodes, varying over about `length_mm`."""
    coarse = [max(2, round(n * spacing_mm / length_mm) + 1) for n in shape]
    noise = stream.normal(1, channels, *coarse)
    return functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]


def scan(image: torch.Tensor, stream: Stream, options: SyntheticOptions, spacing_mm: float) -> torch.Tensor:
    """The drawing [D, H, W] with texture, bias field, limited resolution and noise; the background stays 0."""
    depth, height, width = image.shape
    shape = (depth, height, width)
    inside = image > FOREGROUND
    texture = smooth_noise(stream, shape, spacing_mm, 6.0)[0] + smooth_noise(stream, shape, spacing_mm, 20.0)[0]
    image = image * (1 + options.texture * stream.uniform(0.3, 1.0) * texture)
    length = stream.uniform(50, 100)
    image = image * torch.exp(options.bias * smooth_noise(stream, shape, spacing_mm, length)[0])
    image = _limit_resolution(image, stream, options.thick_slices, spacing_mm)
    image = image + stream.uniform(0.01, options.noise) * stream.normal(*shape)
    return (image * inside).clamp_min(0)


def _limit_resolution(image: torch.Tensor, stream: Stream, thick_slices: float, spacing_mm: float) -> torch.Tensor:
    """Blur as a scanner of lower resolution would: a little everywhere, or thick slices of 6 mm along one axis."""
    sigma = stream.uniform(0.0, 0.5)
    if sigma > 0.2:
        image = gaussian(image, round(sigma, 1))
    if stream.happens(thick_slices):
        axis = stream.integer(3)
        width = 2 * round(2.0 / spacing_mm) + 1
        kernel = [width if a == axis else 1 for a in range(3)]
        padding = [width // 2 if a == axis else 0 for a in range(3)]
        image = functional.avg_pool3d(image[None, None], kernel_size=kernel, stride=1, padding=padding)[0, 0]
    return image


def add_lesions(image: torch.Tensor, stream: Stream, spacing_mm: float) -> torch.Tensor:
    """One mass or a few small lesions of some other intensity, with soft ragged edges, inside the foreground."""
    inside = torch.nonzero(image > FOREGROUND)
    if not len(inside):
        return image
    axes = [torch.arange(n, device=image.device) * spacing_mm for n in image.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    one_mass = stream.happens(0.3)
    depth, height, width = image.shape
    ragged = smooth_noise(stream, (depth, height, width), spacing_mm, 10.0)[0]
    level = stream.uniform(0.1, 1.2)
    for _ in range(1 if one_mass else 1 + stream.integer(5)):
        centre = inside[stream.integer(len(inside))].float() * spacing_mm
        radius = stream.uniform(8.0, 18.0) if one_mass else stream.uniform(2.0, 6.0)
        stretch = [stream.uniform(0.7, 1.3) for _ in range(3)]
        offsets = ((z - centre[0]) / stretch[0], (y - centre[1]) / stretch[1], (x - centre[2]) / stretch[2])
        distance = torch.sqrt(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2)
        weight = torch.sigmoid((radius * (1 + 0.25 * ragged) - distance) / (0.5 * spacing_mm)) * (image > FOREGROUND)
        image = image * (1 - weight) + level * weight
    return image


def brain_edge(stream: Stream, shape: tuple[int, int, int], spacing_mm: float) -> torch.Tensor:
    """[D, H, W] mm: how far beyond the brain's surface the stripped image reaches, some smooth number up to 4 and more.

    A first number and a map are always taken from the stream.
    """
    margin = stream.uniform(0.0, 4.0)
    return margin + stream.uniform(0, 1.5) * smooth_noise(stream, shape, spacing_mm, 24.0)[0].clamp_min(-1)


def ragged_edge(edge: torch.Tensor, stream: Stream, spacing_mm: float) -> torch.Tensor:
    """The edge with errors of a bad skull stripping: pieces of 15 mm and more missing by up to 6 mm, or too many."""
    depth, height, width = edge.shape
    noise = smooth_noise(stream, (depth, height, width), spacing_mm, 15.0)[0]
    return edge + stream.uniform(2.0, 6.0) * (noise - 0.5).clamp(-2, 1)
