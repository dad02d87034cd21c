"""What a run reads: exact files in the right coordinates, rewritten only where a node has changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from run_folder import FLIP
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
from SpikeRegSlicerLib.scene import files
from SpikeRegSlicerLib.scene.export import exportInputs
from SpikeRegSlicerLib.scene.problems import problems

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import read_points
from SpikeRegLib.images.volumes import read_image, read_labels
from SpikeRegLib.space.transforms import read_transform

RIGID = translation(12, -7, 30) @ rotation(35, (0.2, 0.9, 0.1))


@pytest.fixture
def pair(scene):
    return makePair(FIXED)


def under(node, toParent: np.ndarray):
    node.SetAndObserveTransformNodeID(makeLinearTransform(toParent).GetID())
    return node


def lps(points: np.ndarray) -> np.ndarray:
    return points * (-1, -1, 1)


def times(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder)}


def test_volumes_are_exact_to_the_last_bit(pair, tmp_path):
    request = exportInputs(pair, str(tmp_path))
    for key, seed in (("fixed", 0), ("moving", 1)):
        image = read_image(request[key])
        np.testing.assert_array_equal(image.data.numpy(), blobs(SHAPE, seed))
        np.testing.assert_allclose(image.frame.matrix, FLIP @ obliqueMatrix(), rtol=0, atol=1e-12)
    assert sorted(request) == ["fixed", "moving"]


def test_the_fixed_side_is_written_in_the_world(pair, tmp_path):
    for toParent in (RIGID, RIGID @ np.diag([1.2, 1.2, 1.2, 1])):
        under(pair.fixed, toParent)
        frame = read_image(exportInputs(pair, str(tmp_path))["fixed"]).frame
        np.testing.assert_allclose(frame.matrix, FLIP @ toParent @ obliqueMatrix(), atol=1e-9)


def test_the_moving_sides_parent_is_where_the_alignment_starts(pair, tmp_path):
    """Even one that shears; the volume itself is written as it is, in its own coordinates."""
    toParent = RIGID @ np.diag([1.3, 0.8, 1.1, 1])
    under(pair.moving, toParent)
    request = exportInputs(pair, str(tmp_path))
    assert request["align"] is True
    np.testing.assert_allclose(read_image(request["moving"]).frame.matrix, FLIP @ obliqueMatrix(), atol=1e-12)
    initial = read_transform(request["initial_transform"])
    np.testing.assert_allclose(initial.matrix, FLIP @ np.linalg.inv(toParent) @ FLIP, atol=1e-9)


def test_an_initial_transform_stands_instead_of_the_parent(pair, tmp_path):
    under(pair.moving, translation(3, 0, 0))
    pair.initial_transform = under(makeLinearTransform(RIGID), translation(0, 5, 0))
    request = exportInputs(pair, str(tmp_path))
    expected = np.linalg.inv(translation(0, 5, 0) @ RIGID)
    np.testing.assert_allclose(read_transform(request["initial_transform"]).matrix, FLIP @ expected @ FLIP, atol=1e-9)
    assert "align" not in request  # whether to go on from it is the user's choice


def test_a_deformable_initial_transform_keeps_its_map(pair, tmp_path):
    field = np.random.default_rng(0).uniform(-2, 2, (8, 9, 10, 3))
    matrix = np.diag([9.0, 9, 9, 1])
    matrix[:3, 3] = CENTRE - 40
    pair.initial_transform = makeGridTransform(field, matrix)
    path = exportInputs(pair, str(tmp_path))["initial_transform"]
    fromParent, read = pair.initial_transform.GetTransformFromParent(), sitk.ReadTransform(path)
    for point in CENTRE + np.random.default_rng(1).uniform(-15, 15, (50, 3)):
        mapped = np.array(fromParent.TransformPoint(point))
        assert np.abs(lps(np.array(read.TransformPoint(lps(point).tolist()))) - mapped).max() < 1e-4


def test_landmarks_are_written_in_their_volumes_coordinates(pair, tmp_path):
    scaled = RIGID @ np.diag([1.3, 0.8, 1.1, 1])
    under(pair.moving, scaled)
    seen = (scaled @ np.append(CENTRE, 1))[:3]  # where the moving volume's centre is shown
    pair.fixed_points = under(makeFiducials(CENTRE[None]), RIGID)
    pair.moving_points = makeFiducials(np.stack([seen]))
    request = exportInputs(pair, str(tmp_path))
    fixed, moving = read_points(request["fixed_points"]).numpy(), read_points(request["moving_points"]).numpy()
    np.testing.assert_allclose(fixed, lps((RIGID @ np.append(CENTRE, 1))[None, :3]), atol=1e-9)
    np.testing.assert_allclose(moving, lps(CENTRE[None]), atol=1e-9)


def test_segmentations_are_label_maps_on_their_volumes_grid(pair, tmp_path):
    under(pair.fixed, RIGID)
    pair.fixed_labels = makeSegmentation(LABELS, name="A")
    pair.fixed_labels.SetAndObserveTransformNodeID(pair.fixed.GetTransformNodeID())
    pair.moving_labels = makeSegmentation(LABELS, name="B")
    request = exportInputs(pair, str(tmp_path))
    for key in ("fixed", "moving"):
        labels, image = read_labels(request[key + "_seg"]), read_image(request[key])
        np.testing.assert_allclose(labels.frame.matrix, image.frame.matrix, atol=1e-12)
        np.testing.assert_array_equal(labels.data.numpy() > 0, LABELS > 0)
        assert set(np.unique(labels.data.numpy())) == {0, 1, 2}


def test_segments_of_one_name_get_one_value(pair, tmp_path):
    pair.fixed_labels, pair.moving_labels = makeSegmentation(LABELS), makeSegmentation(LABELS)
    for node, names in (
        (pair.fixed_labels, ("thalamus", "ventricle")),
        (pair.moving_labels, ("x", "thalamus")),
    ):
        for number, name in enumerate(names):
            node.GetSegmentation().GetNthSegment(number).SetName(name)
    request = exportInputs(pair, str(tmp_path))
    fixed, moving = (read_labels(request[key]).data.numpy() for key in ("fixed_seg", "moving_seg"))
    assert set(np.unique(fixed[LABELS == 1])) == {1}
    assert set(np.unique(moving[LABELS == 2])) == {1}  # the same structure, second in its list
    assert set(np.unique(moving[LABELS == 1])) == {3}  # a name the fixed one does not have


def test_a_mask_drawn_on_another_grid_is_put_on_the_volumes(pair, tmp_path):
    """A ball, on a grid turned against the fixed volume's and under a transform of its own."""
    grid = translation(*(CENTRE - 30)) @ np.diag([1.0, 1, 1, 1])
    index = np.stack(np.meshgrid(*[np.arange(61)] * 3, indexing="ij"), -1)
    ball = (np.linalg.norm(index - 30, axis=-1) < 14).astype(int)
    shift = translation(4, 0, 0)
    pair.fixed_mask = under(makeSegmentation(ball, grid), shift)
    mask = read_labels(exportInputs(pair, str(tmp_path))["fixed_mask"]).data.numpy()
    k, j, i = np.indices(SHAPE)
    points = np.stack([i, j, k], -1) @ obliqueMatrix()[:3, :3].T + obliqueMatrix()[:3, 3]
    distance = np.linalg.norm(points - (CENTRE + (4, 0, 0)), axis=-1)
    assert mask[distance < 13].all() and not mask[distance > 15].any()


