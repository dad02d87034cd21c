"""A small whole head as a label file: the ovoid of `tiny_heads` with layers of what lies around a brain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tiny_heads import SHAPE, head

from SpikeRegLib.anatomy.structures import LABELS, OUTSIDE

GRID = (80, 88, 80)


def label_map() -> np.ndarray:
    """[z, y, x] int16 at 1 mm: every structure, with two layers around them."""
    tiny = head()
    fine = tiny.fine_labels.numpy()
    labels = np.concatenate(([0], LABELS)).astype(np.int16)[fine]
    margins = [((n - 2 * m) // 2,) * 2 for n, m in zip(GRID, SHAPE, strict=True)]
    labels = np.pad(labels, margins)
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) for n in labels.shape), indexing="ij")
    for number, label in enumerate((14, 15, 16)):  # the three of the middle that the ovoid lacks
        labels[x**2 + (y - 12 * (number - 1)) ** 2 + (z + 12) ** 2 < 16] = label
    radius = np.sqrt((x / 26) ** 2 + (y / 30) ** 2 + (z / 26) ** 2)
    labels[(labels == 0) & (radius < 1.12)] = OUTSIDE[0]
    labels[(labels == 0) & (radius < 1.22)] = OUTSIDE[1]
    return labels


def write(path: Path, *, permuted: bool = False) -> Path:
    """The map as a file; `permuted` stores it with axes in the order of another scanner, in the same place."""
    image = sitk.GetImageFromArray(label_map())
    image.SetOrigin((-40.0, 10.0, 5.0))
    if permuted:
        image = sitk.PermuteAxes(sitk.Flip(image, (True, False, True)), (1, 2, 0))
    sitk.WriteImage(image, str(path))
    return path
