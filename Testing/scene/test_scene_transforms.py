"""A result's transform node is the map of the library's file: against SimpleITK, on an oblique anisotropic pair."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from run_folder import FLIP, affine, itkImage
from slicer_scene import blobs, makeFiducials, makeLinearTransform, makeVolume
from small_pair import FIXED, MOVING, SHAPE, smallTransform
from SpikeRegSlicerLib.scene import transforms
from SpikeRegSlicerLib.scene.apply import applyTo

from SpikeRegLib.errors import InputError


@pytest.fixture
def transformFile(tmp_path):
    path = tmp_path / "transform.h5"
    sitk.WriteTransform(smallTransform(), str(path))
    return path


@pytest.fixture
def node(scene, transformFile):
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Result")
    transforms.setTransform(node, transforms.readTransform(str(transformFile)))
    return node


def fixedPoints(count: int = 300) -> np.ndarray:
    """[N, 3] RAS, all over the fixed grid."""
    index = np.random.default_rng(1).uniform(0, 1, (count, 3)) * (np.array(SHAPE[::-1]) - 1)
    return index @ FIXED[:3, :3].T + FIXED[:3, 3]


def byItk(path, points: np.ndarray) -> np.ndarray:
    transform, flip = sitk.ReadTransform(str(path)), FLIP[:3, :3]
    return np.array([transform.TransformPoint((flip @ point).tolist()) for point in points]) @ flip


def test_points_go_where_itk_sends_them(node, transformFile):
    points = fixedPoints()
    mapped = np.array([node.GetTransformFromParent().TransformPoint(point) for point in points])
    assert np.abs(byItk(transformFile, points) - points).max() > 3  # mm: it is not the identity
    assert np.abs(mapped - byItk(transformFile, points)).max() < 1e-4


def test_a_moving_landmark_under_the_node_lands_on_its_fixed_point(node, transformFile):
    points = fixedPoints(100)
    landmarks = makeFiducials(byItk(transformFile, points))
    landmarks.SetAndObserveTransformNodeID(node.GetID())
    assert np.abs(slicer.util.arrayFromMarkupsControlPoints(landmarks, world=True) - points).max() < 0.01


def test_a_moving_volume_hardened_by_the_node_is_what_itk_resamples(node, transformFile):
    fixed, moving = makeVolume(blobs(SHAPE), FIXED, "fixed"), makeVolume(blobs(SHAPE, seed=3), MOVING, "moving")
    transforms.setPair(node, fixed, moving)
    expected = sitk.Resample(
        itkImage(blobs(SHAPE, seed=3), MOVING),
        itkImage(blobs(SHAPE), FIXED),
        sitk.ReadTransform(str(transformFile)),
        sitk.sitkLinear,
    )
    assert applyTo(node, [moving], harden=True) == []
    warped = slicer.util.arrayFromVolume(moving)
    difference = np.abs(warped - sitk.GetArrayFromImage(expected))
    inside = np.abs(sitk.GetArrayFromImage(expected)) > 0
    assert inside.mean() > 0.2
    assert difference.max() < 1e-3 * 1000


@pytest.mark.parametrize("linear", [affine(), sitk.CompositeTransform([affine(), affine(1)])], ids=["affine", "chain"])
def test_a_linear_result_is_a_linear_transform(scene, tmp_path, linear):
    sitk.WriteTransform(linear, str(tmp_path / "linear.h5"))
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transforms.setTransform(node, transforms.readTransform(str(tmp_path / "linear.h5")))
    assert node.IsLinear() and node.GetTransformToParent().IsA("vtkTransform")
    points = fixedPoints(20)
    mapped = np.array([node.GetTransformFromParent().TransformPoint(point) for point in points])
    np.testing.assert_allclose(mapped, byItk(tmp_path / "linear.h5", points), atol=1e-9)


def test_a_node_is_filled_in_place_and_freed_of_its_parent(scene, transformFile):
    node, parent = makeLinearTransform(np.diag([2.0, 2, 2, 1])), makeLinearTransform(np.eye(4))
    node.SetAndObserveTransformNodeID(parent.GetID())
    identifier = node.GetID()
    transforms.setTransform(node, transforms.readTransform(str(transformFile)))
    assert node.GetID() == identifier and node.GetParentTransformNode() is None
    assert not node.IsLinear()


def test_an_unreadable_file_is_named(scene, tmp_path, vtkErrors):
    (tmp_path / "broken.h5").write_bytes(b"not a transform")
    for name, text in (("broken.h5", "cannot be read"), ("missing.h5", "did not write it")):
        with pytest.raises(InputError, match=text):
            transforms.readTransform(str(tmp_path / name))
    vtkErrors.clear()


def test_interpolation_is_made_linear_again(node, transformFile, tmp_path):
    """A scene's reader leaves displacement grids cubic."""
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(transformFile))
    storage.ReadData(node)
    points = fixedPoints()
    expected = byItk(transformFile, points)
    cubic = np.array([node.GetTransformFromParent().TransformPoint(point) for point in points])
    assert np.abs(cubic - expected).max() > 0.01
    transforms.restoreInterpolation(node)
    linear = np.array([node.GetTransformFromParent().TransformPoint(point) for point in points])
    assert np.abs(linear - expected).max() < 1e-4


def test_the_pair_is_referenced(node):
    fixed, moving = makeVolume(blobs()), makeVolume(blobs())
    transforms.setPair(node, fixed, moving)
    assert transforms.fixedOf(node) is fixed and transforms.movingOf(node) is moving
    assert node.GetNodeReferenceID(node.GetFixedNodeReferenceRole()) == fixed.GetID()
