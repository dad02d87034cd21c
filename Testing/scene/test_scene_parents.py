"""Linear parents of fixed and moving volume are honoured: the moving volume under the result lies on the fixed one.

The library aligns blobs with the same blobs shown a few mm and degrees away; the truth is known.
"""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from slicer_scene import (
    blobs,
    makeFiducials,
    makeLinearTransform,
    makeVolume,
    matrixFromArray,
    obliqueMatrix,
    rotation,
    translation,
)
from SpikeRegSlicerLib.scene import grids
from SpikeRegSlicerLib.scene.apply import applyTo
from SpikeRegSlicerLib.scene.export import exportInputs
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.problems import problems
from SpikeRegSlicerLib.scene.results import Outputs, loadRun

from SpikeRegLib import register, write_outputs

SHAPE = (40, 44, 48)
GRID = obliqueMatrix(spacing=(1.5, 1.6, 1.8))
CENTRE = (GRID @ (23.5, 21.5, 19.5, 1))[:3]
ABOUT = translation(*CENTRE)
RIGID = translation(25, -40, 15) @ ABOUT @ rotation(70, (0.2, 0.9, 0.1)) @ np.linalg.inv(ABOUT)
SCALED = RIGID @ ABOUT @ np.diag([1.15, 1.15, 1.15, 1]) @ np.linalg.inv(ABOUT)
STRETCHED = RIGID @ ABOUT @ np.diag([1.1, 0.9, 1.05, 1]) @ np.linalg.inv(ABOUT)
APART = ABOUT @ rotation(6, (0.5, 0.1, 0.8)) @ translation(2.5, -2, 1.5) @ np.linalg.inv(ABOUT)


def phantom() -> np.ndarray:
    """A head of sorts: an ellipsoid with a sharp edge on a background of zeros, blobs of many sizes in it."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    radius = np.sqrt((grid**2 / np.array([0.75, 0.65, 0.7])[:, None, None, None] ** 2).sum(0))
    return ((300 + 0.7 * blobs(SHAPE, count=60)) * np.clip((1 - radius) * 10, 0, 1)).astype(np.float32)


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def rectangular(matrix: np.ndarray) -> np.ndarray:
    """The grid with perpendicular axes nearest to a sheared one, about the same centre."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    grid = np.eye(4)
    grid[:3, :3] = left @ right * spacing
    middle = np.array([23.5, 21.5, 19.5])
    grid[:3, 3] = matrix[:3, :3] @ middle + matrix[:3, 3] - grid[:3, :3] @ middle
    return grid


@pytest.mark.parametrize(
    ("fixedParent", "movingParent"),
    [(RIGID, None), (None, np.linalg.inv(RIGID)), (SCALED, STRETCHED)],
    ids=["fixed rigid", "moving rigid", "fixed scaled, moving stretched"],
)
def test_the_moving_volume_under_the_result_lies_on_the_fixed_one(scene, tmp_path, fixedParent, movingParent):
    """The moving volume shows in the world what the fixed one shows, moved by `APART`; so the truth is known."""
    fixedToWorld, movingToWorld = (np.eye(4) if p is None else p for p in (fixedParent, movingParent))
    truth = np.linalg.inv(movingToWorld) @ APART  # from the world of the fixed volume to the moving one's own
    fixed = makeVolume(phantom(), GRID, "Fixed")
    own = rectangular(truth @ fixedToWorld @ GRID)
    inWorld = grids.Grid(movingToWorld @ own, SHAPE[::-1])
    apart = vtkTransform(np.linalg.inv(APART))
    shown = grids.resample(fixed.GetImageData(), fixedToWorld @ GRID, inWorld, apart)
    moving = makeVolume(grids.arrayOf(shown), own, "Moving")
    for node, toParent in ((fixed, fixedParent), (moving, movingParent)):
        if toParent is not None:
            node.SetAndObserveTransformNodeID(makeLinearTransform(toParent).GetID())
    inputs = Inputs(fixed, moving)
    assert problems(inputs) == []

    request = exportInputs(inputs, str(tmp_path / "in"))
    assert ("initial_transform" in request) == (movingParent is not None)
    registration = register(**request, preset="any-anatomy", refine_iterations=0, threads=1)
    write_outputs(registration, tmp_path / "out")
    run = loadRun(str(tmp_path / "out"), inputs, Outputs(), "Run")

    index = np.random.default_rng(0).uniform(0.2, 0.8, (60, 3)) * (np.array(SHAPE[::-1]) - 1)
    seen = transformed(index, fixedToWorld @ GRID)
    expected = transformed(seen, truth)
    mapped = np.array([run.transform.GetTransformFromParent().TransformPoint(point) for point in seen])
    error = np.linalg.norm(mapped - expected, axis=1)
    assert error.mean() < 0.4 and error.max() < 0.8  # mm; a quarter, and half a voxel
    landmarks = makeFiducials(expected)  # in the moving volume's own coordinates, as a list under its parent is
    landmarks.SetAndObserveTransformNodeID(moving.GetTransformNodeID())
    assert run.transform.IsLinear()  # nothing was refined
    assert applyTo(run.transform, [landmarks, moving], harden=True, reference=fixed) == []
    assert np.abs(slicer.util.arrayFromMarkupsControlPoints(landmarks, world=True) - seen).max() < 0.8
    # Volume, on the fixed volume's grid in the world: it shows what the fixed one shows, and what the library warped.
    for volume in (moving, run.warped):
        np.testing.assert_allclose(grids.worldGrid(volume).matrix, fixedToWorld @ GRID, atol=1e-9)
    inside = (slice(8, -8),) * 3
    warped, wanted = slicer.util.arrayFromVolume(moving), phantom()
    assert np.abs(warped - slicer.util.arrayFromVolume(run.warped)).max() < 1e-3 * 1000
    assert np.corrcoef(warped[inside].ravel(), wanted[inside].ravel())[0, 1] > 0.99


def vtkTransform(matrix: np.ndarray) -> vtk.vtkTransform:
    transform = vtk.vtkTransform()
    transform.SetMatrix(matrixFromArray(matrix))
    return transform
