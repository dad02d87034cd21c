"""Where the brain is, on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
