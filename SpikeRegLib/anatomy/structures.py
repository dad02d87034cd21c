"""The structures that are told apart: FreeSurfer's numbers, which of them mirror each other, and their places."""

from __future__ import annotations

LABELS: tuple[int, ...] = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28)
LABELS += (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60)
CSF = 24
VENTRICLES = (4, 43)
FLUID = (CSF, 5, 44, 14, 15, *VENTRICLES)
WHITE_MATTER = (2, 41)
MIRRORED = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60}
# Codes of whole-head label maps that mean the same tissue; 0 drops a code.
FOLDED = {25: 2, 57: 41, 136: 4, 137: 5, 163: 43, 164: 44, 30: 0, 62: 0, 72: 0, 85: 0}
# What lies around a brain in whole-head label maps: skull, fat, muscle, eyes, air, neck.
OUTSIDE = (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)

# Classes of the network: 0 is not brain, 1 + n the label at place n.
CLASSES = 1 + len(LABELS)
CLASS_OF = {label: place for place, label in enumerate(LABELS, 1)}


def mirrored_classes() -> list[int]:
    """The class that each class becomes when left and right are exchanged."""
    other = MIRRORED | {right: left for left, right in MIRRORED.items()}
    return [0, *(CLASS_OF[other.get(label, label)] for label in LABELS)]
