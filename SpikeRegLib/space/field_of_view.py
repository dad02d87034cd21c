"""Where an image is known: inside its field of view, and where no mask leaves it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space import sampling
from SpikeRegLib.space.transforms import Transform, warp_image

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.inputs import Side

# A face of the grid cuts the anatomy if it covers more than this share of it; a skull-stripped brain may touch a face.
_CUT = 0.01

_ROUNDING = 1e-5

Faces = tuple[tuple[bool, bool], tuple[bool, bool], tuple[bool, bool]]


def cut_faces(anatomy: torch.Tensor) -> Faces:
    """Whether the anatomy, [D, H, W] bool, goes on beyond the first and the last voxel along i, j and k.

    Beyond the other faces there is background, which is as good as seen.
    """

    def cut(axis: int, index: int) -> bool:
        return float(anatomy.select(axis, index).float().mean()) > _CUT

    i, j, k = ((cut(axis, 0), cut(axis, -1)) for axis in (2, 1, 0))
    return i, j, k


def field_of_view(image: Frame, cut: Faces, frame: Frame, transform: Transform) -> torch.Tensor:
    """[D, H, W] bool on `frame`: what `transform` takes to a place that `image` shows, or beyond a face that does not
    cut the anatomy."""
    within = torch.ones(frame.shape, dtype=torch.bool)
    for start, stop in sampling.slabs(frame):
        positions = sampling.Positions(frame, start, stop)
        transform.advance(positions)
        for along, size, (first, last) in zip(positions.coordinates(image), image.size, cut, strict=True):
            edge = 1 - 1 / size + _ROUNDING  # the outermost voxel's centre: beyond it the image only seems to go on
            if first:
                within[start:stop] &= along >= -edge
            if last:
                within[start:stop] &= along <= edge
    return within


def known_of(side: Side, frame: Frame, transform: Transform) -> torch.Tensor | None:
    """[2, D, H, W] in [0, 1] on `frame`, seen through `transform`: what of an image counts, and its field of view.

    None where it is all known.
    """
    cut = any(face for faces in side.cut for face in faces)
    if side.left_out is None and not cut:
        return None
    within = field_of_view(side.image.frame, side.cut, frame, transform).float()
    counts = within
    if side.left_out is not None:
        out = Volume(side.left_out.float(), side.image.frame)
        counts = within * (1 - warp_image(out, transform, frame).data)
    return torch.stack((counts, within))
