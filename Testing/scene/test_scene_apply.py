"""Other nodes taken along by a result, in both directions, hardened and not, and the review that is kept with it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import torch
import vtk
from run_folder import FLIP, itkImage
from slicer_scene import (
    blobs,
    makeFiducials,
    makeLinearTransform,
    makeSegmentation,
    makeVolume,
    rotation,
    translation,
)
from small_pair import FIXED, LABELS, MOVING, SHAPE, smallTransform
from SpikeRegSlicerLib.scene import grids, review, transforms
from SpikeRegSlicerLib.scene.apply import applyTo

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, background_value

PARENT = translation(6, -3, 12) @ rotation(25, (0.1, 0.9, 0.3)) @ np.diag([1.1, 0.95, 1, 1])
POINTS = np.random.default_rng(1).uniform(8, 16, (40, 3)) @ FIXED[:3, :3].T + FIXED[:3, 3]


@pytest.fixture
def itk():
    return smallTransform()


@pytest.fixture
def pair(scene):
    return makeVolume(blobs(SHAPE), FIXED, "Fixed"), makeVolume(blobs(SHAPE, seed=3), MOVING, "Moving")


@pytest.fixture
def node(scene, pair, itk, tmp_path):
    sitk.WriteTransform(itk, str(tmp_path / "transform.h5"))
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Result")
    transforms.setTransform(node, transforms.readTransform(str(tmp_path / "transform.h5")))
    transforms.setPair(node, *pair)
    return node


def toMoving(itk, points: np.ndarray) -> np.ndarray:
    flip = FLIP[:3, :3]
    return np.array([itk.TransformPoint((flip @ point).tolist()) for point in points]) @ flip


def world(landmarks) -> np.ndarray:
    return slicer.util.arrayFromMarkupsControlPoints(landmarks, world=True)


@pytest.mark.parametrize("harden", [False, True], ids=["placed", "hardened"])
def test_points_of_the_moving_space_come_to_the_fixed_space_and_back(node, itk, harden):
    there, here = makeFiducials(toMoving(itk, POINTS)), makeFiducials(POINTS)
    assert applyTo(node, [there], harden=harden) == []
    assert np.abs(world(there) - POINTS).max() < 0.01
    assert applyTo(node, [here], inverse=True, harden=harden) == []
    assert np.abs(world(here) - toMoving(itk, POINTS)).max() < 0.01
    for landmarks in (there, here):
        assert (landmarks.GetParentTransformNode() is None) == harden


def test_a_model_goes_with_its_points(node, itk, scene):
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*toMoving(itk, POINTS[:1])[0])
    sphere.SetRadius(3)
    sphere.Update()
    model = scene.AddNewNodeByClass("vtkMRMLModelNode")
    model.SetAndObservePolyData(sphere.GetOutput())
    before = slicer.util.arrayFromModelPoints(model).copy()
    assert applyTo(node, [model], harden=True) == []
    back = toMoving(itk, slicer.util.arrayFromModelPoints(model).astype(float))
    assert np.abs(back - before).max() < 0.01


@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
def test_volumes_and_label_maps_are_resampled_as_itk_does(node, itk, pair, inverse):
    """Label maps take the nearest voxel: no value appears that was not there."""
    source, target = (FIXED, MOVING) if inverse else (MOVING, FIXED)
    image, labels = makeVolume(blobs(SHAPE, seed=5), source), makeVolume(LABELS, source, labels=True)
    assert applyTo(node, [image, labels], inverse=inverse, harden=True) == []
    for volume in (image, labels):
        np.testing.assert_allclose(grids.worldGrid(volume).matrix, target, atol=1e-9)
    reference = itkImage(np.zeros(SHAPE, np.float32), target)
    if inverse:  # ITK has no inverse of a field at hand: go forth again instead, through both resamplings
        centre = (slice(9, -9),) * 3
        resampled = itkImage(slicer.util.arrayFromVolume(image), MOVING)
        again = sitk.Resample(resampled, itkImage(np.zeros(SHAPE, np.float32), FIXED), itk, sitk.sitkLinear)
        returned, before = sitk.GetArrayFromImage(again)[centre], blobs(SHAPE, seed=5)[centre]
        assert np.corrcoef(returned.ravel(), before.ravel())[0, 1] > 0.98
        return
    expected = sitk.Resample(itkImage(blobs(SHAPE, seed=5), source), reference, itk, sitk.sitkLinear)
    assert np.abs(slicer.util.arrayFromVolume(image) - sitk.GetArrayFromImage(expected)).max() < 1e-3 * 1000
    nearest = sitk.Resample(itkImage(LABELS, source), reference, itk, sitk.sitkNearestNeighbor)
    values = slicer.util.arrayFromVolume(labels)
    assert set(np.unique(values)) == {0, 1, 2}
    assert (values != sitk.GetArrayFromImage(nearest)).mean() < 1e-4  # half-way points may round either way


def test_beyond_its_edges_an_image_has_its_background_as_slicer_hardens(node, itk, scene):
    """The library's rule is Slicer's own: the fourth of the eight corners by value."""
    ct = blobs(SHAPE, seed=5) - 1024
    corners = np.ix_(*[(0, -1)] * 3)
    ct[corners] = np.random.default_rng(0).permutation(8).reshape(2, 2, 2) - 1024
    image, labels = makeVolume(ct, MOVING), makeVolume(LABELS + 1, MOVING, labels=True)
    background = image.GetImageBackgroundScalarComponentAsDouble(0)
    assert background == -1021 == background_value(Volume(torch.from_numpy(ct), Frame(ct.shape)))
    assert applyTo(node, [image, labels], harden=True) == []
    fixed = itkImage(np.zeros(SHAPE, np.float32), FIXED)
    expected = sitk.GetArrayFromImage(sitk.Resample(itkImage(ct, MOVING), fixed, itk, sitk.sitkLinear, background))
    outside = sitk.GetArrayFromImage(
        sitk.Resample(itkImage(np.ones(SHAPE, np.float32), MOVING), fixed, itk, sitk.sitkNearestNeighbor, 0)
    )
    assert (outside == 0).sum() > 100
    assert np.abs(slicer.util.arrayFromVolume(image) - expected)[outside == 0].max() < 1e-3
    assert (slicer.util.arrayFromVolume(labels)[outside == 0] == 0).mean() > 0.99  # half-way points round either way


@pytest.mark.parametrize("parent", [None, PARENT], ids=["loose", "under a parent"])
def test_a_segmentation_is_resampled_once_as_its_label_map(node, itk, pair, parent):
    segmentation = makeSegmentation(LABELS, MOVING)
    if parent is not None:
        for under in (segmentation, pair[1]):
            under.SetAndObserveTransformNodeID(makeLinearTransform(parent).GetID())
        transforms.setPair(node, *pair)
    assert applyTo(node, [segmentation], harden=True) == []
    fixed = itkImage(np.zeros(SHAPE, np.float32), FIXED)
    expected = sitk.GetArrayFromImage(sitk.Resample(itkImage(LABELS, MOVING), fixed, itk, sitk.sitkNearestNeighbor))
    assert segmentation.GetParentTransformNode() is None
    for number in (0, 1):
        identifier = segmentation.GetSegmentation().GetNthSegmentID(number)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, pair[0]) > 0
        assert (mask != (expected == number + 1)).mean() < 1e-4


def test_overlapping_segments_stay_so(node, itk, pair):
    segmentation = makeSegmentation((LABELS > 0).astype(int), MOVING)
    inner = slicer.vtkOrientedImageData()
    outer = segmentation.GetSegmentation().GetNthSegmentID(0)
    segmentation.GetBinaryLabelmapRepresentation(outer, inner)
    segmentation.AddSegmentFromBinaryLabelmapRepresentation(inner, "the same again")
    assert applyTo(node, [segmentation], harden=True) == []
    ids = [segmentation.GetSegmentation().GetNthSegmentID(number) for number in (0, 1)]
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, pair[0]) for identifier in ids]
    assert masks[0].sum() > 500
    np.testing.assert_array_equal(masks[0], masks[1])


def test_without_hardening_a_volume_keeps_its_voxels(node, pair):
    moving = pair[1]
    assert applyTo(node, [moving]) == []
    assert moving.GetParentTransformNode() is node
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(moving), blobs(SHAPE, seed=3))


def test_another_reference_gives_another_grid(node, itk):
    image, grid = makeVolume(blobs(SHAPE, seed=5), MOVING), FIXED @ np.diag([0.7, 0.8, 0.6, 1])
    reference = makeVolume(np.ones((20, 16, 12)), grid)
    assert applyTo(node, [image], harden=True, reference=reference) == []
    wanted = sitk.Resample(itkImage(blobs(SHAPE, seed=5), MOVING), itkImage(np.ones((20, 16, 12)), grid), itk)
    assert np.abs(slicer.util.arrayFromVolume(image) - sitk.GetArrayFromImage(wanted)).max() < 1e-3 * 1000


def test_nodes_go_along_as_they_are_seen(node, itk, pair, scene):
    """The moving volume stood under a parent when the result was loaded: what lay on it then lies on the fixed one."""
    fixed, moving = pair
    parent = makeLinearTransform(PARENT, "Parent")
    moving.SetAndObserveTransformNodeID(parent.GetID())
    transforms.setPair(node, fixed, moving)
    own = toMoving(itk, POINTS)
    sharing, loose = makeFiducials(own), makeFiducials(own @ PARENT[:3, :3].T + PARENT[:3, 3])
    sharing.SetAndObserveTransformNodeID(parent.GetID())
    assert applyTo(node, [moving]) == []  # and has another parent since
    assert applyTo(node, [sharing, loose]) == []
    assert sharing.GetParentTransformNode() is node
    for landmarks in (sharing, loose):
        assert np.abs(world(landmarks) - POINTS).max() < 0.01
    back = makeFiducials(POINTS)
    assert applyTo(node, [back], inverse=True) == []
    assert np.abs(world(back) - (own @ PARENT[:3, :3].T + PARENT[:3, 3])).max() < 0.01
    image = makeVolume(blobs(SHAPE, seed=5), FIXED)
    assert applyTo(node, [image], inverse=True, harden=True) == []
    np.testing.assert_allclose(grids.worldGrid(image).matrix, PARENT @ MOVING, atol=1e-9)


def test_the_inverse_follows_a_new_result(node, itk, tmp_path):
    landmarks = makeFiducials(POINTS)
    applyTo(node, [landmarks], inverse=True)
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    sitk.WriteTransform(shift, str(tmp_path / "shift.tfm"))
    transforms.setTransform(node, transforms.readTransform(str(tmp_path / "shift.tfm")))
    transforms.setPair(node, None, None)
    np.testing.assert_allclose(world(landmarks), POINTS + (-1, -2, 3), atol=1e-9)


def test_a_linear_result_moves_a_volume_without_resampling(scene, pair):
    node = makeLinearTransform(PARENT)
    transforms.setPair(node, *pair)
    assert applyTo(node, [pair[1]], harden=True) == []
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(pair[1]), blobs(SHAPE, seed=3))
    np.testing.assert_allclose(grids.worldGrid(pair[1]).matrix, PARENT @ MOVING, atol=1e-9)


def test_what_cannot_go_along_is_named_and_the_rest_goes(node, scene, itk):
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "Table")
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    bent, done, landmarks = makeFiducials(POINTS, "Bent"), makeFiducials(POINTS, "Done"), makeFiducials(POINTS)
    applyTo(node, [done])
    bend = transforms.inverseNode(node)
    bent.SetAndObserveTransformNodeID(bend.GetID())
    left = applyTo(node, [node, table, empty, bent, done, landmarks])
    assert [reason.split(";")[0] for reason in left] == [
        '"Result" cannot be transformed',
        '"Table" cannot be transformed',
        '"Empty" has no data',
        '"Bent" is under the non-linear transform "Result inverse"',
        '"Done" is under "Result" already',
    ]
    assert landmarks.GetParentTransformNode() is node


def test_a_review_is_kept_word_for_word(node):
    assert review.review(node) is None
    note = 'left "ventricle": off by 2 mm;\nsee slice 12 <here> & 50 % – naïve 日本'
    review.setReview(node, "rejected", "Dr. Ø", note)
    found = review.review(node)
    assert (found["decision"], found["reviewer"], found["note"]) == ("rejected", "Dr. Ø", note)
    review.setReview(node, "accepted", "x")
    assert review.review(node)["decision"] == "accepted"
    with pytest.raises(ValueError, match="maybe"):
        review.setReview(node, "maybe", "x")
    review.clearReview(node)
    assert review.review(node) is None
