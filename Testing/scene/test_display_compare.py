"""Every way to compare, as it is drawn in the slice views; and the views as they were before."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import slicer
import slicer_scene
import vtk
from slicer_scene import ROOT, blobs, loadVolume, makeGridTransform, makeVolume, rotation, translation
from SpikeRegSlicerLib.display import compare, intensity, style
from SpikeRegSlicerLib.display.deformable import deformablePart
from SpikeRegSlicerLib.display.spikes import SpikeOverlay
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.results import Outputs, loadRun

GRID = translation(-47, -47, -47) @ np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (48, 48, 48)


def images(fixedValue: float = 100, warpedValue: float = 300):
    """Two cubes of one value each, on a grid around the origin, with a darker rim that spans their windows."""
    pair = []
    for value, name in ((fixedValue, "fixed"), (warpedValue, "warped")):
        array = np.zeros(SHAPE, np.float32)
        array[4:-4, 4:-4, 4:-4] = value
        pair.append(makeVolume(array, GRID, name))
    return pair


def waveTransform(amplitude: float = 6.0):
    """A smooth deformation of a few mm around the origin."""
    k, j, i = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    wave = amplitude * np.stack([np.sin(j / 6), np.sin(k / 6), np.sin(i / 6)], -1)
    return makeGridTransform(wave, GRID)


def onGridOf(volume, values: np.ndarray):
    """A volume of these values where another one lies."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return makeVolume(values.astype(np.float32), slicer.util.arrayFromVTKMatrix(matrix), "other values")


def changedPixels(first: np.ndarray, second: np.ndarray) -> int:
    return int((np.abs(first.astype(int) - second).max(-1) > 0).sum())


def test_the_grid_is_drawn_and_taken_away(panel):
    fixed, warped = images()
    panel.setVolumes(warped)
    panel.fit()
    before = panel.pixels()
    comparison = compare.Comparison(panel.scene, fixed, warped, transform=waveTransform())
    comparison.show("grid", 10)
    drawn = panel.pixels()
    assert changedPixels(before, drawn) > 5000
    comparison.show("grid", 30)
    assert 500 < changedPixels(before, panel.pixels()) < 0.6 * changedPixels(before, drawn), "fewer lines"
    comparison.hide()
    assert changedPixels(before, panel.pixels()) == 0


def test_the_grid_shows_the_deformation_without_the_alignment(scene):
    wave = waveTransform()
    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    general.Concatenate(wave.GetTransformFromParent())
    turn = (translation(60, -20, 5) @ rotation(30)).ravel().tolist()
    general.Concatenate(turn)
    whole = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    whole.SetAndObserveTransformFromParent(general)
    alone = deformablePart(whole)
    for point in ((0, 0, 0), (10, -20, 30), (-31, 12, 7)):
        expected = wave.GetTransformFromParent().TransformPoint(point)
        np.testing.assert_allclose(alone.GetTransformFromParent().TransformPoint(point), expected, atol=1e-6)


