"""Look, change, run again: what an earlier run of the same pair did to a node is no part of the next one's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from slicer_scene import (
    blobs,
    makeFiducials,
    makeGridTransform,
    makeLinearTransform,
    makeSegmentation,
    makeVolume,
    obliqueMatrix,
    rotation,
    translation,
)
from SpikeRegSlicerLib.scene import transforms
from SpikeRegSlicerLib.scene.apply import applyTo
from SpikeRegSlicerLib.scene.export import exportInputs
from SpikeRegSlicerLib.scene.hierarchy import RunFolder
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.problems import outputProblems, problems
from SpikeRegSlicerLib.scene.undo import History

pytestmark = pytest.mark.usefixtures("scene")
GRID = obliqueMatrix()
LINEAR = translation(300, -20, 5) @ rotation(10, (0.2, 0.9, 0.1))


@pytest.fixture(params=[None, LINEAR], ids=["no parent", "a linear parent"])
def inputs(request) -> Inputs:
    """A pair with everything that may come with it, the moving side where a linear transform puts it."""
    inside = [(GRID @ (9, 9, 9 + n, 1))[:3] for n in range(3)]
    made = Inputs(
        fixed=makeVolume(blobs(), name="Fixed"),
        moving=makeVolume(blobs(seed=1), name="Moving"),
        moving_mask=makeSegmentation(blobs() > 100, name="Mask"),
        fixed_labels=makeSegmentation(blobs() > 200, name="Fixed labels"),
        moving_labels=makeVolume((blobs() > 200).astype("i2"), name="Moving labels", labels=True),
        fixed_points=makeFiducials(inside, "Fixed points"),
        moving_points=makeFiducials(inside, "Moving points"),
    )
    if request.param is not None:
        placed = makeLinearTransform(request.param, "Placed")
        for node in movingSide(made):
            node.SetAndObserveTransformNodeID(placed.GetID())
    assert problems(made) == []
    return made


def movingSide(inputs: Inputs) -> list:
    return [inputs.moving, inputs.moving_mask, inputs.moving_labels, inputs.moving_points]


def runOf(inputs: Inputs, name: str = "Run", size: float = 3.0):
    """The transform node of a run of the pair, whose map is not linear."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    RunFolder(name).add(node, "transform")
    fill(node, inputs, size)
    return node


def fill(node, inputs: Inputs, size: float) -> None:
    """As a run does that ends."""
    field = size * np.random.default_rng(0).random((5, 5, 5, 3))
    bent = makeGridTransform(field, np.diag([30.0, 30, 30, 1]), "Bend")
    general = vtk.vtkGeneralTransform()  # as it is read from a file
    general.Concatenate(bent.GetTransformFromParent())
    transforms.setTransform(node, general)
    transforms.setPair(node, inputs.fixed, inputs.moving)


def exported(inputs: Inputs, folder: Path) -> dict[str, bytes | bool]:
    """What the worker is given: each file's content."""
    request = exportInputs(inputs, str(folder))
    return {key: Path(value).read_bytes() if isinstance(value, str) else value for key, value in request.items()}


def test_a_second_run_reads_what_the_first_one_read(inputs, tmp_path):
    before = exported(inputs, tmp_path / "before")
    run = runOf(inputs)
    assert applyTo(run, movingSide(inputs)) == []
    assert problems(inputs) == [] and outputProblems(inputs, run, None) == []
    assert exported(inputs, tmp_path / "after") == before


def test_nodes_that_were_not_brought_along_still_fit(inputs, tmp_path):
    before = exported(inputs, tmp_path / "before")
    assert applyTo(runOf(inputs), [inputs.moving, inputs.moving_points]) == []
    assert problems(inputs) == [] and exported(inputs, tmp_path / "after") == before


def test_the_fixed_side_under_the_inverse_stands_where_it_stood(inputs, tmp_path):
    before = exported(inputs, tmp_path / "before")
    fixedSide = [inputs.fixed, inputs.fixed_labels, inputs.fixed_points]
    assert applyTo(runOf(inputs), fixedSide, inverse=True) == []
    assert problems(inputs) == [] and exported(inputs, tmp_path / "after") == before


def test_run_again_into_the_same_node_and_undo_both_ways_round(inputs, tmp_path):
    before, history = exported(inputs, tmp_path / "before"), History()
    run = runOf(inputs)
    applyTo(run, movingSide(inputs))
    stood, point = transforms.movingToWorld(run), (12.0, 30.0, 20.0)
    first = run.GetTransformFromParent().TransformPoint(point)
    history.remember(run)
    fill(run, inputs, size=9.0)
    assert np.allclose(transforms.movingToWorld(run), stood, atol=1e-12)
    assert problems(inputs) == [] and exported(inputs, tmp_path / "again") == before
    assert np.linalg.norm(np.subtract(run.GetTransformFromParent().TransformPoint(point), first)) > 1
    assert history.undo(run)
    assert np.allclose(run.GetTransformFromParent().TransformPoint(point), first, atol=1e-6)
    assert problems(inputs) == [] and exported(inputs, tmp_path / "undone") == before


def test_the_result_of_the_second_run_replaces_that_of_the_first_above_a_node(inputs):
    first = runOf(inputs)
    applyTo(first, movingSide(inputs))
    second = runOf(inputs, "Second", size=9.0)
    assert applyTo(second, movingSide(inputs)) == []
    alone = makeFiducials([list(inputs.moving_points.GetNthControlPointPosition(n)) for n in range(3)], "Alone")
    placed = slicer.mrmlScene.GetFirstNodeByName("Placed")
    alone.SetAndObserveTransformNodeID(placed.GetID() if placed else None)
    applyTo(second, [alone])
    for number in range(3):
        expected = alone.GetNthControlPointPositionWorld(number)
        assert np.allclose(inputs.moving_points.GetNthControlPointPositionWorld(number), expected, atol=1e-4)


def test_what_another_pair_left_above_a_node_still_counts(inputs):
    other = Inputs(fixed=makeVolume(blobs(seed=5), name="Other"), moving=inputs.moving)
    run = runOf(other)
    applyTo(run, [inputs.moving])
    assert any("non-linear transform" in text for text in problems(inputs))
    assert any("is under the output transform" in text for text in outputProblems(inputs, run, None))
    assert applyTo(runOf(inputs, "Mine"), [inputs.moving])[0].startswith('"Moving" is under the non-linear transform')


def test_a_node_that_was_taken_to_the_other_side_is_not_taken_for_one_of_this_side(inputs):
    run = runOf(inputs)
    applyTo(run, [inputs.moving_points])
    assert "non-linear" in applyTo(runOf(inputs, "Second"), [inputs.moving_points], inverse=True)[0]
