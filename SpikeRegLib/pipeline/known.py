"""Where both images of a pair are known: inside their fields of view, and where no mask leaves them out."""

from __future__ import annotations

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import Side
from SpikeRegLib.space.field_of_view import field_of_view
from SpikeRegLib.space.known import Known
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image


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


def known_pair(fixed: Side, moving: Side, frame: Frame, base: Transform | None) -> Known | None:
    """Where both images are known on the working frame, the moving one seen through `base`; None for everywhere."""
    identity = AffineTransform.identity()
    parts = known_of(fixed, frame, identity), known_of(moving, frame, base or identity)
    if parts[0] is None and parts[1] is None:
        return None
    whole = torch.ones(2, *frame.shape)
    return Known(whole if parts[0] is None else parts[0], whole if parts[1] is None else parts[1])