@pytest.mark.parametrize("key", ["moving_mask", "moving_leave_out"])
def test_labels_go_along_with_a_moving_volume_that_shares_their_parent(pair, tmp_path, key):
    parent = makeLinearTransform(RIGID @ np.diag([1.3, 0.8, 1.1, 1]))
    setattr(pair, key, makeVolume(LABELS.astype(np.int16), name="Mask", labels=True))
    for node in (pair.moving, getattr(pair, key)):
        node.SetAndObserveTransformNodeID(parent.GetID())
    mask = read_labels(exportInputs(pair, str(tmp_path))[key]).data.numpy()
    np.testing.assert_array_equal(mask, LABELS > 0)


def test_a_region_is_the_voxels_in_its_box(pair, tmp_path):
    turned = translation(*CENTRE) @ rotation(30)
    pair.region = under(makeRoi((0, 0, 0), (20, 12, 30)), turned)
    assert problems(pair) == []
    mask = read_labels(exportInputs(pair, str(tmp_path))["region"]).data.numpy()
    k, j, i = np.indices(SHAPE)
    points = np.stack([i, j, k, np.ones_like(i)], -1) @ (np.linalg.inv(turned) @ obliqueMatrix()).T
    np.testing.assert_array_equal(mask, (np.abs(points[..., :3]) <= (10, 6, 15)).all(-1))
    assert abs(mask.sum() * np.prod((1.1, 1.7, 2.3)) / (20 * 12 * 30) - 1) < 0.05  # mm3


