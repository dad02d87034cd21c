"""Every input that cannot be used is named, with what to do about it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicer_scene import (
    blobs,
    makeFiducials,
    makeGridTransform,
    makeLinearTransform,
    makeRoi,
    makeSegmentation,
    makeVolume,
    obliqueMatrix,
    rotation,
    translation,
)
from small_pair import CENTRE, FIXED, LABELS, SHAPE, makePair
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.problems import outputProblems, problems


@pytest.fixture
def pair(scene):
    return makePair(FIXED)


def one(inputs: Inputs) -> str:
    """The only problem there is."""
    (problem,) = problems(inputs)
    assert problem.endswith(".")
    return problem


def under(node, transform):
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def nonLinear():
    return makeGridTransform(np.ones((4, 4, 4, 3)), np.diag([20.0, 20, 20, 1]), name="Warp")


def test_a_complete_set_can_run(pair):
    pair.fixed_mask = makeSegmentation(LABELS)
    pair.moving_mask = makeVolume(LABELS.astype(np.int16), labels=True)
    pair.fixed_labels = pair.moving_labels = makeSegmentation(LABELS)
    pair.initial_transform = nonLinear()
    pair.fixed_points, pair.moving_points = makeFiducials(CENTRE[None]), makeFiducials(CENTRE[None] + 1)
    pair.region = makeRoi(CENTRE, (20, 20, 20))
    for node in (pair.fixed, pair.moving, pair.fixed_mask):
        under(node, makeLinearTransform(rotation(3)))
    pair.fixed_points.SetAndObserveTransformNodeID(pair.fixed.GetTransformNodeID())
    assert problems(pair) == []


def test_missing_volumes_are_asked_for(scene):
    assert [p.split(" is chosen")[0] for p in problems(Inputs())] == ["No fixed volume", "No moving volume"]


def test_the_same_volume_twice(pair):
    pair.moving = pair.fixed
    assert one(pair) == '"Fixed" is both fixed and moving; choose another volume as one of the two.'


def test_a_node_that_left_the_scene(pair, scene):
    scene.RemoveNode(pair.moving)
    assert one(pair).startswith('"Moving" is no longer in the scene')


def test_a_volume_without_data(pair, scene):
    pair.fixed = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    assert '"Empty" has no data; load' in one(pair)


def test_a_colour_volume(pair):
    colours = slicer.util.addVolumeFromArray(
        np.zeros((*SHAPE, 3), np.uint8), np.eye(4), "Photo", "vtkMRMLVectorVolumeNode"
    )
    pair.moving = colours
    assert '"Photo" has 3 components' in one(pair) and "Vector to Scalar Volume" in one(pair)


def test_a_label_map_as_image(pair):
    pair.moving = makeVolume(LABELS.astype(np.int16), name="Labels", labels=True)
    assert '"Labels" is a label map' in one(pair)


def test_a_frame_of_a_sequence(pair, scene):
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    sequence.SetDataNodeAtValue(pair.moving, "0")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(pair.moving, sequence, False)
    assert '"Moving" is the current frame of the sequence "Cine"' in one(pair) and "clone" in one(pair)


def test_thin_and_constant_volumes(pair):
    pair.fixed = makeVolume(blobs((5, 30, 36)), name="Slab")
    assert '"Slab" has 36 x 30 x 5 voxels' in one(pair)
    pair.fixed = makeVolume(np.zeros(SHAPE, np.float32), name="Blank")
    assert '"Blank" has the same value everywhere' in one(pair)


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_non_linear_parent(pair, role):
    under(getattr(pair, role), nonLinear())
    assert f'"{role.capitalize()}" is under the non-linear transform "Warp"; harden it' in one(pair)


def test_a_sheared_grid(pair):
    """Scaling an oblique grid along one axis shears it, which image files cannot hold; the moving side may."""
    stretched = makeLinearTransform(np.diag([1.0, 1, 1.4, 1]), "Stretch")
    under(pair.moving, stretched)
    assert problems(pair) == []
    under(pair.fixed, stretched)
    assert '"Fixed" is sheared by its transform "Stretch"; resample' in one(pair)


@pytest.mark.parametrize(
    "what",
    ["fixed_mask", "moving_mask", "fixed_leave_out", "moving_leave_out", "fixed_labels", "moving_labels"],
)
def test_empty_labels(pair, what, scene):
    pair.fixed_labels = pair.moving_labels = makeSegmentation(LABELS)
    for empty in (
        scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Nothing"),
        makeVolume(np.zeros(SHAPE, np.int16), name="Nothing", labels=True),
    ):
        setattr(pair, what, empty)
        assert '"Nothing" is empty; paint' in one(pair)


def test_a_segmentation_of_another_subject(pair):
    pair.fixed_mask = makeSegmentation(LABELS, translation(400, 0, 0) @ obliqueMatrix(), name="Other")
    assert 'mask "Other" lies outside volume "Fixed"' in one(pair)


def test_a_segmentation_left_behind_by_its_volume(pair):
    pair.moving_mask = makeSegmentation(LABELS, name="Left")
    under(pair.moving, makeLinearTransform(translation(300, 0, 0)))
    assert '"Left" lies outside volume "Moving"; choose the one drawn on it, or put both under the same' in one(pair)


def test_segmentations_that_do_not_pair(pair):
    pair.fixed_labels, pair.moving_labels = makeSegmentation(LABELS > 0, name="A"), None
    assert '"A" has no counterpart' in one(pair)
    pair.moving_labels = makeSegmentation(LABELS > 0, name="B")
    pair.moving_labels.GetSegmentation().GetNthSegment(0).SetName("Elsewhere")
    assert '"A" and "B" have no segment of the same name' in one(pair)


def test_an_inverse_as_initial_transform(pair):
    pair.initial_transform = makeGridTransform(np.ones((4, 4, 4, 3)), np.eye(4), name="Back", fromParent=False)
    assert '"Back" is the inverse of a non-linear one' in one(pair)


def test_landmarks_that_do_not_pair(pair):
    points = CENTRE + np.arange(6).reshape(2, 3)
    pair.fixed_points = makeFiducials(points, "A")
    assert '"A" has no counterpart; choose the moving landmarks too' in one(pair)
    pair.moving_points = pair.fixed_points
    assert '"A" is both fixed and moving landmarks' in one(pair)
    pair.moving_points = makeFiducials(points[:1], "B")
    assert '"A" has 2 points but "B" has 1' in one(pair)
    pair.moving_points.RemoveAllControlPoints()
    assert '"B" has no points' in one(pair)


def test_landmarks_not_placed_or_astray(pair):
    pair.fixed_points, pair.moving_points = makeFiducials(CENTRE[None], "A"), makeFiducials(CENTRE[None], "B")
    pair.moving_points.SetNthControlPointPosition(0, 500, 0, 0)
    assert 'Point 1 of "B" lies outside volume "Moving"' in one(pair)
    pair.moving_points.UnsetNthControlPointPosition(0)
    assert 'Point 1 of "B" is not placed' in one(pair)


def test_regions_without_voxels(pair, scene):
    pair.region = makeRoi((500, 0, 0), (10, 10, 10), "Far")
    assert '"Far" holds no voxel of volume "Fixed"' in one(pair)
    pair.region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Undrawn")
    assert '"Undrawn" has no size' in one(pair)


def test_outputs_must_not_be_inputs(pair):
    transform = makeLinearTransform(np.eye(4), "T")
    assert outputProblems(pair, transform, makeVolume(blobs(SHAPE))) == []
    assert 'overwrite the input "Moving"' in outputProblems(pair, transform, pair.moving)[0]
    under(pair.moving, transform)
    assert '"Moving" is under the output transform "T"' in outputProblems(pair, transform, None)[0]
    pair.initial_transform = transform
    assert any("both initial transform and output" in p for p in outputProblems(pair, transform, None))
