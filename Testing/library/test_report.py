"""The report: self-contained, upright and in proportion on any grid, and nothing from outside reaches it unescaped."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from examples import FRAMES, OBLIQUE, a_registration, ball, head

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.report import render_report, write_report
from SpikeRegLib.report.anatomy import anatomy_part
from SpikeRegLib.report.charts import overlap_rows
from SpikeRegLib.report.colours import DIVERGING, FOLD, OUTSIDE, SEQUENTIAL
from SpikeRegLib.report.pictures import GRID_STEP_MM, checkerboard, grid_over, jacobian_picture
from SpikeRegLib.report.planes import affine_part, deformed_coordinates, planes_through, slice_of
from SpikeRegLib.report.png import encode
from SpikeRegLib.space.transforms import AffineTransform, CompositeTransform, DisplacementTransform, Transform


class Reader(HTMLParser):
    """Collects what a browser would fetch, the texts, and whether every element is closed in order."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("kind", ["grey", "rgb", "indexed"])
def test_png_holds_exactly_the_pixels(kind):
    pillow = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (13, 7, 3) if kind == "rgb" else (13, 7), dtype=np.uint8)
    palette = SEQUENTIAL if kind == "indexed" else None
    decoded = pillow.open(io.BytesIO(encode(image, palette)))
    expected = SEQUENTIAL[image] if kind == "indexed" else image
    assert np.array_equal(np.array(decoded.convert("L" if kind == "grey" else "RGB")), expected)


@pytest.mark.parametrize("name", FRAMES)
def test_every_grid_is_shown_in_the_patients_axes(name):
    """The dot to the patient's left is on the right of the screen, the one at the back below, the one on top above."""
    volume = head(FRAMES[name])
    expected = {
        "axial": {200.0: (1, 0), 220.0: (0, 1)},
        "coronal": {200.0: (1, 0), 240.0: (0, -1)},
        "sagittal": {220.0: (1, 0), 240.0: (0, -1)},
    }
    for plane in planes_through(volume):
        picture = slice_of(volume, plane, nearest=True)
        centre = np.array([np.nonzero(picture)[1].mean(), np.nonzero(picture)[0].mean()])
        for value, direction in expected[plane.name].items():
            rows, columns = np.nonzero(picture == value)
            offset_mm = (np.array([columns.mean(), rows.mean()]) - centre) * plane.frame.spacing[0]
            assert np.allclose(offset_mm, 8.0 * np.array(direction), atol=2.6), plane.name


@pytest.mark.parametrize("name", FRAMES)
def test_a_ball_stays_round(name):
    """Physical proportions: as wide as high, whatever the voxels are like."""
    volume = head(FRAMES[name])
    for plane in planes_through(volume):
        rows, columns = np.nonzero(slice_of(volume, plane) > 50)
        width, height = np.ptp(columns) * plane.frame.spacing[0], np.ptp(rows) * plane.frame.spacing[1]
        assert abs(width - height) < 2.5 and abs(width - 26) < 3


def test_planes_lie_in_the_middle_of_the_anatomy():
    frame = FRAMES["plain"]
    data = torch.from_numpy(ball(frame, (5.0, -4.0, 3.0), 10.0).astype(np.float32))
    for plane, (axis, where) in zip(planes_through(Volume(data, frame)), [(2, 3.0), (1, -4.0), (0, 5.0)], strict=True):
        assert abs(plane.frame.origin[axis] - where) < 0.6


def test_orientation_letters_follow_the_radiological_convention():
    letters = {plane.name: plane.letters for plane in planes_through(head(FRAMES["plain"]))}
    assert letters == {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}


def test_identity_gives_a_straight_grid_every_ten_millimetres():
    volume = head(FRAMES["plain"])
    plane = planes_through(volume)[0]
    coordinates = deformed_coordinates(Transform.identity(), plane)
    pixel = plane.frame.spacing[0]
    assert np.allclose(np.diff(coordinates[0], axis=1), pixel) and np.allclose(np.diff(coordinates[1], axis=0), pixel)
    picture = grid_over(np.zeros(coordinates.shape[1:]), coordinates, pixel)
    lit = picture[..., 0].max(axis=0) > 100
    between = np.flatnonzero(picture[..., 0].min(axis=0) > 100)  # columns that are lines from top to bottom
    distances = np.diff(between)[np.diff(between) > 1] * pixel
    assert lit.all() and np.allclose(distances, GRID_STEP_MM, atol=2 * pixel)


