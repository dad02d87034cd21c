"""Pairs for the fine pass: crops at 1 mm of two heads that the coarse network has brought together already.

A crop is drawn from the 1 mm label maps, not cut from an interpolated image: both heads are looked up once, through
everything that deforms them. Intensities are standardised with the statistics of the whole head, as in a registration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.anatomy.structures import CSF, LABELS
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.filters import FOREGROUND, gaussian
from SpikeRegLib.spiking.intensity import MEAN, SPREAD
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.training.appearance import SyntheticOptions, add_lesions, scan
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.subjects import SPACING_MM, Subject
from SpikeRegLib.training.synthetic import DICE_LABELS, DrawnHead, PairGenerator, Shown, SyntheticPair, fluid_share

FINE_SPACING_MM = SPACING_MM / 2


@dataclass(frozen=True)
class _Found:
    """Two heads, how they are shown, whether to mirror them, whether contrasts differ, and fixed grid -> moving head in
    2 mm voxels."""

    fixed: DrawnHead
    moving: DrawnHead
    shown: Shown
    mirrored: bool
    cross: bool
    to_moving: torch.Tensor


class CropGenerator:
    """Draws crop pair number `step` of the stream `seed`.

    Args:
        anatomies: heads in the common space, at least two.
        coarse: the network of the coarse pass, at 2 mm; used as it is, in one pass.
        options: amplitudes of everything random, see `SyntheticOptions`.
        seed: of the stream.
        shape: (D, H, W) of a crop in 1 mm voxels, even numbers.
        crops_per_pair: crops cut from every pair of heads, one after the other: drawing whole heads and the coarse
            pass take as long as two crops.
        device: where the pairs are drawn.
    """

    def __init__(
        self,
        anatomies: list[Subject],
        coarse: RegistrationUNet,
        *,
        options: SyntheticOptions | None = None,
        seed: int = 0,
        shape: tuple[int, int, int] = (80, 96, 80),
        crops_per_pair: int = 2,
        device: str = "cpu",
    ) -> None:
        self._pairs = PairGenerator(anatomies, options=options, seed=seed, device=device)
        self._labels = [a.fine_labels.to(device) for a in anatomies]
        depth, height, width = (min(n, 2 * limit) for n, limit in zip(shape, self._pairs.shape, strict=True))
        self.shape = (depth, height, width)
        self._crops_per_pair = crops_per_pair
        self._last: tuple[int, _Found] | None = None
        self._coarse = coarse.to(device).eval()
        self._precision = Precision.best(device)

    def pair(self, step: int) -> SyntheticPair:
        """Crop pair number `step`; its labels are at 2 mm."""
        found = self._found(step // self._crops_per_pair)
        fixed, moving = found.fixed, found.moving
        stream = Stream(self._pairs.seed * 1_000_003 + step + 2**41, self._pairs.device)
        corner = self._corner(fixed.image, stream)
        to_moving = found.to_moving
        fixed_crop, fixed_shares = self._crop(fixed, fixed.displacement, fixed.means, corner, stream)
        moving_crop, moving_shares = self._crop(moving, to_moving, moving.means, corner, stream)
        whole = found.shown(fixed.image, moving.image)
        crops = found.shown(fixed_crop, moving_crop)
        tensors = [_standardised(crop, head)[None, None] for crop, head in zip(crops, whole, strict=True)]
        tensors += [fixed_shares, moving_shares]
        if found.cross:
            like = found.shown.like
            clean, _ = self._intensity(moving, to_moving, like.means, corner)
            tensors.append(_standardised(clean / like.top, like.image)[None, None])
        return SyntheticPair(*(tensor.flip(-1) if found.mirrored else tensor for tensor in tensors))

    def _found(self, number: int) -> _Found:
        """Whole heads number `number` and the coarse pass between them; the last ones are kept."""
        if self._last is None or self._last[0] != number:
            (fixed, moving), mirrored, cross = self._pairs.heads(number)
            shown = self._pairs.shown(number, fixed, moving, cross)
            both = torch.stack(shown(fixed.image, moving.image))[None]
            with torch.no_grad(), self._precision.autocast():
                displacement = self._coarse.displacement(both).float()
            self._last = (
                number,
                _Found(fixed, moving, shown, mirrored, cross, compose(displacement, moving.displacement)),
            )
        return self._last[1]

    def _corner(self, image: torch.Tensor, stream: Stream) -> tuple[int, int, int]:
        """The lowest 2 mm voxel of a crop around some voxel of the brain."""
        inside = torch.nonzero(image > FOREGROUND)
        where = inside[stream.integer(len(inside))].tolist() if len(inside) else [n // 2 for n in image.shape]
        limits = [n - size // 2 for n, size in zip(image.shape, self.shape, strict=True)]
        d, h, w = (min(max(0, c - size // 4), limit) for c, size, limit in zip(where, self.shape, limits, strict=True))
        return d, h, w

    def _positions(self, displacement: torch.Tensor, corner: tuple[int, int, int]) -> torch.Tensor:
        """[1, D, H, W, 3] where the 1 mm voxels of the crop lie in the head, in 2 mm voxels, as (x, y, z)."""
        device = displacement.device
        axes = [c + (torch.arange(n, device=device) - 0.5) / 2 for c, n in zip(corner, self.shape, strict=True)]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        points = torch.stack((x, y, z), -1)[None]
        return points + _sample(displacement, points).movedim(1, -1)

    def _intensity(
        self, drawn: DrawnHead, displacement: torch.Tensor, means: torch.Tensor, corner: tuple[int, int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The skull-stripped crop [D, H, W] without artefacts, and its labels [D, H, W] (1 + place, 0 outside)."""
        points = self._positions(displacement, corner)
        labels, fine = _part(self._labels[drawn.head], 2 * points + 0.5)
        crop_labels = _sample(labels[None, None].float(), fine, mode="nearest")[0, 0].to(torch.uint8)
        table = torch.cat((means.new_zeros(1), means))
        image = _sample(table[labels.int()][None, None], fine)[0, 0]
        distance = self._pairs.distance[drawn.head].float()
        depth_and_edge = _sample(torch.stack((distance, drawn.edge))[None], points)[0]
        if drawn.atrophy_mm > 0:
            fluid = fluid_share(depth_and_edge[0], drawn.atrophy_mm, FINE_SPACING_MM) * (crop_labels > 0)
            image = torch.lerp(image, means[LABELS.index(CSF)], fluid)
            crop_labels = crop_labels.masked_fill(fluid > 0.5, LABELS.index(CSF) + 1)
        image = image * (depth_and_edge[0] <= depth_and_edge[1])
        return image, crop_labels

    def _crop(
        self,
        drawn: DrawnHead,
        displacement: torch.Tensor,
        means: torch.Tensor,
        corner: tuple[int, int, int],
        stream: Stream,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scanned crop [D, H, W] in [0, 1] and its soft labels [1, labels, D/2, H/2, W/2]."""
        options = self._pairs.options
        image, labels = self._intensity(drawn, displacement, means, corner)
        if stream.happens(options.lesions):
            image = add_lesions(image, stream, FINE_SPACING_MM)
        # A voxel of a scanner sees a little of its neighbours; a label map does not.
        image = gaussian(image, round(stream.uniform(0.4, 0.9), 1))
        image = scan(image, stream, options, FINE_SPACING_MM)
        wanted = torch.tensor([place + 1 for place in DICE_LABELS], dtype=torch.uint8, device=labels.device)
        # Slice by slice: a mean over the eight corners is many times slower on bytes.
        octants = [labels[z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)]
        covered = torch.zeros(len(wanted), *octants[0].shape, dtype=torch.uint8, device=labels.device)
        for octant in octants:
            covered += octant[None] == wanted.view(-1, 1, 1, 1)
        shares = covered.float() / 8
        return (image / drawn.top).clamp(0, 1), shares[None]


def _standardised(crop: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """The crop as `spiking.unet.standardise` would make it if it knew the whole image."""
    inside = whole > FOREGROUND
    mean, spread = whole[inside].mean(), whole[inside].std().clamp_min(1e-3)
    crop = crop.clamp(0, 1)
    return (MEAN + SPREAD * (crop - mean) / spread).clamp(0, 1) * (crop > FOREGROUND)


def _part(volume: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of a volume [D, H, W] that linear interpolation at `points` reads, and the points in it."""
    low = points.amin((0, 1, 2, 3)).floor().int().tolist()
    high = points.amax((0, 1, 2, 3)).ceil().int().tolist()
    limits = list(reversed(volume.shape))
    begin = [min(max(0, a), n - 2) for a, n in zip(low, limits, strict=True)]
    end = [max(min(b + 1, n), a + 2) for a, b, n in zip(begin, high, limits, strict=True)]
    part = volume[begin[2] : end[2], begin[1] : end[1], begin[0] : end[0]]
    return part, points - torch.tensor(begin, device=points.device)


def _sample(image: torch.Tensor, points: torch.Tensor, *, mode: str = "bilinear") -> torch.Tensor:
    """image [1, C, D, H, W] at points [1, d, h, w, 3] in voxels (x, y, z), clamped at the border."""
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in reversed(image.shape[2:])], device=image.device)
    return functional.grid_sample(image, points * scale - 1, mode=mode, padding_mode="border", align_corners=True)
