"""Where the brain is: one connected part without holes, on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.transforms import AffineTransform, warp_image


@dataclass(frozen=True)
class BrainMask:
    """The share of brain of every voxel, [D, H, W] in [0, 1] on `frame`; nothing beside its largest part."""

    share: torch.Tensor
    frame: Frame

    @property
    def volume_ml(self) -> float:
        return float((self.share > 0.5).sum()) * float(np.prod(self.frame.spacing)) / 1000

    def on(self, frame: Frame) -> torch.Tensor:
        """[D, H, W] bool: the brain on another grid."""
        return warp_image(Volume(self.share, self.frame), AffineTransform.identity(), frame).data > 0.5


def brain_mask(share: torch.Tensor, frame: Frame) -> BrainMask:
    """The largest connected part of where the brain is likelier than not, holes filled.

    Args:
        share: [D, H, W], probability of brain.
        frame: of the maps.
    """
    inside = sitk.GetImageFromArray((share > 0.5).numpy().astype(np.uint8))
    parts = sitk.ConnectedComponent(inside)
    sizes = np.bincount(sitk.GetArrayViewFromImage(parts).ravel())
    if len(sizes) < 2:
        return BrainMask(torch.zeros_like(share), frame)
    largest = sitk.Equal(parts, float(1 + sizes[1:].argmax()))
    filled = torch.from_numpy(sitk.GetArrayFromImage(sitk.BinaryFillhole(largest))).bool()
    # Half a voxel around the part keeps its smooth edge.
    near = torch.nn.functional.max_pool3d(filled[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    lost = filled & (share <= 0.5)
    return BrainMask(torch.where(lost, 1.0, torch.where(near, share, 0.0)), frame)
