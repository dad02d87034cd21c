"""Pairs of synthetic images drawn from label maps: anatomy, contrast, bias field, noise, resolution, skull stripping.

Every pair depends on (seed, step) alone, so a resumed training sees exactly the pairs it would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.fields import warp
from SpikeRegLib.filters import gaussian
from SpikeRegLib.training.anatomy import CSF, LABELS, MIRRORED, SPACING_MM, Anatomy

# T1-weighted mean intensity of every label relative to white matter, from the SynthSeg priors (Apache-2.0).
T1_MEANS = {2: 160, 3: 96, 4: 44, 5: 44, 7: 136, 8: 88, 10: 130, 11: 102, 12: 124, 13: 145, 14: 44, 15: 44, 16: 136}
T1_MEANS |= {17: 96, 18: 96, 24: 44, 26: 116, 28: 142}
T1_MEANS |= {right: T1_MEANS[left] for left, right in MIRRORED.items()}
DICE_LABELS = tuple(index for index, label in enumerate(LABELS) if label != CSF)


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


@dataclass(frozen=True)
class SyntheticPair:
    """A training pair on one grid.

    Attributes:
        fixed, moving: [1, 1, D, H, W] in [0, 1].
        fixed_shares, moving_shares: [1, labels, D/2, H/2, W/2] soft labels at twice the spacing (`DICE_LABELS`).
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_shares: torch.Tensor
    moving_shares: torch.Tensor


