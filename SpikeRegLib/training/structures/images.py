"""Images of whole heads and what is where in them: any contrast, pose, field of view, stripped or not.

Every image depends on (seed, step) alone, so a resumed training sees exactly the images it would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.anatomy.structures import CLASSES, mirrored_classes
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.sampling import clamped
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.appearance import brain_edge, smooth_noise
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.structures.contrast import TissueContrast, tissue_contrast
from SpikeRegLib.training.structures.heads import CODES, DRAWN, WholeHead

SPACING_MM = 2.0


@dataclass(frozen=True)
class HeadOptions:
    """How different the images may be; shares are of the images.

    Attributes:
        shape: (D, H, W) of an image at 2 mm.
        t1, weighted: see `tissue_contrast`.
        rotation_degrees: standard deviation about each axis; three in ten are uniform up to `most_degrees` instead.
        most_degrees: of a rotation about one axis.
        scale, shear: largest factor of each axis, and of all together, from 1; standard deviation of the shear.
        shift_mm: largest distance of the brain from the middle, along each axis.
        elastic_mm: largest amplitude of the smooth deformation, at 24 mm; two and a half times that at 60 mm.
        ventricle_mm: largest push of the ventricle walls.
        stripped: share without what lies around the brain, three in ten of them raggedly.
        cut: share with one or two sides of the field of view missing.
        lesions: share with lesions, a mass or a resection.
        thick_slices: share with slices of 3 to 6 mm.
        bias, noise: largest log-amplitude of the bias field, and of white noise relative to the mean.
    """

    shape: tuple[int, int, int] = (96, 112, 96)
    t1: float = 0.35
    weighted: float = 0.35
    rotation_degrees: float = 12.0
    most_degrees: float = 30.0
    scale: float = 0.15
    shear: float = 0.04
    shift_mm: float = 18.0
    elastic_mm: float = 2.2
    ventricle_mm: float = 7.0
    stripped: float = 0.55
    cut: float = 0.3
    lesions: float = 0.12
    thick_slices: float = 0.25
    bias: float = 0.4
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class NamedImage:
    """A training image.

    Attributes:
        image: [1, 1, D, H, W] in [0, 1], at 2 mm, axes of LPS.
        classes: [D, H, W] int64, see `anatomy.structures`; 0 also where the field of view is cut.
    """

    image: torch.Tensor
    classes: torch.Tensor


class HeadGenerator:
    """Draws image number `step` of the stream `seed`.

    Args:
        heads: at least one.
        options: amplitudes of everything random.
        seed: of the stream.
    """

    def __init__(self, heads: list[WholeHead], *, options: HeadOptions | None = None, seed: int = 0) -> None:
        if not heads:
            raise ValueError("at least one head is needed to draw images")
        self.heads, self.options, self.seed = heads, options or HeadOptions(), seed
        axes = [(torch.arange(n) - (n - 1) / 2) * SPACING_MM for n in self.options.shape]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        self._points = torch.stack((x, y, z))
        self._other_side = torch.tensor([*mirrored_classes(), *range(CLASSES, CODES)])

    def image(self, step: int) -> NamedImage:
        """Image number `step`."""
        stream = Stream(self.seed * 1_000_003 + step)
        head = self.heads[stream.integer(len(self.heads))]
        drawing = self._drawing(
            head, tissue_contrast(stream, t1=self.options.t1, weighted=self.options.weighted), stream
        )
        mirrored = stream.happens(0.5)
        grid = self._looks_at(head, mirrored, stream)
        inside = grid.abs().amax(-1)[0] < 1
        sampled = clamped(torch.stack((drawing, head.distance.float())), grid[0])
        classes = self._codes_at(head, grid) * inside
        if mirrored:
            classes = self._other_side[classes]
        classes = torch.where(classes < CLASSES, classes, 0)
        image = self._scanned(sampled[0] * inside, sampled[1], stream)
        for kept in self._cut(stream):
            image, classes = image * kept, classes * kept
        return NamedImage(_stretched(image, stream)[None, None], classes)

    def _drawing(self, head: WholeHead, tissue: TissueContrast, stream: Stream) -> torch.Tensor:
        """[D/2, H/2, W/2] the head as it lies in its map: tissue means with partial volume, texture, lesions."""
        flat, (depth, height, width) = head.codes.reshape(-1).int(), head.codes.shape
        means, spreads = (
            functional.avg_pool3d(table.index_select(0, flat).view(1, 1, depth, height, width), DRAWN)[0, 0]
            for table in (tissue.means, tissue.spreads)
        )
        shape = (depth // DRAWN, height // DRAWN, width // DRAWN)
        image = (means + spreads * stream.uniform(0.3, 1.0) * stream.normal(*shape)).clamp_min(0)
        if stream.happens(0.5):
            texture = smooth_noise(stream, shape, SPACING_MM, 6.0)[0] + smooth_noise(stream, shape, SPACING_MM, 20.0)[0]
            image = image * (1 + 0.06 * stream.uniform() * texture)
        if stream.happens(self.options.lesions):
            image = _with_lesions(image, head.distance, stream)
        return image

    def _looks_at(self, head: WholeHead, mirrored: bool, stream: Stream) -> torch.Tensor:
        """[1, D, H, W, 3] where in the head each voxel looks, in [-1, 1] over its grid: pose, size, deformation."""
        options, shape = self.options, self.options.shape
        most = math.radians(options.most_degrees)
        if stream.happens(0.7):
            angles = (stream.normal(3) * math.radians(options.rotation_degrees)).clamp(-most, most)
        else:
            angles = torch.tensor([stream.uniform(-most, most) for _ in range(3)])
        scale = torch.tensor([1 + options.scale * stream.uniform(-1, 1) for _ in range(3)])
        shear = torch.eye(3) + options.shear * stream.normal(3, 3) * (1 - torch.eye(3))
        matrix = _rotation(angles) @ torch.diag(scale) @ shear * (1 + options.scale / 2 * stream.uniform(-1, 1))
        if mirrored:
            matrix = torch.diag(torch.tensor([-1.0, 1.0, 1.0])) @ matrix
        shift = torch.tensor([stream.uniform(-1, 1) * options.shift_mm for _ in range(3)])
        place = torch.einsum("ab,bdhw->adhw", matrix, self._points - shift.view(3, 1, 1, 1))
        for length, factor in ((24.0, 1.0), (60.0, 2.5)):
            amplitude = factor * options.elastic_mm * stream.uniform()
            place = place + amplitude * smooth_noise(stream, shape, SPACING_MM, length, 3)
        half = torch.tensor([n / 2 for n in reversed(head.codes.shape)]).view(3, 1, 1, 1)
        grid = (place / half).permute(1, 2, 3, 0)[None]
        if stream.happens(0.35):
            push = functional.grid_sample(head.ventricle_push[None].float(), grid, align_corners=False)
            # Wider ventricles: a voxel near them looks nearer to their middle.
            amount = options.ventricle_mm * stream.uniform(-1.0, 0.3)
            grid = grid + (amount * push[0] / half).permute(1, 2, 3, 0)[None]
        return grid

    def _codes_at(self, head: WholeHead, grid: torch.Tensor) -> torch.Tensor:
        """[D, H, W] int64, the codes of the nearest voxels of 1 mm."""
        depth, height, width = head.codes.shape
        index = ((grid[0] + 1) / 2 * torch.tensor([width, height, depth])).floor().long()
        x, y, z = (index[..., axis].clamp(0, n - 1) for axis, n in enumerate((width, height, depth)))
        return head.codes.reshape(-1)[(z * height + y) * width + x].long()

    def _scanned(self, image: torch.Tensor, distance: torch.Tensor, stream: Stream) -> torch.Tensor:
        """Bias field, limited resolution, noise; and with the brain alone where it is stripped."""
        options, shape = self.options, self.options.shape
        length = stream.uniform(50, 120)
        image = image * torch.exp(options.bias * stream.uniform() * smooth_noise(stream, shape, SPACING_MM, length)[0])
        if stream.happens(0.4):
            image = gaussian(image, round(stream.uniform(0.3, 0.75), 2))
        if stream.happens(options.thick_slices):
            image = _thick_slices(image, stream)
        found = image[image > 0]
        if len(found):
            image = image + options.noise * stream.uniform() * float(found.mean()) * stream.normal(*shape)
        image = image.abs() if stream.happens(0.5) else image.clamp_min(0)
        if stream.happens(options.stripped):
            edge = brain_edge(stream, shape, SPACING_MM) - 0.5
            if stream.happens(0.3):
                noise = smooth_noise(stream, shape, SPACING_MM, 15.0)[0]
                edge = edge + stream.uniform(0.5, 4.0) * (noise - 0.3).clamp(-1.2, 1.0)
            image = image * (distance < edge)
        return image

    def _cut(self, stream: Stream) -> list[torch.Tensor]:
        """Masks of what is kept where sides of the field of view are missing."""
        if not stream.happens(self.options.cut):
            return []
        masks = []
        for _ in range(1 + stream.integer(2)):
            axis, low = stream.integer(3), stream.happens(0.5)
            length = self.options.shape[axis]
            missing = int(stream.uniform(0.05, 0.4) * length)
            place = torch.arange(length)
            kept = place >= missing if low else place < length - missing
            masks.append(kept.view([-1 if a == axis else 1 for a in range(3)]))
        return masks


def _with_lesions(image: torch.Tensor, distance: torch.Tensor, stream: Stream) -> torch.Tensor:
    """One mass or resection of up to 22 mm radius, or a few small lesions; what lies there keeps its name."""
    one = stream.happens(0.4)
    depth, height, width = image.shape
    ragged = smooth_noise(stream, (depth, height, width), SPACING_MM, 10.0)[0]
    level = stream.uniform(0.0, 1.2)
    inside = (distance < -4).nonzero()
    z, y, x = torch.meshgrid(*(torch.arange(n) * SPACING_MM for n in image.shape), indexing="ij")
    for _ in range(1 if one else 1 + stream.integer(6)):
        centre = inside[stream.integer(len(inside))] * SPACING_MM
        radius = stream.uniform(8.0, 22.0) if one else stream.uniform(2.0, 6.0)
        stretch = [stream.uniform(0.7, 1.3) for _ in range(3)]
        parts = [((p - c) / s) ** 2 for p, c, s in zip((z, y, x), centre.tolist(), stretch, strict=True)]
        weight = torch.sigmoid(radius * (1 + 0.25 * ragged) - torch.sqrt(sum(parts[1:], parts[0])))
        image = image * (1 - weight) + level * weight
    return image


def _thick_slices(image: torch.Tensor, stream: Stream) -> torch.Tensor:
    """Seen in slices of 3 to 6 mm along one axis."""
    axis, factor = stream.integer(3), stream.uniform(1.5, 3.0)
    size = [max(2, round(n / factor)) if a == axis else n for a, n in enumerate(image.shape)]
    volume = image[None, None]
    if factor > 2:
        kernel = [3 if a == axis else 1 for a in range(3)]
        volume = functional.avg_pool3d(volume, kernel, 1, [k // 2 for k in kernel])
    fewer = functional.interpolate(volume, size=size, mode="trilinear")
    return functional.interpolate(fewer, size=tuple(image.shape), mode="trilinear")[0, 0]


def _stretched(image: torch.Tensor, stream: Stream) -> torch.Tensor:
    """[0, 1], with a gamma; the brightest voxels are clipped as a robust scaling clips them."""
    image = image ** math.exp(0.15 * float(stream.normal(1)))
    found, share = image[image > 0], stream.uniform(0.985, 0.999)
    top = torch.quantile(found[:: max(1, len(found) // 40_000)], share) if len(found) else image.new_tensor(1.0)
    return (image / top.clamp_min(1e-6)).clamp(0, 1)


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """[3, 3] one rotation about each axis after the other, in radians."""
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        first, second = (a for a in range(3) if a != axis)
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix
