"""Pairs of synthetic images drawn from label maps: two heads, deformed, with contrast, artefacts and soft labels.

Every pair depends on (seed, step) alone, so a resumed training sees exactly the pairs it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import itemgetter

import torch
from torch.nn import functional

from SpikeRegLib.anatomy.structures import CSF, LABELS
from SpikeRegLib.similarity.contrast import Comparison, compare_by
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.training.appearance import (
    SyntheticOptions,
    add_lesions,
    brain_edge,
    contrast,
    other_contrast,
    ragged_edge,
    scan,
    smooth_noise,
)
from SpikeRegLib.training.relaxation import weighted_contrast
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.subjects import SPACING_MM, Subject

DICE_LABELS = tuple(index for index, label in enumerate(LABELS) if label != CSF)


@dataclass(frozen=True)
class SyntheticPair:
    """A training pair on one grid.

    Attributes:
        fixed, moving: [1, 1, D, H, W] in [0, 1]; of two contrasts, one is shown in the other's, as a registration does.
        fixed_shares, moving_shares: [1, labels, D/2, H/2, W/2] soft labels at twice the spacing (`DICE_LABELS`).
        reference: the moving head without artefacts in the contrast that both are shown in, where theirs differ:
            similarity is measured on it, the network never sees it.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_shares: torch.Tensor
    moving_shares: torch.Tensor
    reference: torch.Tensor | None = None

    def members(self) -> list[SyntheticPair]:
        """The pairs of a batch [B, ...] one by one; this one itself where there is no other."""
        count = len(self.fixed)
        if count == 1:
            return [self]
        return [self._each(itemgetter(slice(n, n + 1))) for n in range(count)]

    def to(self, device: torch.device) -> SyntheticPair:
        """The same on another device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> SyntheticPair:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class DrawnHead:
    """One head of a pair at 2 mm and what is needed to draw it again at another spacing.

    Attributes:
        head: its number.
        means: [labels] its own tissue means.
        edge: [D, H, W] mm, where its brain mask ends, before deformation.
        atrophy_mm: depth to which its surface is fluid.
        displacement: [1, 3, D, H, W] voxels: the image at x shows the head at x + displacement(x).
        image: [D, H, W] in [0, 1].
        top: intensity that became 1.
        first_slice: the lowest slice that is not missing.
    """

    head: int
    means: torch.Tensor
    edge: torch.Tensor
    atrophy_mm: float
    displacement: torch.Tensor
    image: torch.Tensor
    top: float
    first_slice: int


@dataclass(frozen=True)
class Shown:
    """How the images of a pair are shown to a network.

    Attributes:
        comparison: fitted to the pair as it is drawn.
        view: which of the comparison's views is taken.
        like: the head in whose contrast both images are.
    """

    comparison: Comparison
    view: int
    like: DrawnHead

    def __call__(self, fixed: torch.Tensor, moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two images or crops [D, H, W] in [0, 1] of the pair, as they are shown."""
        return self.comparison.in_one_contrast(fixed, moving)[self.view]


