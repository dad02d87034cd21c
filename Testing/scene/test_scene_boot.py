"""The scene that the other tests stand on behaves as Slicer's own."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer_scene import (
    arrayFromMatrix,
    blobs,
    makeFiducials,
    makeGridTransform,
    makeLinearTransform,
    makeSegmentation,
    makeVolume,
    obliqueMatrix,
    rotation,
)


def test_a_volume_keeps_oblique_geometry_and_values(scene):
    volume = makeVolume(blobs(), obliqueMatrix())
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(arrayFromMatrix(matrix), obliqueMatrix(), atol=1e-9)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), blobs())


def test_the_subject_hierarchy_follows_the_nodes(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = hierarchy.GetNumberOfItems()
    volume = makeVolume(blobs())
    assert hierarchy.GetItemDataNode(hierarchy.GetItemByDataNode(volume)) is volume
    scene.RemoveNode(volume)
    assert hierarchy.GetNumberOfItems() == before


def test_a_grid_from_the_parent_displaces_parent_points(scene):
    matrix = obliqueMatrix()
    field = np.broadcast_to(np.array([3.0, -2.0, 1.0]), (6, 7, 8, 3))
    node = makeGridTransform(field, matrix)
    inside = matrix @ (3, 3, 3, 1)
    moved = np.array(node.GetTransformFromParent().TransformPoint(inside[:3]))
    np.testing.assert_allclose(moved - inside[:3], (3, -2, 1), atol=1e-6)


def test_a_list_under_a_linear_transform_moves_with_it(scene):
    node = makeFiducials(np.array([[10.0, 0, 0]]))
    node.SetAndObserveTransformNodeID(makeLinearTransform(rotation(90)).GetID())
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(node, world=True), [[0, 10, 0]], atol=1e-6)


def test_a_segmentation_has_one_segment_per_label(scene):
    labels = (blobs() > 300).astype(int) + (blobs() > 700)
    node = makeSegmentation(labels)
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 0


def test_scenes_start_empty(scene):
    for name in ("Volume", "Segmentation", "Markups", "Table"):  # slice views bring models and transforms
        assert scene.GetNumberOfNodesByClass(f"vtkMRML{name}Node") == 0, name
    assert scene.GetNumberOfNodesByClass("vtkMRMLColorNode") > 20


def test_errors_are_kept_for_the_test_to_see(scene, vtkErrors):
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    scene.AddNode(storage)
    storage.SetFileName("/nowhere/image.nrrd")
    assert not storage.ReadData(makeVolume(blobs()))
    assert any("/nowhere/image.nrrd" in message for message in vtkErrors)
    vtkErrors.clear()
