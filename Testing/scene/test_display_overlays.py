"""Overlays by pixel and by value: nothing outside the anatomy, the legend's colours, lines where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer_scene
from slicer_scene import makeGridTransform, makeVolume, translation
from SpikeRegSlicerLib.display import colours, compare, displacement, overlays
from vtk.util.numpy_support import vtk_to_numpy

GRID = translation(-47, -47, -47) @ np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (48, 48, 48)
K, J, I = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")  # noqa: E741
RADIUS_MM = 2 * np.sqrt((K - 23.5) ** 2 + (J - 23.5) ** 2 + (I - 23.5) ** 2)
BALL = RADIUS_MM < 36


def ball():
    """Fixed and warped volume: a bright ball of 36 mm around the origin, in darkness."""
    return [makeVolume((100.0 * BALL).astype(np.float32), GRID, name) for name in ("fixed", "warped")]


def legendEntries() -> dict[str, tuple[float, ...]]:
    """Text -> RGB of the legend that is shown."""
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    table = legend.GetPrimaryDisplayNode().GetColorNode()
    lookup = table.GetLookupTable()
    return {table.GetColorName(n): lookup.GetTableValue(n)[:3] for n in range(table.GetNumberOfColors())}


def saturation(pixels: np.ndarray) -> np.ndarray:
    return np.ptp(pixels.astype(int), axis=-1)


def drawnAt(panel, millimetres: float) -> np.ndarray:
    """RGB of the axial view this far to the right of the origin."""
    view = panel.views[0]
    return view.pixels()[view.pixel((millimetres, 1.0, view.ras(200, 200)[2]))].astype(int)


@pytest.fixture
def views(panel):
    panel.setVolumes(makeVolume(np.zeros(SHAPE, np.float32), GRID, "dark"))
    panel.fit()
    return panel


def test_the_jacobian_is_drawn_inside_the_anatomy_alone_in_the_colours_that_its_legend_names(views):
    for name, value in colours.JACOBIAN_TICKS:
        jacobian = makeVolume(np.full(SHAPE, value, np.float32), GRID, "jacobian")
        comparison = compare.Comparison(views.scene, *ball(), jacobian)
        comparison.show("jacobian", 1.0)
        entries = legendEntries()
        assert list(entries) == ["folds", "1/4", "1/2", "1", "2", "4"]
        np.testing.assert_allclose(drawnAt(views, 10) / 255, entries[name], atol=0.02)
        view = views.views[0]
        outside = [
            view.pixels()[view.pixel((x, y, view.ras(200, 200)[2]))] for x, y in ((-42, 30), (40, -30), (-44, 0))
        ]
        assert np.max(outside) == 0, "nothing is coloured outside the anatomy"
        comparison.hide()


def test_a_doubled_and_a_halved_volume_are_as_far_from_none(scene):
    table = colours.jacobianColours(scene)
    grey = [np.mean(colours.colourAt(table, colours.JACOBIAN_RANGE, value)) for value in (0.25, 0.5, 1, 2, 4)]
    assert grey[2] == max(grey) and abs(grey[1] - grey[3]) < 0.12 and abs(grey[0] - grey[4]) < 0.12
    assert min(grey[1], grey[3]) - max(grey[0], grey[4]) > 0.15


def errorVolume():
    """A predicted error that grows by 1 mm every 6 mm from the origin, and is unknown outside the ball."""
    return makeVolume(np.where(BALL, RADIUS_MM / 6, np.nan).astype(np.float32), GRID, "predicted error")


def test_the_predicted_error_has_its_colours_and_lines_at_2_and_5_mm(views):
    comparison = compare.Comparison(views.scene, *ball(), error=errorVolume())
    comparison.show("error", 1.0)
    table = colours.errorColours(views.scene)
    for millimetres in (6, 21, 27):
        expected = colours.colourAt(table, colours.ERROR_RANGE, millimetres / 6)
        np.testing.assert_allclose(drawnAt(views, millimetres) / 255, expected, atol=0.06)
    row = views.views[0].pixels()[200].astype(int)
    x = np.array([views.views[0].ras(200, column)[0] for column in range(400)])
    white, black = (row.min(-1) > 240), (row.max(-1) < 15) & (np.abs(x) < 34)
    left = x > 0  # the legend is on the other side
    assert np.abs(np.abs(x[white & left]).mean() - 12) < 2.5, "the line of 2 mm"
    assert np.abs(np.abs(x[black & left]).mean() - 30) < 2.5, "the line of 5 mm"
    assert drawnAt(views, 42).max() == 0, "nothing where the error is not known"
    assert list(legendEntries()) == ["0", "1", "white 2", "3.5", "black 5", "≥ 8"]


def test_without_a_predicted_error_it_is_not_offered(scene):
    comparison = compare.Comparison(scene, *ball())
    assert not {"error", "errorSurface"} & set(comparison.modes())
    with pytest.raises(ValueError, match="'error': this run has blend"):
        comparison.show("error")


@pytest.mark.parametrize("millimetres", [16.0, 24.0])
def test_corners_of_squares_say_whose_square_it_is(views, millimetres):
    compare.Comparison(views.scene, *ball()).show("checkerboard", millimetres)
    marks = overlays.cornerMarks(SHAPE, (2, 2, 2), millimetres)
    square = overlays.squares(SHAPE, (2, 2, 2), millimetres)
    assert set(np.unique(marks)) == {0, 1, 2} and np.all((marks == 0) | (marks == square + 1))
    layer = int((millimetres / 2 + millimetres) // 2)  # through the middle of squares
    assert 0.02 < (marks[layer] > 0).mean() < 0.15, "corners alone"
    view = views.views[0]
    views.jump((0, 0, float(GRID[2, 3] + 2 * layer)))
    pixels = view.pixels()
    for value, colour in ((1, colours.FIXED_COLOUR), (2, colours.WARPED_COLOUR)):
        j, i = np.argwhere(marks[layer] == value)[5]
        drawn = pixels[view.pixel((GRID @ (i, j, layer, 1))[:3])]
        np.testing.assert_allclose(drawn / 255, colour, atol=0.03)
    entries = legendEntries()
    np.testing.assert_allclose(entries["fixed"], colours.FIXED_COLOUR, atol=0.01)
    np.testing.assert_allclose(entries["warped"], colours.WARPED_COLOUR, atol=0.01)


def shift(millimetres: float):
    """A transform that moves the ball by this much to the side, less and less outside of it."""
    fade = np.clip((60 - RADIUS_MM) / 20, 0, 1)
    return makeGridTransform(millimetres * np.stack([fade, 0 * fade, 0 * fade], -1), GRID)


@pytest.mark.parametrize(("moved", "title"), [(0.5, "moved by\n(drawn 10 ×)"), (10.0, "moved by")])
def test_arrows_are_drawn_long_enough_to_see_and_the_legend_says_how_much_longer(views, moved, title):
    comparison = compare.Comparison(views.scene, *ball(), transform=shift(moved))
    before = views.views[0].pixels()
    comparison.show("glyph", 8)
    changed = np.abs(views.views[0].pixels().astype(int) - before).max(-1)[:, :260] > 0
    assert changed.sum() > 1500
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert legend.GetTitleText() == title
    assert all(text.endswith(" mm") for text in legendEntries())


def test_contours_are_named_with_their_values_in_the_colours_they_are_drawn_in(views):
    comparison = compare.Comparison(views.scene, *ball(), transform=shift(10.0))
    comparison.show("contour", 4)
    entries = legendEntries()
    assert list(entries) == ["4 mm", "8 mm"]
    pixels = views.views[0].pixels()[:, :300] / 255
    for colour in entries.values():
        assert (np.abs(pixels - colour).max(-1) < 0.12).sum() > 30


def test_a_scale_of_displacements_is_round_and_rises(scene):
    scale = displacement.scaleOf(shift(7.0), ball()[0])
    assert (scale.largest, scale.step, scale.middle) == (8, 2, pytest.approx(7, abs=0.01))
    assert [text for text, _ in scale.ticks()] == ["0 mm", "2 mm", "4 mm", "6 mm", "8 mm"]
    assert displacement.scaleOf(shift(0.0), ball()[0]).ticks()[0][0] == "0 mm", "a transform that moves nothing"


def test_the_surface_in_3_d_has_the_displacement_or_the_predicted_error_of_every_point(views):
    import three_d_view

    space = three_d_view.ThreeDView(slicer_scene.boot())
    comparison = compare.Comparison(views.scene, *ball(), transform=shift(7.0), error=errorVolume())
    empty = space.pixels()
    pictures = {}
    for mode, expected in (("surface", 7.0), ("errorSurface", 36 / 6)):
        comparison.show(mode)
        (model,) = [node for node in slicer.util.getNodesByClass("vtkMRMLModelNode") if node.GetMesh() is not None
                    and node.GetMesh().GetPointData().GetArray("mm")]  # fmt: skip
        values = vtk_to_numpy(model.GetMesh().GetPointData().GetArray("mm"))
        points = vtk_to_numpy(model.GetMesh().GetPoints().GetData())
        assert len(points) > 500 and np.abs(np.linalg.norm(points, axis=1) - 36).max() < 3
        assert np.abs(values - expected).max() < 0.5
        space.look()
        pictures[mode] = space.pixels()
        assert (saturation(pictures[mode]) > 60).sum() > 10_000, "a coloured ball"
    comparison.hide()
    assert (np.abs(pictures["surface"].astype(int) - pictures["errorSurface"]).max(-1) > 40).sum() > 10_000
    np.testing.assert_array_equal(space.pixels(), empty)
    views.scene.RemoveNode(space.node)


def test_an_empty_volume_has_no_surface_and_says_nothing_wrong(scene):
    empty = [makeVolume(np.zeros(SHAPE, np.float32), GRID, name) for name in ("fixed", "warped")]
    comparison = compare.Comparison(scene, *empty, transform=shift(1.0))
    comparison.show("surface")
    assert not [node for node in slicer.util.getNodesByClass("vtkMRMLModelNode") if node.GetMesh() is not None
                and node.GetMesh().GetPointData().GetArray("mm")]  # fmt: skip
    comparison.hide()
