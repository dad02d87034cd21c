"""A run's folder as nodes: where they belong, in order, found again, undone, and gone without a trace."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from run_folder import LAYERS
from slicer_scene import (
    ROOT,
    blobs,
    loadVolume,
    makeLinearTransform,
    makeSegmentation,
    makeVolume,
    translation,
)
from small_pair import FIXED, SHAPE, makePair, makeRunFolder
from SpikeRegSlicerLib.scene import grids, review, transforms
from SpikeRegSlicerLib.scene.hierarchy import RunFolder
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.results import FILES, Outputs, loadRun, runs
from SpikeRegSlicerLib.scene.undo import History

from SpikeRegLib.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return makeRunFolder(tmp_path / "run")


@pytest.fixture
def inputs(scene):
    return makePair()


def census(scene) -> dict[str, int]:
    """Node IDs with their subject-hierarchy items."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    return {"items": hierarchy.GetNumberOfItems(), **{n.GetID(): hierarchy.GetItemByDataNode(n) for n in nodes}}


def test_a_folder_whose_writer_was_killed_is_put_in_order_first(inputs, folder):
    hidden = Path(folder, ".spikereg-01234567")  # stopped when it had moved two files of this result out of the way
    (hidden / ".replaced").mkdir(parents=True)
    journal = {"old": ["result.json", "warped.nii.gz", "transform.h5"], "new": {"result.json": [1, 1]}}
    (hidden / ".journal.json").write_text(json.dumps(journal), encoding="utf-8")
    (hidden / "result.json").write_text("{}", encoding="utf-8")
    for name in journal["old"][:2]:
        Path(folder, name).rename(hidden / ".replaced" / name)
    run = loadRun(folder, inputs, Outputs(), "Run 1")
    assert run.result["verdict"]["reasons"] == ["a “made-up” run"] and not hidden.exists()


def test_everything_the_run_wrote_is_in_its_folder(inputs, folder):
    run = loadRun(folder, inputs, Outputs(), "Run 1")
    assert [node.GetAttribute("SpikeReg.Layer") for node in run.spikes] == list(LAYERS)
    assert {run.transform, run.warped, run.jacobian, *run.spikes} < set(run.folder.nodes())
    assert run.result["verdict"]["reasons"] == ["a “made-up” run"]
    assert run.name == "Run 1" and run.folds is None and run.segmentation is None
    assert run.transform.GetClassName() == "vtkMRMLTransformNode" and not run.transform.IsLinear()
    assert transforms.fixedOf(run.transform) is inputs.fixed and transforms.movingOf(run.transform) is inputs.moving
    for volume in (run.warped, run.jacobian):
        np.testing.assert_array_equal(grids.worldGrid(volume).matrix, FIXED)  # not the file's single precision
    for number, volume in enumerate(run.spikes):
        np.testing.assert_allclose(np.diag(grids.worldGrid(volume).matrix)[:3], 2.0 * 2**number, atol=1e-5)
    assert all(node.GetStorageNode() is None for node in run.folder.nodes() if node.IsA("vtkMRMLStorableNode"))


def test_the_warped_volume_is_what_the_transform_gives(inputs, folder):
    run = loadRun(folder, inputs, Outputs(), "Run")
    grid, moving = grids.worldGrid(inputs.fixed), grids.ownGrid(inputs.moving).matrix
    image = grids.resample(inputs.moving.GetImageData(), moving, grid, run.transform.GetTransformFromParent())
    assert np.abs(grids.arrayOf(image) - slicer.util.arrayFromVolume(run.warped)).max() < 1e-3 * 1000


def test_what_is_pressed_flat_is_among_the_folds(inputs, tmp_path):
    folder = makeRunFolder(tmp_path / "flat", folded=5)
    jacobian = sitk.ReadImage(str(Path(folder, "jacobian.nii.gz")))
    jacobian[0, 0, 0] = 0.0  # one of the five, exactly flat
    sitk.WriteImage(jacobian, str(Path(folder, "jacobian.nii.gz")))
    run = loadRun(folder, inputs, Outputs(), "Run")
    segmentation = run.folds.GetSegmentation()
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(run.folds, segmentation.GetNthSegmentID(0), run.jacobian)
    assert mask.sum() == 5


def test_folds_become_a_segment_where_there_are_any(inputs, tmp_path):
    run = loadRun(makeRunFolder(tmp_path / "folded", folded=5), inputs, Outputs(), "Run")
    segmentation = run.folds.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 1
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(run.folds, segmentation.GetNthSegmentID(0), run.jacobian)
    np.testing.assert_array_equal(mask > 0, slicer.util.arrayFromVolume(run.jacobian) <= 0)
    assert mask.sum() == 5


