"""Where the brain is, on any grid: the largest brain in what a network says, without holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.transforms import AffineTransform, warp_image

# Where the likeliest class of the brain is less likely than this, as a logit, all together are, too.
_SURELY_NOT = -5.0


@dataclass(frozen=True)
class BrainMask:
    """How much likelier brain is than not brain, [D, H, W] as a logit on `frame`: above 0 is brain."""

    likelier: torch.Tensor
    frame: Frame

    @classmethod
    def found_in(cls, logits: torch.Tensor, frame: Frame) -> BrainMask:
        """The largest connected brain: others are turned below 0, and holes above it.

        Args:
            logits: [classes, D, H, W] on `frame`; class 0 is not brain. Brain is where its probability is below .5.
        """
        likelier = logits[1:].amax(0) - logits[0]
        unsure = likelier > _SURELY_NOT
        likelier[unsure] = torch.logsumexp(logits[1:, unsure], 0) - logits[0, unsure]
        brain = likelier > 0
        kept = _largest(brain)
        filled = torch.from_numpy(
            sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(kept.to(torch.uint8).numpy())))
        ).bool()
        likelier = torch.where(brain & ~kept & ~filled, -likelier, likelier)
        return cls(torch.where(filled & ~brain, likelier.abs().clamp_min(1e-3), likelier), frame)

    @property
    def inside(self) -> torch.Tensor:
        """[D, H, W] bool on `frame`."""
        return self.likelier > 0

    @property
    def volume_ml(self) -> float:
        return float(self.inside.sum()) * float(np.prod(self.frame.spacing)) / 1000

    def on(self, frame: Frame) -> torch.Tensor:
        """[D, H, W] bool: the brain on another grid, between whose voxels the logits are interpolated."""
        return warp_image(Volume(self.likelier, self.frame), AffineTransform.identity(), frame).data > 0


def _largest(mask: torch.Tensor) -> torch.Tensor:
    """The largest connected region of a mask [D, H, W]; neighbours share a face."""
    regions = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.to(torch.uint8).numpy())))
    sizes = np.bincount(regions.ravel())
    return torch.from_numpy(regions == 1 + int(sizes[1:].argmax())) if len(sizes) > 1 else mask
