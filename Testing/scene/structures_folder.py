"""Folders as a segmentation writes them, small and with known content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from run_folder import itkImage

SHAPE = (24, 30, 36)  # [K, J, I]
BOXES = {
    17: (slice(4, 8), slice(5, 11), slice(6, 13)),
    53: (slice(4, 8), slice(16, 24), slice(6, 13)),
    3: (slice(12, 21), slice(7, 20), slice(20, 31)),
}
"""Label -> where it is, [K, J, I]; each of another size."""


def labelArray(boxes: dict[int, tuple[slice, ...]] = BOXES) -> np.ndarray:
    """[K, J, I] int16."""
    labels = np.zeros(SHAPE, np.int16)
    for label, box in boxes.items():
        labels[box] = label
    return labels


def maskArray() -> np.ndarray:
    """[K, J, I] uint8: a box around all the others."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:22, 4:25, 5:32] = 1
    return mask


def writeStructures(folder: Path, ijkToRas: np.ndarray, labels: np.ndarray | None = None, **result) -> str:
    """Write label map, brain mask and segmentation.json on a grid given in RAS; `result` adds to what that holds."""
    folder.mkdir(parents=True)
    for name, array in (("labels", labelArray() if labels is None else labels), ("brain_mask", maskArray())):
        sitk.WriteImage(itkImage(array, ijkToRas), str(folder / f"{name}.nii.gz"))
    rows = [{"label": label, "name": "of no use", "ml": label / 10, "confidence": label / 100} for label in BOXES]
    table = {"schema": 1, "confidence": 0.75, "brain_ml": 1234.5, "structures": rows, "warnings": [], **result}
    (folder / "segmentation.json").write_text(json.dumps(table), encoding="utf-8")
    return str(folder)
