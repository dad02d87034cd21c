"""Where an image is known: inside its field of view."""

from __future__ import annotations

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space import sampling
from SpikeRegLib.space.transforms import Transform

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