def test_only_files_of_changed_nodes_are_rewritten(pair, tmp_path, scene):
    pair.fixed_mask, pair.region = makeSegmentation(LABELS), makeRoi(CENTRE, (20, 20, 20))
    pair.fixed_points, pair.moving_points = makeFiducials(CENTRE[None]), makeFiducials(CENTRE[None] + 1)
    pair.initial_transform = makeLinearTransform(RIGID)

    def changed() -> set[str]:
        before = times(tmp_path)
        exportInputs(pair, str(tmp_path))
        return {name for name, time in times(tmp_path).items() if before.get(name) != time}

    assert len(changed()) == 7
    assert changed() == set()
    pair.fixed.SetName("Renamed")
    pair.fixed.GetDisplayNode().SetWindow(7)
    assert changed() == set()
    pair.fixed_points.SetNthControlPointPosition(0, *(CENTRE + 2))
    assert changed() == {"fixed_points.csv"}
    slicer.util.arrayFromVolume(pair.moving)[5, 5, 5] = 77
    slicer.util.arrayFromVolumeModified(pair.moving)
    assert changed() == {"moving.nrrd"}
    pair.initial_transform.SetMatrixTransformToParent(makeLinearTransform(np.eye(4)).GetMatrixTransformToParent())
    assert changed() == {"initial.tfm"}
    segment = pair.fixed_mask.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        (LABELS == 0).astype(np.uint8), pair.fixed_mask, segment, pair.fixed
    )
    assert changed() == {"fixed_mask.nrrd"}
    pair.region.SetSize(10, 10, 10)
    assert changed() == {"region.nrrd"}
    under(pair.fixed, translation(0, 0, 1))
    assert changed() == {"fixed.nrrd", "fixed_mask.nrrd", "region.nrrd"}
    (tmp_path / "moving.nrrd").unlink()
    assert changed() == {"moving.nrrd"}


def test_exporting_leaves_the_scene_alone(pair, tmp_path, scene):
    pair.fixed_labels = pair.moving_labels = makeSegmentation(LABELS)
    before = scene.GetNumberOfNodes()
    exportInputs(pair, str(tmp_path))
    assert scene.GetNumberOfNodes() == before
    assert pair.fixed.GetStorageNode() is None and not list(tmp_path.glob(".part-*"))


def test_a_folder_that_cannot_be_written_is_one_clear_line(pair, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be made .* choose another temporary folder"):
        exportInputs(pair, str(tmp_path / "file" / "run"))


def test_a_full_disk_is_one_clear_line(pair):
    """/dev/full takes every byte and says the disk is full."""

    def write(part: str) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100000)

    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        files.WrittenFiles().keep("/tmp/never-made.nrrd", 1, write)
    assert not os.path.exists("/tmp/never-made.nrrd")


def test_a_mask_without_a_voxel_on_its_volume_is_refused(pair, tmp_path):
    """Boxes that touch pass the quick check of the panel; what counts is the voxels."""
    corner = np.zeros(SHAPE, int)
    corner[0, 0, 0] = 1
    away = (obliqueMatrix() @ (-3, -3, -3, 1))[:3] - obliqueMatrix()[:3, 3]
    pair.fixed_mask = makeSegmentation(corner, translation(*away) @ obliqueMatrix(), name="Astray")
    with pytest.raises(InputError, match='"Astray" has no voxel on its volume'):
        exportInputs(pair, str(tmp_path))
