"""Pictures of slice views with the patient's sides, the position, a scale bar, names and a date."""

from __future__ import annotations

import numpy as np
import pytest
import vtk
from slicer_scene import makeVolume
from SpikeRegSlicerLib.display import annotated

WIDTH, HEIGHT = 400, 300


@pytest.fixture
def view(scene):
    """A slice node of 200 mm by 150 mm, axial, 20 mm above the origin."""
    node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetOrientation("Axial")
    node.SetDimensions(200, 150, 1)  # a screen of high resolution has twice the pixels
    node.SetFieldOfView(200, 150, 1)
    node.SetSliceOffset(20)
    return node


def grey(value: int = 0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("orientation", "letters", "axis"), [("Axial", "RLPA", 2), ("Coronal", "RLIS", 1), ("Sagittal", "APIS", 0)]
)
@pytest.mark.parametrize("offset", [20.0, -7.0])
def test_letters_and_position_are_the_patient_s(view, orientation, letters, axis, offset):
    view.SetOrientation(orientation)
    view.SetSliceOffset(offset)
    assert "".join(annotated.edgeLetters(view)) == letters
    coordinate = view.GetSliceToRAS().GetElement(axis, 3)
    side = ("RAS" if coordinate > 0 else "LPI")[axis]
    assert abs(coordinate) == pytest.approx(abs(offset))
    assert annotated.positionText(view) == f"{side} {abs(offset):.1f} mm"


def test_an_oblique_view_names_the_sides_between_which_it_lies(view):
    turn = vtk.vtkTransform()
    turn.SetMatrix(view.GetSliceToRAS())
    turn.RotateZ(35)
    view.GetSliceToRAS().DeepCopy(turn.GetMatrix())
    view.UpdateMatrices()
    left, right, *_ = annotated.edgeLetters(view)
    assert set(left) in ({"R", "A"}, {"R", "P"}) and left[0] == "R" and set(left).isdisjoint(right)


def test_the_bar_is_as_long_as_it_says(view):
    picture = annotated.annotate(grey(), view, [], "today")
    assert picture.shape[0] > HEIGHT and picture.shape[1] == WIDTH
    strip = picture[HEIGHT:]
    lengths = [max(map(len, "".join("x" if value == 255 else " " for value in row).split()), default=0)
               for row in strip.min(-1)]  # fmt: skip
    assert max(lengths) == pytest.approx(50 * WIDTH / 200, abs=1), "50 mm, at most 30 % of 200 mm"


def test_letters_are_at_the_middle_of_the_edges_and_seen_on_black_and_white(view):
    for value in (0, 255):
        picture = annotated.annotate(grey(value), view, [], "")[:HEIGHT].astype(int)
        changed = np.abs(picture - value).max(-1) > 100
        for part in (changed[130:170, :40], changed[130:170, -40:], changed[:40, 180:220], changed[-40:, 180:220]):
            assert part.sum() > 10
        assert not changed[60:120, 60:340].any(), "the picture itself is left alone"


def test_names_stay_text_and_inside_the_picture(view, scene):
    short = annotated.annotate(grey(), view, ["volume: a"], "")
    long = annotated.annotate(grey(), view, ["volume: $x^2$ <b>\n" + "long " * 80], "")
    assert short.shape == long.shape
    assert not np.array_equal(short, long)
    row = long[HEIGHT + 20 :].max(-1)
    assert row[:, -3:].max() == 0, "cut before the edge"


def test_what_a_view_shows_is_named(scene):
    lower, upper = (makeVolume(np.zeros((4, 4, 4), np.float32), name=name) for name in ("T1\npre", "CT"))
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetBackgroundVolumeID(lower.GetID())
    composite.SetForegroundVolumeID(upper.GetID())
    composite.SetForegroundOpacity(0.5)
    assert annotated.shownNames(composite, scene) == ["volume: T1 pre", "over it: CT"]
    composite.SetForegroundOpacity(0)
    assert annotated.shownNames(composite, scene) == ["volume: T1 pre"]


def test_a_file_is_annotated_as_its_pixels_are(view, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    path = tmp_path / "view.png"
    path.write_bytes(annotated.encoded(pixels))
    found = annotated.annotatePng(str(path), view, ["volume: a"], "today")
    assert found == annotated.encoded(annotated.annotate(pixels, view, ["volume: a"], "today"))
    assert found.startswith(b"\x89PNG")
