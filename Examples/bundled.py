"""The bundled pair that the examples use where no files are given, and landmarks made from its segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import SpikeRegLib
from SpikeRegLib import read_labels

FOLDER = Path(SpikeRegLib.__file__).parent / "sample"
FIXED, MOVING = FOLDER / "fixed.nii.gz", FOLDER / "moving.nii.gz"
FIXED_LABELS, MOVING_LABELS = FOLDER / "fixed_seg.nii.gz", FOLDER / "moving_seg.nii.gz"
STRUCTURES = (10, 11, 12, 49, 50, 51)  # thalamus, caudate and putamen, left and right


def centres(labels: Path) -> torch.Tensor:
    """Centres of `STRUCTURES` in a segmentation, [6, 3] in LPS mm: landmarks for want of some that a person set."""
    volume = read_labels(labels)
    matrix = volume.frame.matrix
    found = []
    for structure in STRUCTURES:
        index = np.flip(np.argwhere(volume.data.numpy() == structure), axis=1).mean(0)  # [D, H, W] to i, j, k
        found.append(matrix[:3, :3] @ index + matrix[:3, 3])
    return torch.from_numpy(np.stack(found))