def test_a_checkerboard_alternates_between_the_two_images(panel):
    black = np.zeros(SHAPE, np.float32)
    black[0] = 1  # a layer at the edge, so that there is a window from 0 to 1
    fixed, warped = makeVolume(1 - black, GRID, "fixed"), makeVolume(black, GRID, "warped")
    comparison = compare.Comparison(panel.scene, fixed, warped)
    panel.setVolumes(fixed)
    panel.fit()
    comparison.show("checkerboard", 24)
    view = panel.views[0]
    pixels = view.pixels()[..., 0].astype(int)
    for column in range(4):
        for row in range(3):
            centre = GRID[:3, 3] + np.array([12 + 24 * column, 12 + 24 * row, 0]) - 1
            centre[2] = view.ras(200, 200)[2]
            square = [int((centre[n] - GRID[n, 3]) // 24) for n in range(3)]
            expected = 255 if sum(square) % 2 == 0 else 0
            assert pixels[view.pixel(centre)] == expected, (column, row)


def test_a_checkerboard_of_images_in_other_units_has_no_visible_squares(scene):
    image = blobs(SHAPE)
    fixed, warped = makeVolume(image, GRID, "fixed"), makeVolume(0.02 * image, GRID, "warped")
    comparison = compare.Comparison(scene, fixed, warped)
    comparison.show("checkerboard", 10)
    board = slicer.util.arrayFromVolume(slicer.util.getNode("Checkerboard (warped)"))
    np.testing.assert_allclose(board, intensity.unit(image), atol=1e-5)
    assert board.max() == 1


def test_the_difference_of_equal_images_is_neutral(panel):
    image = blobs(SHAPE)
    fixed, warped = makeVolume(image, GRID, "fixed"), makeVolume(image * 3 + 40, GRID, "warped")
    comparison = compare.Comparison(panel.scene, fixed, warped)
    comparison.show("difference", 0.05)
    panel.fit()
    anatomy = panel.pixels()[:200]  # above the legend
    assert anatomy.max() == 0, "black: other units and an offset are not a difference"


def test_the_difference_is_orange_where_the_warped_image_is_brighter_and_blue_where_darker(panel):
    image = blobs(SHAPE)
    changed = image.copy()
    brighter, darker = (slice(20, 28), slice(20, 28), slice(8, 16)), (slice(20, 28), slice(20, 28), slice(32, 40))
    changed[brighter] += 400
    changed[darker] -= 400
    comparison = compare.Comparison(panel.scene, makeVolume(image, GRID, "fixed"), makeVolume(changed, GRID, "warped"))
    comparison.show("difference", 0.5)
    panel.fit()
    view = panel.views[0]
    height = view.ras(200, 200)[2]
    pixels = view.pixels().astype(int)
    for box, (first, second) in ((brighter, (0, 2)), (darker, (2, 0))):
        centre = GRID @ (*[(part.start + part.stop) / 2 for part in box[::-1]], 1)
        colour = pixels[view.pixel((centre[0], centre[1], height))]
        assert colour[first] > colour[second] + 50


def test_flicker_shows_one_image_and_then_the_other(panel):
    fixed, warped = images()
    for volume in (fixed, warped):
        style.setWindow(volume.GetDisplayNode(), 0, 300)
    panel.setVolumes(fixed)
    panel.fit()
    fixedAlone = panel.pixels()
    panel.setVolumes(warped)
    warpedAlone = panel.pixels()
    comparison = compare.Comparison(panel.scene, fixed, warped)
    comparison.show("flicker", 2)
    seen = [(comparison.tick(), panel.pixels()) for _ in range(4)]
    assert [name for name, _ in seen] == ["fixed", "warped", "fixed", "warped"]
    for name, pixels in seen:
        np.testing.assert_array_equal(pixels, fixedAlone if name == "fixed" else warpedAlone)


def test_blend_mixes_by_its_opacity(panel):
    fixed, warped = images()
    for volume in (fixed, warped):
        style.setWindow(volume.GetDisplayNode(), 0, 400)
    comparison = compare.Comparison(panel.scene, fixed, warped)
    comparison.show("blend", 0.0)
    panel.fit()
    for opacity in (0.0, 0.25, 1.0):
        comparison.show("blend", opacity)
        expected = 255 * (100 + opacity * 200) / 400
        assert panel.views[1].pixels()[200, 200, 0] == pytest.approx(expected, abs=2)


def test_every_mode_gives_the_views_back_as_they_were_and_leaves_nothing(panel, sampleRun):
    fixed, moving = (loadVolume(ROOT / "SpikeRegLib" / "sample" / f"{name}.nii.gz") for name in ("fixed", "moving"))
    run = loadRun(str(sampleRun), Inputs(fixed=fixed, moving=moving), Outputs(), "run")
    style.styleRun(run)
    error = onGridOf(fixed, blobs(slicer.util.arrayFromVolume(fixed).shape) / 100)
    comparison = compare.Comparison(panel.scene, fixed, run.warped, run.jacobian, run.transform, error)
    panel.setVolumes(fixed, moving, 0.3)
    panel.fit()
    panel.views[2].composite.SetBackgroundVolumeID(None)
    panel.views[1].composite.SetForegroundOpacity(0.9)
    before = panel.pixels()
    assert comparison.modes() == list(compare.MODES)
    for mode in ("difference", "checkerboard", "error"):  # make colour tables, which stay in the scene
        comparison.show(mode)
    comparison.hide()
    nodes = panel.scene.GetNumberOfNodes()
    pictures = []
    for mode in compare.MODES:
        comparison.show(mode)
        pictures.append(panel.pixels())
    comparison.hide()
    assert all(changedPixels(before, picture) > 10_000 for picture in pictures)
    assert changedPixels(before, panel.pixels()) == 0
    assert panel.scene.GetNumberOfNodes() == nodes
    assert [view.composite.GetLinkedControl() for view in panel.views] == [0, 0, 0]


def test_each_view_gets_back_its_own_volumes_opacities_and_link(panel):
    fixed, warped = images()
    other = makeVolume(blobs(SHAPE), GRID, "other")
    names = ("BackgroundVolumeID", "ForegroundVolumeID", "ForegroundOpacity", "LinkedControl", "ClipToBackgroundVolume")
    panel.views[0].composite.SetBackgroundVolumeID(other.GetID())
    panel.views[1].composite.SetForegroundVolumeID(warped.GetID())
    panel.views[1].composite.SetForegroundOpacity(0.77)
    panel.views[2].composite.SetLinkedControl(1)
    panel.views[2].composite.SetClipToBackgroundVolume(0)

    def state() -> list:
        return [[getattr(view.composite, f"Get{name}")() for name in names] for view in panel.views]

    before = state()
    comparison = compare.Comparison(panel.scene, fixed, warped)
    for mode in ("blend", "flicker"):
        comparison.show(mode)
    assert all(view[0] == fixed.GetID() and view[3] for view in state()), "all views alike, and linked"
    comparison.hide()
    assert state() == before
    comparison.hide()
    assert state() == before, "nothing is put back twice"


@pytest.mark.parametrize("hiddenFirst", [True, False])
def test_a_comparison_and_the_spike_overlay_may_take_turns_in_any_order(panel, hiddenFirst):
    fixed, warped = images()
    rates = makeVolume(blobs(SHAPE) / 1000, GRID, "rates")
    other = makeVolume(blobs(SHAPE), GRID, "other")
    panel.setVolumes(other)
    parts = [
        (overlay := SpikeOverlay(panel.scene, fixed, [rates]), lambda: overlay.show(0), rates),
        (comparison := compare.Comparison(panel.scene, fixed, warped), lambda: comparison.show("blend"), warped),
    ] * 2
    parts[0][1]()
    for (former, *_), (_, show, volume) in itertools.pairwise(parts):
        for step in (former.hide, show) if hiddenFirst else (show, former.hide):
            step()
        assert {view.composite.GetForegroundVolumeID() for view in panel.views} == {volume.GetID()}
    parts[-1][0].hide()
    assert {view.composite.GetForegroundVolumeID() for view in panel.views} == {None}
    assert {view.composite.GetBackgroundVolumeID() for view in panel.views} == {other.GetID()}


def test_a_scene_closed_while_a_mode_is_shown_stays_empty(panel):
    def left() -> int:
        return panel.scene.GetNumberOfNodesByClass("vtkMRMLDisplayableNode")

    empty = left()  # the slice views have nodes of their own
    for mode in ("difference", "grid"):
        comparison = compare.Comparison(panel.scene, *images(), transform=waveTransform())
        comparison.show(mode)
        slicer_scene.emptyScene()
        comparison.hide()
        assert left() == empty


def test_helpers_go_when_the_mode_changes_and_are_not_saved(panel):
    comparison = compare.Comparison(panel.scene, *images())
    before = panel.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    comparison.show("checkerboard")
    helper = slicer.util.getNode("Checkerboard (warped)")
    assert not helper.GetSaveWithScene()
    comparison.show("checkerboard", 30)
    assert panel.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before + 2, "board and marks"
    comparison.show("blend")
    assert panel.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before


def test_a_volume_that_left_the_scene_meanwhile_is_not_shown_again(panel):
    fixed, warped = images()
    other = makeVolume(blobs(SHAPE), GRID, "other")
    panel.setVolumes(other)
    comparison = compare.Comparison(panel.scene, fixed, warped)
    comparison.show("checkerboard")
    panel.scene.RemoveNode(other)
    comparison.hide()
    assert {view.composite.GetBackgroundVolumeID() for view in panel.views} == {None}


def test_what_a_run_lacks_is_refused(scene):
    comparison = compare.Comparison(scene, *images())
    with pytest.raises(ValueError, match=r"'jacobian': this run has blend, flicker, checkerboard, difference$"):
        comparison.show("jacobian")
    small = makeVolume(np.zeros((8, 8, 8), np.float32), GRID, "small")
    with pytest.raises(ValueError, match="small has not the grid of fixed"):
        compare.Comparison(scene, comparison.fixed, small).show("checkerboard")


@pytest.mark.parametrize(("mode", "millimetres"), [("grid", 12), ("glyph", 12), ("contour", 2)])
def test_a_transform_is_drawn_in_each_of_its_ways(panel, mode, millimetres):
    fixed, warped = images()
    transform = waveTransform()
    transform.SetNodeReferenceID(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole(), fixed.GetID())
    panel.setVolumes(warped)
    panel.fit()
    before = panel.pixels()
    style.setTransformDisplay(transform, mode, millimetres)
    assert changedPixels(before, panel.pixels()) > 2000
    assert transform.GetDisplayNode().GetRegionNode() is fixed, "what 3-D views draw the transform in"
    style.setTransformDisplay(transform, "off")
    assert changedPixels(before, panel.pixels()) == 0


def test_an_unknown_way_to_draw_a_transform_is_named(scene):
    with pytest.raises(ValueError, match="'arrows': choose one of grid, glyph, contour, off"):
        style.setTransformDisplay(waveTransform(), "arrows")