def test_under_a_fixed_parent_the_result_stands_in_the_world(scene, inputs, tmp_path):
    toParent = translation(30, 5, -9)
    inputs.fixed.SetAndObserveTransformNodeID(makeLinearTransform(toParent).GetID())
    run = loadRun(makeRunFolder(tmp_path / "run", fixedGrid=toParent @ FIXED), inputs, Outputs(), "Run")
    np.testing.assert_array_equal(grids.worldGrid(run.warped).matrix, grids.worldGrid(inputs.fixed).matrix)
    assert run.warped.GetParentTransformNode() is None


def test_chosen_outputs_keep_their_ids_and_outlive_the_run(scene, inputs, folder):
    transform, warped = makeLinearTransform(np.eye(4), "Mine"), makeVolume(np.zeros((2, 2, 2)), name="Mine too")
    warped.SetAndObserveTransformNodeID(transform.GetID())
    before = census(scene)
    run = loadRun(folder, inputs, Outputs(transform, warped), "Run")
    assert run.transform is transform and run.warped is warped and not transform.IsLinear()
    assert warped.GetParentTransformNode() is None and warped.GetImageData().GetDimensions() == SHAPE[::-1]
    run.remove()
    assert census(scene) == before
    assert not [name for name in transform.GetAttributeNames() if name.startswith("SpikeReg.")]


def test_a_second_run_takes_over_the_nodes_the_first_one_made(scene, inputs, folder):
    before = census(scene)
    first = loadRun(folder, inputs, Outputs(), "First")
    second = loadRun(folder, inputs, Outputs(first.transform, first.warped), "Second")
    assert second.transform is first.transform
    found = runs(scene)
    assert [run.name for run in found] == ["First", "Second"] and found[0].transform is None
    first.remove()
    assert second.warped.GetScene() is scene
    second.remove()
    assert census(scene) == before


def test_runs_are_found_by_what_the_scene_holds(scene, inputs, folder):
    run = loadRun(folder, inputs, Outputs(), "Run")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    subfolder = hierarchy.CreateFolderItem(run.folderItem, "rates")
    for node in reversed(run.spikes):  # a user tidies up, in another order
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), subfolder)
    (found,) = runs(scene)
    assert found.spikes == run.spikes and found.result == run.result and found.folderItem == run.folderItem
    scene.RemoveNode(run.jacobian)
    assert runs()[0].jacobian is None


@pytest.mark.parametrize("broken", ["transform.h5", "warped.nii.gz", "result.json"])
def test_a_broken_folder_leaves_the_scene_as_it_was(scene, inputs, folder, broken, vtkErrors):
    chosen = Outputs(makeLinearTransform(translation(1, 2, 3)), makeVolume(blobs(SHAPE), name="Old"))
    before, image = census(scene), chosen.warped.GetImageData()
    with open(os.path.join(folder, broken), "wb") as file:
        file.write(b"cut short")
    with pytest.raises(InputError, match=broken):
        loadRun(folder, inputs, chosen, "Run")
    assert census(scene) == before
    assert chosen.warped.GetImageData() is image and chosen.transform.IsLinear()
    vtkErrors.clear()


def test_a_run_outlives_its_inputs(scene, inputs, folder):
    scene.RemoveNode(inputs.moving)
    scene.RemoveNode(inputs.fixed)
    run = loadRun(folder, inputs, Outputs(), "Run")
    assert transforms.fixedOf(run.transform) is None
    np.testing.assert_allclose(grids.worldGrid(run.warped).matrix, FIXED, atol=1e-4)


def test_removing_a_run_leaves_the_scene_exactly_as_before(scene, inputs, tmp_path):
    before = census(scene)
    run = loadRun(makeRunFolder(tmp_path / "run", folded=3), inputs, Outputs(), "Run")
    run.transform.CreateDefaultDisplayNodes()
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    table.AddDefaultStorageNode()
    run.folder.add(table, "metrics")
    run.remove()
    assert census(scene) == before
    assert runs(scene) == []
    run.remove()  # twice does no harm
    assert census(scene) == before


def test_removing_a_run_spares_what_the_user_put_into_its_folder(scene, inputs, folder):
    run = loadRun(folder, inputs, Outputs(), "Run")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(inputs.fixed), run.folderItem)
    run.remove()
    assert inputs.fixed.GetScene() is scene
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(inputs.fixed)) == hierarchy.GetSceneItemID()


def test_a_hundred_runs_leave_neither_nodes_nor_memory(scene, inputs, folder):
    def cycle() -> None:
        run = loadRun(folder, inputs, Outputs(), "Run")
        history = History()
        history.remember(run.transform)
        run.remove()

    for _ in range(10):
        cycle()
    before, memory = census(scene), residentMegabytes()
    for _ in range(90):
        cycle()
    assert census(scene) == before
    assert residentMegabytes() - memory < 10  # the nodes of one run hold a megabyte, and their history half of one


