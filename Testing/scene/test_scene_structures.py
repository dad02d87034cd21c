"""Structures of a volume in the scene: where they are, what they are called, and a second search of the same volume."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import slicer
import structures_folder as folders
import vtk
from slicer_scene import blobs, makeLinearTransform, makeVolume, obliqueMatrix, saveAndRead, translation
from SpikeRegSlicerLib.display.structures_table import fillStructuresTable
from SpikeRegSlicerLib.scene import grids
from SpikeRegSlicerLib.scene.labelmaps import labelArray, segmentsOf, sharedNames
from SpikeRegSlicerLib.scene.structure_figures import StructureFigures, readFigures
from SpikeRegSlicerLib.scene.structures import CONTENT, contentOf, loadStructures, structuresOf

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.errors import InputError

pytestmark = pytest.mark.usefixtures("scene")
GRIDS = {
    "oblique": obliqueMatrix(),
    "left-handed": obliqueMatrix() @ np.diag([-1.0, 1, 1, 1]),
    "axes exchanged": obliqueMatrix()[:, [2, 0, 1, 3]],
    "straight": np.diag([1.0, 1.2, 1.4, 1]),
}


def volumeOn(grid: np.ndarray, name: str = "T1"):
    return makeVolume(blobs(folders.SHAPE), grid, name)


def load(folder: str, volume):
    return loadStructures(folder, volume, readFigures(f"{folder}/segmentation.json"))


def segment(node, name: str):
    return next(each for each in segmentsOf(node).values() if each.GetName() == name)


def centre(each) -> np.ndarray:
    """RAS mm of the middle of a segment's voxels, in the node's own coordinates."""
    image, matrix = each.GetRepresentation("Binary labelmap"), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    index = np.argwhere(grids.arrayOf(image) == each.GetLabelValue())[:, ::-1] + image.GetExtent()[::2]
    return (grids.toArray(matrix) @ [*index.mean(0), 1])[:3]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_structure_is_where_its_label_is_to_the_last_bit_of_the_volumes_grid(tmp_path, grid):
    volume = volumeOn(grid)
    node = load(folders.writeStructures(tmp_path / "a", grid), volume)
    assert len(segmentsOf(node)) == len(folders.BOXES) + 1
    for label, box in folders.BOXES.items():
        middle = [(part.start + part.stop - 1) / 2 for part in box][::-1]
        found = segment(node, STRUCTURES[label].name)
        np.testing.assert_allclose(centre(found), (grid @ [*middle, 1])[:3], rtol=0, atol=1e-9)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(
            node, node.GetSegmentation().GetSegmentIdBySegment(found), volume
        )
        np.testing.assert_array_equal(array > 0, folders.labelArray() == label)
    brain = segment(node, "brain")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(
        node, node.GetSegmentation().GetSegmentIdBySegment(brain), volume
    )
    np.testing.assert_array_equal(array, folders.maskArray())


def test_names_and_colours_are_the_librarys_and_a_label_it_does_not_know_is_left_out(tmp_path):
    labels = folders.labelArray()
    labels[0, 0, :5] = 99
    grid = obliqueMatrix()
    node = load(folders.writeStructures(tmp_path / "a", grid, labels), volumeOn(grid))
    found = {each.GetName(): each.GetColor() for each in segmentsOf(node).values()}
    assert list(found) == ["brain", "left cerebral cortex", "left hippocampus", "right hippocampus"]
    np.testing.assert_allclose(found["left hippocampus"], np.array((220, 216, 20)) / 255)
    assert node.GetName() == "T1 structures"
    assert [each.GetLabelValue() for each in segmentsOf(node).values()] == [1, 3, 17, 53]


def test_it_is_a_segmentation_on_the_volumes_grid_whose_brain_is_hidden(tmp_path):
    volume = volumeOn(obliqueMatrix())
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volume)
    assert node.GetSegmentation().GetSourceRepresentationName() == "Binary labelmap"
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    shown = {each.GetName(): node.GetDisplayNode().GetSegmentVisibility(key) for key, each in segmentsOf(node).items()}
    assert shown == {"left cerebral cortex": True, "left hippocampus": True, "right hippocampus": True, "brain": False}
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    homes = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(each)) for each in (node, volume)}
    assert len(homes) == 1


def test_as_labels_of_a_registration_no_structure_is_hidden_by_the_brain_around_it(tmp_path):
    volume = volumeOn(obliqueMatrix())
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volume)
    names = sharedNames(node, None)
    found = labelArray(node, grids.ownGrid(volume), np.eye(4), names)
    for label in folders.BOXES:
        (value,) = (value for value, name in names.items() if name == STRUCTURES[label].name)
        np.testing.assert_array_equal(found == value, folders.labelArray() == label)
    mask = labelArray(node, grids.ownGrid(volume), np.eye(4))
    np.testing.assert_array_equal(mask, folders.maskArray())


def test_it_lies_under_the_transform_of_its_volume_also_when_that_has_changed(tmp_path):
    volume, parent = volumeOn(obliqueMatrix()), makeLinearTransform(translation(5, -60, 7))
    folder = folders.writeStructures(tmp_path / "a", obliqueMatrix())
    volume.SetAndObserveTransformNodeID(parent.GetID())
    node = load(folder, volume)
    assert node.GetParentTransformNode() is parent
    middle = (obliqueMatrix() @ [9, 7.5, 5.5, 1])[:3]
    np.testing.assert_allclose(centre(segment(node, "left hippocampus")), middle, atol=1e-9)
    volume.SetAndObserveTransformNodeID(None)
    assert load(folder, volume) is node and node.GetParentTransformNode() is None


def test_a_volume_that_was_moved_meanwhile_does_not_take_the_structures_with_it(tmp_path):
    volume = volumeOn(obliqueMatrix(origin=(0, 0, 0)))
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volume)
    middle = (obliqueMatrix() @ [9, 7.5, 5.5, 1])[:3]
    np.testing.assert_allclose(centre(segment(node, "left hippocampus")), middle, atol=1e-4)


def test_a_second_search_brings_the_same_node_up_to_date_and_leaves_what_is_the_persons(tmp_path):
    volume = volumeOn(obliqueMatrix())
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volume)
    hippocampus, right = (segment(node, f"{side} hippocampus") for side in ("left", "right"))
    hippocampus.SetName("HC")
    hippocampus.SetColor(1, 0, 0)
    identity = node.GetSegmentation().GetSegmentIdBySegment(right)
    node.GetDisplayNode().SetSegmentVisibility(identity, False)
    mine = slicer.vtkSegment()
    mine.SetName("lesion")
    node.GetSegmentation().AddSegment(mine)
    node.CreateClosedSurfaceRepresentation()
    boxes = {17: folders.BOXES[3], 53: folders.BOXES[53], 10: folders.BOXES[17]}  # 3 is gone, 10 is new, 17 moved
    count = slicer.mrmlScene.GetNumberOfNodes()
    folder = folders.writeStructures(tmp_path / "b", obliqueMatrix(), folders.labelArray(boxes), brain_ml=7.0)
    assert load(folder, volume) is node and slicer.mrmlScene.GetNumberOfNodes() == count
    names = [each.GetName() for each in segmentsOf(node).values()]
    assert names == ["brain", "HC", "right hippocampus", "lesion", "left thalamus"]
    assert segment(node, "HC").GetColor() == (1, 0, 0) and not node.GetDisplayNode().GetSegmentVisibility(identity)
    middle = (obliqueMatrix() @ [25, 13, 16, 1])[:3]
    np.testing.assert_allclose(centre(segment(node, "HC")), middle, atol=1e-9)
    surface = segment(node, "HC").GetRepresentation("Closed surface")
    np.testing.assert_allclose(surface.GetCenter(), middle, atol=3)
    assert "7 ml" in node.GetDescription()


def test_structures_that_were_edited_stay_and_a_new_node_is_made(tmp_path):
    volume = volumeOn(obliqueMatrix())
    folder = folders.writeStructures(tmp_path / "a", obliqueMatrix())
    node = load(folder, volume)
    identity = node.GetSegmentation().GetSegmentIdBySegment(segment(node, "left hippocampus"))
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, volume)
    array[10, 10, 10] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, identity, volume)
    second = load(folder, volume)
    assert second is not node and second.GetName() == "T1 structures_1"
    assert slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, volume)[10, 10, 10] == 1
    assert structuresOf(volume) is second and load(folder, volume) is second


def test_another_volume_has_structures_of_its_own(tmp_path):
    folder = folders.writeStructures(tmp_path / "a", obliqueMatrix())
    one, other = (volumeOn(obliqueMatrix(), name) for name in ("One", "Other"))
    assert load(folder, one) is not load(folder, other)
    assert structuresOf(one).GetName() == "One structures" and structuresOf(other).GetName() == "Other structures"


def test_a_saved_segmentation_is_known_as_untouched(tmp_path):
    volume = volumeOn(obliqueMatrix())
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volume)
    before = node.GetAttribute(CONTENT)
    assert contentOf(node) == before
    saveAndRead(node, tmp_path / "structures.seg.nrrd")
    assert len(segmentsOf(node)) == 4 and contentOf(node) == before


@pytest.mark.parametrize("lost", ["labels.nii.gz", "brain_mask.nii.gz"])
def test_a_lost_file_is_named_and_the_scene_stays_as_it_was(tmp_path, lost):
    volume, folder = volumeOn(obliqueMatrix()), folders.writeStructures(tmp_path / "a", obliqueMatrix())
    (tmp_path / "a" / lost).unlink()
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError, match=lost):
        load(folder, volume)
    assert slicer.mrmlScene.GetNumberOfNodes() == count and structuresOf(volume) is None


def test_nothing_depends_on_the_folder_afterwards(tmp_path):
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix()), volumeOn(obliqueMatrix()))
    shutil.rmtree(tmp_path / "a")
    assert node.GetStorageNode() is None and len(segmentsOf(node)) == 4


def test_an_image_without_structures_gives_a_segmentation_of_the_brain_alone(tmp_path):
    empty = np.zeros(folders.SHAPE, np.int16)
    node = load(folders.writeStructures(tmp_path / "a", obliqueMatrix(), empty), volumeOn(obliqueMatrix()))
    assert [each.GetName() for each in segmentsOf(node).values()] == ["brain"]
    assert contentOf(node) == node.GetAttribute(CONTENT)


def test_the_table_has_the_whole_first_and_names_of_the_library(tmp_path):
    folder = folders.writeStructures(tmp_path / "a", obliqueMatrix())
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    figures = readFigures(f"{folder}/segmentation.json")
    for _ in range(2):  # filled anew, not twice as long
        fillStructuresTable(table, figures)
    rows = [[table.GetTable().GetValue(row, column).ToString() for column in range(3)] for row in range(4)]
    assert rows == [
        ["brain with CSF", "1234.5", "0.75"],
        ["left cerebral cortex", "0.3", "0.03"],
        ["left hippocampus", "1.7", "0.17"],
        ["right hippocampus", "5.3", "0.53"],
    ]
    assert table.GetNumberOfRows() == 4 and table.GetNumberOfColumns() == 3 and table.GetLocked()
    fillStructuresTable(table, StructureFigures())
    assert np.isnan(table.GetTable().GetValue(0, 1).ToDouble())


def test_warnings_are_lines_below_the_figures(tmp_path):
    folder = folders.writeStructures(tmp_path / "a", obliqueMatrix(), warnings=["the field of view cuts\n the brain"])
    figures = readFigures(f"{folder}/segmentation.json", str.upper)
    assert figures.summary.split("\n") == [
        "3 structures  ·  brain with CSF 1,234 ml  ·  confidence 0.75",
        "THE FIELD OF VIEW CUTS THE BRAIN",
    ]


@pytest.mark.parametrize(
    "found",
    [
        [], "text", 7, None, {}, {"structures": {"label": 3}, "warnings": "none", "brain_ml": "12", "confidence": True},
        {"structures": [7, {"label": 99, "ml": 1.0}, {"label": "3"}, {"label": 3.0}, {"label": True}, {}]},
        {"structures": [{"label": [3]}, {"label": None}], "warnings": [7, None, ["x"]]},
    ],
    ids=lambda found: json.dumps(found)[:30],
)  # fmt: skip
def test_figures_of_another_shape_are_no_figures(tmp_path, found):
    (tmp_path / "segmentation.json").write_text(json.dumps(found))
    assert readFigures(str(tmp_path / "segmentation.json")) == StructureFigures()


def test_numbers_that_are_none_are_left_out_and_a_broken_file_is_named(tmp_path):
    path = tmp_path / "segmentation.json"
    path.write_text('{"brain_ml": NaN, "confidence": 1e999, "structures": [{"label": 3, "ml": -Infinity}]}')
    assert readFigures(str(path)) == StructureFigures(structures={3: (None, None)})
    for text in ("{", "[" * 100000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"segmentation\.json: cannot be read"):
            readFigures(str(path))
