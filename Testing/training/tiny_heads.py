"""Heads drawn by hand on a small grid: an ovoid of nested, left-right symmetric structures."""

from __future__ import annotations

import torch

from SpikeRegLib.anatomy.structures import CSF, LABELS, MIRRORED
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.training.subjects import SPACING_MM, Subject

SHAPE = (32, 36, 32)


def head(name: str = "head", *, size: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> Subject:
    """A shell of CSF around cortex around white matter, with the other structures as balls in it."""
    axes = [torch.arange(float(n)) - (n - 1) / 2 for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    radius = torch.sqrt((x / 13) ** 2 + (y / 15) ** 2 + (z / 13) ** 2) / size
    labels = torch.zeros(shape, dtype=torch.int64)
    left = x < 0
    for limit, label in ((1.0, CSF), (0.9, 3), (0.7, 2)):
        labels[radius < limit] = label
    inner = [label for label in MIRRORED if label not in (2, 3)]
    for number, label in enumerate(inner):
        centre = (-4.0, -7.0 + 14.0 * number / (len(inner) - 1), 5.0 * (-1) ** number)
        ball = ((-x.abs() - centre[0]) / 3) ** 2 + ((y - centre[1]) / 2) ** 2 + ((z - centre[2]) / 3.0) ** 2 < size
        labels[ball] = label
    for label, right in MIRRORED.items():
        labels[(labels == label) & ~left] = right
    shares = torch.stack([(labels == label).to(torch.uint8) * 8 for label in LABELS])
    ventricle = torch.stack((x, y, z)) / torch.sqrt(x * x + y * y + z * z + 1)
    push = gaussian(ventricle * torch.exp(-((radius / 0.5) ** 2)), 1.0)
    table = torch.zeros(256, dtype=torch.uint8)
    table[list(LABELS)] = torch.arange(1, len(LABELS) + 1, dtype=torch.uint8)
    fine_labels = table[labels]
    for axis in (0, 1, 2):
        fine_labels = fine_labels.repeat_interleave(2, axis)
    return Subject(name, shares, ((radius - 0.9) * 13 * SPACING_MM).half(), push.half(), fine_labels)