def residentMegabytes() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_undo_brings_back_the_transform_and_its_review(scene, inputs, tmp_path):
    history, node, place = History(depth=2), makeLinearTransform(translation(1, 2, 3)), (FIXED @ (17, 14, 11, 1))[:3]
    assert not history.undo(node)
    history.remember(node)
    small = loadRun(makeRunFolder(tmp_path / "a", size=1.0), inputs, Outputs(node), "A")
    review.setReview(node, "accepted", "me", "fine")
    at = [np.array(node.GetTransformFromParent().TransformPoint(place))]
    history.remember(node)
    loadRun(makeRunFolder(tmp_path / "b", size=5.0), inputs, Outputs(node), "B")
    assert review.review(node) is None
    at.append(np.array(node.GetTransformFromParent().TransformPoint(place)))
    assert np.abs(at[1] - at[0]).max() > 0.1
    assert history.undo(node)
    np.testing.assert_allclose(node.GetTransformFromParent().TransformPoint(place), at[0], atol=1e-9)
    assert review.review(node)["decision"] == "accepted" and small.transform is node
    assert history.undo(node) and node.IsLinear()
    np.testing.assert_allclose(node.GetTransformToParent().TransformPoint((0, 0, 0)), (1, 2, 3))
    assert not history.undo(node)


def test_the_history_is_a_copy_and_keeps_no_more_than_its_depth(inputs, folder):
    run, history = loadRun(folder, inputs, Outputs(), "Run"), History(depth=2)
    place = (FIXED @ (17, 14, 11, 1))[:3]
    before = run.transform.GetTransformFromParent().TransformPoint(place)
    for _ in range(3):
        history.remember(run.transform)
    _zeroGrid(run.transform)
    assert run.transform.GetTransformFromParent().TransformPoint(place) != before
    assert history.undo(run.transform)
    np.testing.assert_allclose(run.transform.GetTransformFromParent().TransformPoint(place), before, atol=1e-12)
    assert history.undo(run.transform) and not history.undo(run.transform)


def _zeroGrid(node) -> None:
    """What an editor of displacement fields may do: change the numbers in place."""
    transform = node.GetTransformFromParent()
    for number in range(transform.GetNumberOfConcatenatedTransforms()):
        part = transform.GetConcatenatedTransform(number)
        if part.IsA("vtkGridTransform"):
            part.GetDisplacementGrid().GetPointData().GetScalars().Fill(0)
            part.GetDisplacementGrid().Modified()
            part.Modified()


def test_a_real_run_comes_in_whole(scene, sampleRun, tmp_path):
    """The files that the worker is asked for, with the segmentations and names that only the scene knows."""
    for name in (*FILES, "result.json"):
        copy = shutil.copytree if (sampleRun / name).is_dir() else shutil.copy
        copy(sampleRun / name, tmp_path / name)
    sample = ROOT / "SpikeRegLib" / "sample"
    fixed, moving = (loadVolume(sample / f"{name}.nii.gz", name) for name in ("fixed", "moving"))
    labels = loadVolume(sample / "moving_seg.nii.gz", "labels", labels=True)
    run = loadRun(str(tmp_path), Inputs(fixed, moving, moving_labels=labels), Outputs(), "sample")
    assert run.jacobian is not None and not run.transform.IsLinear()
    layers = [node.GetAttribute("SpikeReg.Layer") for node in run.spikes]
    reported = [layer["name"] for layer in json.loads((sampleRun / "result.json").read_text())["spikes"]["layers"]]
    assert layers == [name for name in reported if name in layers] and len(layers) > 8
    assert layers[0].startswith("enc0") and layers.index("bottleneck") < len(layers) - 1
    for volume in run.spikes:  # every layer covers the head, each on its own grid
        low, high = np.zeros(6), np.zeros(6)
        volume.GetRASBounds(low)
        fixed.GetRASBounds(high)
        assert 0 <= slicer.util.arrayFromVolume(volume).min() <= slicer.util.arrayFromVolume(volume).max() <= 1
        centres = (low[::2] + low[1::2]) / 2 - (high[::2] + high[1::2]) / 2
        assert np.abs(centres).max() < 20
    warped = slicer.util.arrayFromVolume(loadVolume(sampleRun / "warped_seg.nii.gz", "w", labels=True))
    assert run.segmentation.GetSegmentation().GetNumberOfSegments() == len(np.unique(warped)) - 1
    identifier = run.segmentation.GetSegmentation().GetSegmentIdBySegmentName(run.result["label_names"]["16"])
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(run.segmentation, identifier, fixed)
    np.testing.assert_array_equal(shown > 0, warped == 16)
    assert run.warped.GetDisplayNode().GetWindow() == moving.GetDisplayNode().GetWindow()


def test_a_folder_of_ones_own_can_be_used_for_anything(scene):
    folder = RunFolder("Comparison")
    node = makeSegmentation((blobs(SHAPE) > 500).astype(int))
    folder.add(node)
    assert folder.nodes() == [node]
    folder.remove()
    assert not folder.exists() and node.GetScene() is None