class PairGenerator:
    """Draws pair number `step` of the stream `seed`.

    Args:
        anatomies: heads in the common space, at least two.
        options: amplitudes of everything random.
        seed: of the stream.
        device: where the pairs are drawn.
    """

    def __init__(
        self, anatomies: list[Subject], *, options: SyntheticOptions | None = None, seed: int = 0, device: str = "cpu"
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
        depth, height, width = self.shares[0].shape[1:]
        self.shape = (depth, height, width)
        grid_mm = [(torch.arange(n, device=device) - (n - 1) / 2) * SPACING_MM for n in self.shape]
        z, y, x = torch.meshgrid(*grid_mm, indexing="ij")
        self._points = torch.stack((x, y, z))

    def pair(self, step: int) -> SyntheticPair:
        """Pair number `step`."""
        (fixed, moving), mirrored, cross = self.heads(step)
        shown = self.shown(step, fixed, moving, cross)
        tensors = [image[None, None] for image in shown(fixed.image, moving.image)]
        tensors += [self._shares(fixed), self._shares(moving)]
        if cross:
            tensors.append((self._clean(moving, shown.like.means)[None, None] / shown.like.top).clamp(0, 1))
        return SyntheticPair(*(tensor.flip(-1) if mirrored else tensor for tensor in tensors))

    def heads(self, step: int) -> tuple[tuple[DrawnHead, DrawnHead], bool, bool]:
        """Both heads of pair `step`, whether the pair is to be mirrored, and whether the contrasts differ."""
        stream = Stream(self.seed * 1_000_003 + step, self.device)
        # Rarer events have a stream of their own: a recipe that leaves them out keeps its pairs.
        rare = Stream(self.seed * 1_000_003 + step + 2**40, self.device)
        first = stream.integer(len(self.shares))
        second = (first + 1 + stream.integer(len(self.shares) - 1)) % len(self.shares)
        if stream.happens(self.options.same_head):
            second = first
        means = contrast(stream, self.options.random_contrast)
        mirrored = stream.happens(0.5)
        fixed_means = moving_means = means
        if rare.happens(self.options.other_contrasts):
            fixed_means = moving_means = other_contrast(means, rare)
        cross = rare.happens(self.options.cross_contrast)
        if cross:
            moving_means = contrast(rare, 1.0) if rare.happens(0.2) else weighted_contrast(rare)
            if rare.happens(0.15):
                fixed_means = weighted_contrast(rare)
            if rare.happens(0.5):
                fixed_means, moving_means = moving_means, fixed_means
        turned = torch.eye(3, device=self.device)
        if self.options.orientation_degrees > 0:
            turned = _rotation(rare.normal(3) * math.radians(self.options.orientation_degrees))
        heads = (
            self._draw(first, fixed_means, turned, stream, rare),
            self._draw(second, moving_means, turned, stream, rare),
        )
        return heads, mirrored, cross

    def shown(self, step: int, fixed: DrawnHead, moving: DrawnHead, cross: bool) -> Shown:
        """How the images of pair `step` are shown: as they are, or if contrasts differ both in one of the two."""
        similarity = "multicontrast" if cross else "lncc"
        comparison = compare_by(similarity, fixed.image, moving.image, fixed.image > FOREGROUND)
        view = Stream(self.seed * 1_000_003 + step + 2**42).integer(comparison.views)
        return Shown(comparison, view, (fixed, moving)[view])

    def _deformation(self, head: int, turned: torch.Tensor, stream: Stream) -> torch.Tensor:
        """[1, 3, D, H, W] in voxels: affine remainder after the common rotation, elastic deformation, ventricles."""
        options = self.options
        angles = stream.normal(3) * math.radians(options.rotation_degrees)
        generator = stream.normal(3, 3) * options.shear
        generator = (generator + generator.T) / 2 + torch.diag(stream.normal(3) * options.scale)
        skew = _skew(angles)
        matrix = torch.linalg.matrix_exp(generator + skew) @ turned - torch.eye(3, device=self.device)
        shift = stream.normal(3) * options.translation_mm
        field = torch.einsum("ab,bdhw->adhw", matrix, self._points) + shift.view(3, 1, 1, 1)
        for length in (48.0, 24.0):
            amplitude = options.elastic_mm * stream.uniform(0.2, 1.3) * (1.0 if length > 30 else 0.6)
            field = field + amplitude * smooth_noise(stream, self.shape, SPACING_MM, length, 3)
        push = options.ventricle_mm * stream.uniform(-0.3, 1.0) ** 3
        field = field - push * self.push[head].float()
        return field[None] / SPACING_MM

    def _draw(self, head: int, means: torch.Tensor, turned: torch.Tensor, stream: Stream, rare: Stream) -> DrawnHead:
        options = self.options
        personal = means * (1 + 0.02 * stream.normal(len(LABELS)))
        edge = brain_edge(stream, self.shape, SPACING_MM)
        if rare.happens(options.stripping_errors):
            edge = ragged_edge(edge, rare, SPACING_MM)
        atrophy = options.atrophy_mm * rare.uniform() ** 2 if options.atrophy_mm > 0 else 0.0
        displacement = self._deformation(head, turned, stream)
        drawn = DrawnHead(head, personal, edge, atrophy, displacement, edge, 1.0, 0)
        image = self._clean(drawn, personal)
        if rare.happens(options.lesions):
            image = add_lesions(image, rare, SPACING_MM)
        first_slice = round(self.shape[0] * rare.uniform(0.05, 0.3)) if rare.happens(options.cut) else 0
        image[:first_slice] = 0
        inside = image > FOREGROUND
        image = scan(image, stream, options, SPACING_MM)
        top = float(torch.quantile(image[inside][::16], 0.995).clamp_min(1e-3)) if inside.any() else 1.0
        image = (image / top).clamp(0, 1)
        return DrawnHead(head, personal, edge, atrophy, displacement, image, top, first_slice)

    def _clean(self, drawn: DrawnHead, means: torch.Tensor) -> torch.Tensor:
        """[D, H, W] the deformed head in given tissue means, skull-stripped, without artefacts."""
        shares, distance = self.shares[drawn.head], self.distance[drawn.head].float()
        clean = torch.matmul(means.bfloat16()[None], shares.reshape(len(LABELS), -1)).reshape(self.shape).float()
        if drawn.atrophy_mm > 0:
            clean = torch.lerp(clean, means[LABELS.index(CSF)], fluid_share(distance, drawn.atrophy_mm, SPACING_MM))
        clean = clean * (distance <= drawn.edge)
        return warp(clean[None, None], drawn.displacement)[0, 0]

    def _shares(self, drawn: DrawnHead) -> torch.Tensor:
        return warp(self.coarse[drawn.head][None], functional.avg_pool3d(drawn.displacement, 2) / 2)


def fluid_share(distance: torch.Tensor, atrophy_mm: float, spacing_mm: float) -> torch.Tensor:
    """The part of every voxel of `spacing_mm` that lies less than `atrophy_mm` below the brain's surface, or above it.

    Args:
        distance: mm to the outermost voxels of the brain at 2 mm (`Subject.distance`), whose surface is one half of
            such a voxel farther out.
    """
    return ((distance + atrophy_mm - SPACING_MM / 2) / spacing_mm + 0.5).clamp(0, 1)


def _skew(angles: torch.Tensor) -> torch.Tensor:
    """[3, 3] the generator of a rotation by `angles` (radians about x, y, z)."""
    upper = torch.zeros(3, 3, device=angles.device)
    upper[0, 1], upper[0, 2], upper[1, 2] = angles[2], angles[1], angles[0]
    return upper - upper.T


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """[3, 3] the rotation itself."""
    return torch.linalg.matrix_exp(_skew(angles))