class PairGenerator:
    """Draws pair number `step` of the stream `seed`.

    Args:
        anatomies: heads in the common space, at least two.
        options: amplitudes of everything random.
        seed: of the stream.
        device: where the pairs are drawn.
    """

    def __init__(
        self, anatomies: list[Anatomy], *, options: SyntheticOptions | None = None, seed: int = 0, device: str = "cpu"
    ) -> None:
        if len(anatomies) < 2:
            raise ValueError(f"at least two label maps are needed to make pairs, got {len(anatomies)}")
        self.options = options or SyntheticOptions()
        self.seed = seed
        self.device = device
        # Eighths are exact in bfloat16, in which drawing is a matrix product ten times faster than in float32.
        self.shares = [a.shares.to(device).bfloat16() / 8 for a in anatomies]
        self.coarse = [functional.avg_pool3d(shares[list(DICE_LABELS)].float(), 2) for shares in self.shares]
        self.distance = [a.distance.to(device) for a in anatomies]
        self.push = [a.ventricle_push.to(device) for a in anatomies]
        self.shape = tuple(self.shares[0].shape[1:])
        grid_mm = [(torch.arange(n, device=device) - (n - 1) / 2) * SPACING_MM for n in self.shape]
        z, y, x = torch.meshgrid(*grid_mm, indexing="ij")
        self._points = torch.stack((x, y, z))

    def pair(self, step: int) -> SyntheticPair:
        """Pair number `step`."""
        random = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
        first = self._integer(random, len(self.shares))
        second = (first + 1 + self._integer(random, len(self.shares) - 1)) % len(self.shares)
        if self._uniform(random) < self.options.same_head:
            second = first
        means = self._contrast(random)
        mirrored = self._uniform(random) < 0.5
        images, shares = [], []
        for head in (first, second):
            image, share = self._draw(head, means, random)
            images.append(image.flip(-1) if mirrored else image)
            shares.append(share.flip(-1) if mirrored else share)
        return SyntheticPair(images[0], images[1], shares[0], shares[1])

    def _uniform(self, random: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=random, device=self.device))

    def _normal(self, random: torch.Generator, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, device=self.device)

    def _integer(self, random: torch.Generator, count: int) -> int:
        return int(torch.randint(count, (), generator=random, device=self.device))

    def _contrast(self, random: torch.Generator) -> torch.Tensor:
        """Mean intensity of every label, white matter about 1; left and right alike."""
        if self._uniform(random) < self.options.random_contrast:
            values = {label: self._uniform(random) for label in LABELS}
            values |= {right: values[left] for left, right in MIRRORED.items()}
        else:
            gamma = math.exp(0.2 * float(self._normal(random, 1)))
            jitter = {label: 1 + 0.05 * float(self._normal(random, 1)) for label in LABELS}
            jitter |= {right: jitter[left] for left, right in MIRRORED.items()}
            values = {label: (T1_MEANS[label] / 160 * jitter[label]) ** gamma for label in LABELS}
        return torch.tensor([values[label] for label in LABELS], device=self.device)

    def _smooth_noise(self, random: torch.Generator, channels: int, length_mm: float) -> torch.Tensor:
        """[channels, D, H, W] of unit variance at the nodes, varying over about `length_mm`."""
        coarse = [max(2, round(n * SPACING_MM / length_mm) + 1) for n in self.shape]
        noise = self._normal(random, 1, channels, *coarse)
        return functional.interpolate(noise, size=self.shape, mode="trilinear", align_corners=True)[0]

    def _deformation(self, head: int, random: torch.Generator) -> torch.Tensor:
        """[1, 3, D, H, W] in voxels: affine remainder, elastic deformation, ventricles."""
        options = self.options
        angles = self._normal(random, 3) * math.radians(options.rotation_degrees)
        generator = self._normal(random, 3, 3) * options.shear
        generator = (generator + generator.T) / 2 + torch.diag(self._normal(random, 3) * options.scale)
        skew = torch.zeros(3, 3, device=self.device)
        skew[0, 1], skew[0, 2], skew[1, 2] = angles[2], angles[1], angles[0]
        matrix = torch.linalg.matrix_exp(generator + skew - skew.T) - torch.eye(3, device=self.device)
        shift = self._normal(random, 3) * options.translation_mm
        field = torch.einsum("ab,bdhw->adhw", matrix, self._points) + shift.view(3, 1, 1, 1)
        for length in (48.0, 24.0):
            amplitude = options.elastic_mm * self._uniform(random, 0.2, 1.3) * (1.0 if length > 30 else 0.6)
            field = field + amplitude * self._smooth_noise(random, 3, length)
        push = options.ventricle_mm * self._uniform(random, -0.3, 1.0) ** 3
        field = field - push * self.push[head].float()
        return field[None] / SPACING_MM

    def _draw(self, head: int, means: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        options = self.options
        shares = self.shares[head]
        personal = means * (1 + 0.02 * self._normal(random, len(LABELS)))
        flat = shares.reshape(len(LABELS), -1)
        clean = torch.matmul(personal.bfloat16()[None], flat).reshape(self.shape).float()
        margin = self._uniform(random, 0.0, 4.0)
        edge = margin + self._uniform(random, 0, 1.5) * self._smooth_noise(random, 1, 24.0)[0].clamp_min(-1)
        clean = clean * (self.distance[head].float() <= edge)
        displacement = self._deformation(head, random)
        image = warp(clean[None, None], displacement)[0, 0]
        inside = image > 0.02
        texture = self._smooth_noise(random, 1, 6.0)[0] + self._smooth_noise(random, 1, 20.0)[0]
        image = image * (1 + options.texture * self._uniform(random, 0.3, 1.0) * texture)
        image = image * torch.exp(options.bias * self._smooth_noise(random, 1, self._uniform(random, 50, 100))[0])
        image = self._resolution(image, random)
        image = image + self._uniform(random, 0.01, options.noise) * self._normal(random, *self.shape)
        image = (image * inside).clamp_min(0)
        top = torch.quantile(image[inside][::16], 0.995).clamp_min(1e-3)
        image = (image / top).clamp(0, 1)
        warped = warp(self.coarse[head][None], functional.avg_pool3d(displacement, 2) / 2)
        return image[None, None], warped

    def _resolution(self, image: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Blur as a scanner of lower resolution would: a little everywhere, or thick slices along one axis."""
        sigma = self._uniform(random, 0.0, 0.5)
        if sigma > 0.2:
            image = gaussian(image, round(sigma, 1))
        if self._uniform(random) < self.options.thick_slices:
            axis = self._integer(random, 3)
            kernel = [3 if a == axis else 1 for a in range(3)]
            padding = [1 if a == axis else 0 for a in range(3)]
            image = functional.avg_pool3d(image[None, None], kernel_size=kernel, stride=1, padding=padding)[0, 0]
        return image
