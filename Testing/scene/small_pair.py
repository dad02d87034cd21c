"""The small pair that tests of the scene share: blobs on two oblique grids, structures in them, and a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from run_folder import composite, itkImage, writeRunFolder
from slicer_scene import blobs, makeVolume, obliqueMatrix
from SpikeRegSlicerLib.scene.inputs import Inputs

SHAPE = (24, 30, 36)  # [K, J, I]
FIXED = obliqueMatrix()
MOVING = obliqueMatrix(spacing=(1.4, 1.5, 2.0), origin=(-49, 21, -5), degrees=31, axis=(0.7, 0.2, 0.4))
CENTRE = (FIXED @ (17.5, 14.5, 11.5, 1))[:3]  # of the fixed grid, RAS mm
LABELS = ((blobs(SHAPE) > 300).astype(np.int16) + (blobs(SHAPE) > 600)).astype(np.int16)  # 0, 1, 2 on either grid


def makePair(movingGrid: np.ndarray = MOVING) -> Inputs:
    """The two volumes in the scene."""
    return Inputs(makeVolume(blobs(SHAPE), FIXED, "Fixed"), makeVolume(blobs(SHAPE, seed=1), movingGrid, "Moving"))


def makeRunFolder(folder: Path, size: float = 4.0, fixedGrid: np.ndarray = FIXED, **options) -> str:
    """What a registration of the pair wrote, with displacements of up to `size` mm; `options` of `writeRunFolder`."""
    images = itkImage(blobs(SHAPE, seed=1), MOVING), itkImage(blobs(SHAPE), fixedGrid)
    return str(writeRunFolder(folder, *images, smallTransform(size), **options))


def smallTransform(size: float = 4.0):
    """Fixed to moving points, LPS; steep, so that a wrong direction is far off."""
    return composite((20, 22, 24), FIXED @ np.diag([1.5, 1.4, 1.2, 1]), size)
