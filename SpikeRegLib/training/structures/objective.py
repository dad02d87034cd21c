"""What a network that names structures is trained for: overlap of every structure, and the likely name of every voxel.

Training looks at two of the eight voxels of every patch, others in every step: a quarter of the cost of the loss, and
the mean of its gradients is the same.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from SpikeRegLib.anatomy.logits import PATCH

# Voxels that a soft overlap is made of at least, so that a structure of a few voxels does not rule the loss.
_SMOOTH = 1.0


def some_places(count: int, seed: int) -> list[int]:
    """`count` of the eight places of a patch, 4 z + 2 y + x, in order."""
    order = torch.randperm(PATCH**3, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def at_places(volume: torch.Tensor, places: list[int]) -> torch.Tensor:
    """[places, d, h, w] what lies at these places of the patches of a volume [D, H, W]."""
    return torch.stack([volume[p >> 2 :: PATCH, p >> 1 & 1 :: PATCH, p & 1 :: PATCH] for p in places])


def structure_loss(logits: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy plus one minus the mean soft Dice of the classes that are there; and both for the log.

    Args:
        logits: [B, classes, D, H, W].
        classes: [B, D, H, W] int64.
    """
    log_share = functional.log_softmax(logits.float(), 1)
    share = log_share.exp()
    entropy = functional.nll_loss(log_share, classes)
    count = logits.shape[1]
    size = torch.bincount(classes.ravel(), minlength=count).to(share.dtype)
    meet = share.new_zeros(count).index_add(0, classes.ravel(), share.gather(1, classes[:, None]).ravel())
    dice = (2 * meet + _SMOOTH) / (share.sum((0, 2, 3, 4)) + size + _SMOOTH)
    overlap = dice[size > 0].mean()
    terms = {"dice": round(float(overlap.detach()), 4), "entropy": round(float(entropy.detach()), 4)}
    return entropy + 1 - overlap, terms