def test_grid_shows_the_deformation_without_the_affine_part():
    frame = FRAMES["plain"]
    shift = torch.zeros(3, *frame.shape)
    shift[0] = 3.0
    turned = np.eye(4)
    turned[:3, :3] = np.reshape(OBLIQUE, (3, 3))
    turned[:3, 3] = (30.0, -7.0, 2.0)
    transform = CompositeTransform([DisplacementTransform(shift, frame), AffineTransform(turned)])
    assert np.allclose(affine_part(transform).matrix, turned)
    plane = planes_through(head(frame))[0]
    moved = deformed_coordinates(transform, plane) - deformed_coordinates(Transform.identity(), plane)
    middle = moved[:, moved.shape[1] // 2, moved.shape[2] // 2]
    assert np.allclose(middle, (3.0, 0.0), atol=1e-3)


def test_jacobian_colours_are_centred_at_one_and_symmetric_in_the_logarithm():
    picture = jacobian_picture(np.array([[1.0, 3.0, 1 / 3, 9.0, -0.1, np.nan, 0.0]]))[0]
    assert np.abs(picture[0].astype(int) - DIVERGING[127]).max() <= 2
    assert np.array_equal(picture[1], DIVERGING[255]) and np.array_equal(picture[2], DIVERGING[0])
    assert np.array_equal(picture[3], DIVERGING[255])
    assert tuple(picture[4]) == FOLD and tuple(picture[5]) == OUTSIDE
    assert tuple(picture[6]) == FOLD, "what is pressed flat"


def test_checkerboard_takes_each_pixel_from_one_image_and_half_from_each():
    board = checkerboard(np.zeros((100, 100)), np.ones((100, 100)), pixel_mm=2.5)
    assert set(np.unique(board)) == {0.0, 1.0} and board.mean() == 0.5
    assert np.array_equal(board[:10, :10], np.zeros((10, 10))) and np.array_equal(board[:10, 10:20], np.ones((10, 10)))


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    write_report(a_registration(), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = read(html)
    assert len(reader.addresses) >= 15 + 3 + 3 + 3 + 3 + 1
    assert all(address.startswith("data:image/png;base64,") for address in reader.addresses)
    assert "url(" not in html and "@import" not in html and ' src="http' not in html
    assert len(html) < 3_000_000
    for address in reader.addresses:
        assert base64.b64decode(address.split(",", 1)[1], validate=True).startswith(b"\x89PNG")


def test_report_names_verdict_baselines_proxy_and_formula():
    text = read(render_report(a_registration())).text
    for expected in (
        "Verdict: Good",
        "the images agree",
        "Dense twin",
        "Dense network of the paper",
        "proxy",
        "E = 4.6 pJ × MACs + 0.9 pJ × synaptic operations",
        "8.4×",
        "16.7×",
        "9.200 mJ",  # the paper's network: 2e9 MACs at 4.6 pJ
        "0.100 → 0.300 → 0.600",
        "0.41 → 0.83",
        "12.5 %",
        "Not in it: 123,456 neuron updates",
    ):
        assert expected in text, expected


@pytest.mark.parametrize("level", ["good", "check", "poor"])
def test_verdict_stands_in_words_and_in_a_colour_class(level):
    html = render_report(a_registration(verdict={"level": level, "reasons": ["because"]}))
    assert f'class="verdict {level}"' in html and f"Verdict: {level.capitalize()}" in html and "because" in html


def test_texts_from_outside_are_escaped():
    nasty = "<script>alert(1)</script>&\"'"
    registration = a_registration(
        verdict={"level": "check", "reasons": [nasty]},
        warnings=[nasty],
        preset=nasty,
        model={"name": nasty, "sha256": nasty},
        dice={"before_mean": 0.1, "after_mean": 0.2, "per_label": {nasty: 0.2}},
        versions={nasty: nasty},
    )
    registration.spike_maps = {nasty: registration.spike_maps["enc0"]}
    registration.result["spikes"]["layers"][0]["name"] = nasty
    object.__setattr__(registration.moving, "name", nasty)
    html = render_report(registration)
    assert read(html).tags.count("script") == html.count("<script") == 3, "data, NiiVue and what starts it"
    assert "<script>alert" not in html and html.count("&lt;script&gt;") >= 8
    assert html.count("\\u003cscript\\u003ealert(1)\\u003c/script\\u003e") == 2, "name and text of the layer"


def test_what_was_not_measured_is_said_or_left_out():
    registration = a_registration(dice=None, hd95_mm=None, spikes=None, energy=None, model=None, deformation={})
    registration.spike_maps, registration.fixed_labels, registration.warped_labels = {}, None, None
    text = read(render_report(registration)).text
    assert "Dice" not in text and "Energy" not in text and "Spikes" not in text and "outlines" not in text
    assert "not measured" in text and "nan" not in re.sub(r"[A-Za-z]nan|nan[A-Za-z]", "", text)


def test_agreement_against_chance_is_shown_where_it_was_measured():
    similarity = {"measure": "lncc", "lncc_before": 0.1, "lncc_aligned": 0.4, "lncc_after": 0.8}
    title = "Similarity aligned, against one image turned over"
    for above, shown in ((1.234, ["1.23 times"]), (None, [])):
        html = render_report(a_registration(similarity={**similarity, "above_chance": above}))
        assert re.findall(rf"<t[hd][^>]*>{title}</t[hd]><td[^>]*>([^<]*)</td>", html) == shown


def test_labels_and_landmarks_are_shown_before_and_after():
    landmarks = {"before_mean": 9.0, "aligned_mean": 4.0, "after_mean": 1.0, "per_point": [1.0]}
    html = render_report(a_registration(tre_mm=landmarks | {"per_point_before": [9.0], "per_point_aligned": [4.0]}))
    assert "before (hollow) and after (filled)" in html and "0.410 → 0.830" in html
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    assert any(cells[n : n + 3] == ["17", "0.410", "0.830"] for n in range(len(cells)))
    assert any(cells[n : n + 4] == ["1", "9.00 mm", "4.00 mm", "1.00 mm"] for n in range(len(cells)))


def test_a_chart_has_room_for_the_longest_name():
    longest = max((structure.name for structure in STRUCTURES.values()), key=len)
    for name in ("label 3", longest):
        chart = overlap_rows([(name, None, 0.5)])
        right = float(re.search(r'x="(\d+)" y="[\d.]+" class="name"', chart).group(1))  # where its end stands
        assert right >= 7 * len(name)
        width = float(re.search(r'viewBox="0 0 (\d+) ', chart).group(1))
        assert right < float(re.search(r'x="([\d.]+)" y="[\d.]+" class="value"', chart).group(1)) < width


def test_left_and_right_of_a_structure_stand_together_and_a_turned_head_is_named():
    values = {"agreement": 0.7, "fixed_ml": 2.0, "moving_ml": 1.0}
    images = {"fixed": {"head": True, "tilt_degrees": 35.6}, "moving": {"head": True, "tilt_degrees": 3.0}}
    found = {label: values for label in ("17", "18", "53", "54", "99", "bad")}
    result = {"anatomy": {"used_for": [], "images": images, "structures": found, "agreement": 0.7}}
    text = read(anatomy_part(result)).text
    names = ["left hippocampus", "right hippocampus", "left amygdala", "right amygdala", "label bad", "label 99"]
    assert [text.index(name) for name in names] == sorted(text.index(name) for name in names)
    assert "The head in the fixed image is turned by 36°." in text and "in the moving image is turned" not in text


def test_every_layer_that_has_neurons_has_a_bar():
    html = render_report(a_registration())
    assert html.count('class="bar"') == 1 and ">head<" in html  # the head stands in the table alone
