"""Whether two images have one contrast: their structures are bright and dark in the same order, and by as much."""

from __future__ import annotations

import numpy as np
import torch

from SpikeRegLib.anatomy.reading import StructureMaps
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.space.transforms import AffineTransform, warp_image

# Structures of less volume say little of a contrast.
_LEAST_ML = 1.0


def structure_means(image: Volume, maps: StructureMaps) -> np.ndarray:
    """[classes] mean intensity of `image` in every structure; NaN where there is too little of it, and for class 0.

    Args:
        image: in any intensities, on any grid.
        maps: what was found in it.
    """
    seen = warp_image(image, AffineTransform.identity(), maps.frame).data.float()
    shares = maps.probabilities
    amount = shares.sum((1, 2, 3))
    means = (torch.einsum("cdhw,dhw->c", shares, seen) / amount.clamp_min(1e-6)).double().numpy()
    means[amount.numpy() * np.prod(maps.frame.spacing) / 1000 < _LEAST_ML] = np.nan
    means[0] = np.nan
    return means


def contrast_agreement(fixed: np.ndarray, moving: np.ndarray) -> float:
    """Correlation of two images' `structure_means` over the structures of both: 1 for one contrast; 0 where it is not
    known."""
    both = np.isfinite(fixed) & np.isfinite(moving)
    if both.sum() < 4 or np.ptp(fixed[both]) == 0 or np.ptp(moving[both]) == 0:
        return 0.0
    return float(np.corrcoef(fixed[both], moving[both])[0, 1])
