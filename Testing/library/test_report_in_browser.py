"""The report in a real browser: it draws, it says the files' values, and it asks for nothing."""

from __future__ import annotations

from dataclasses import replace

import chromium
import numpy as np
import pytest
import torch
from examples import FRAMES, a_registration, ball

from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.report import write_report
from SpikeRegLib.report.colours import FOLD

PROGRAM = chromium.found()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: set SPIKEREG_CHROMIUM or put one on PATH"),
]


@pytest.fixture(scope="module")
def registration():
    frame = FRAMES["oblique"]
    worst = [{"place_mm": [5.0, -3.0, 4.0], "mm": 4.0}, {"place_mm": [-6.0, 2.0, 1.0], "mm": 2.0}]
    found = a_registration(frame, predicted_error={"worst": worst})
    noise = torch.rand(frame.shape, generator=torch.Generator().manual_seed(0))
    inside = torch.from_numpy(ball(frame))
    found.fixed = replace(found.fixed, data=found.fixed.data + 30 * noise * inside)
    found.warped = replace(found.fixed, data=found.fixed.data.flip(0) * 0.5)
    found.jacobian = Volume(0.5 + noise, frame)
    found.jacobian.data[:, :20][torch.from_numpy(ball(frame, radius=8.0))[:, :20]] = -0.5
    found.predicted_error = Volume(6 * noise, frame)
    return found


@pytest.fixture(scope="module")
def page(registration, tmp_path_factory):
    pytest.importorskip("tornado", reason="tornado (with the extra cohort) speaks to the browser")
    folder = tmp_path_factory.mktemp("browser")
    write_report(registration, folder / "report.html")
    page = chromium.Page(PROGRAM, folder)
    try:
        page.open(folder / "report.html")
        page.until("document.documentElement?.dataset.live")
        page.value("document.querySelector('.live').scrollIntoView()")
        yield page
    finally:
        page.close()


def canvas(page, path):
    """[H, W, 3] pixels of the canvas, and where it stands in the window."""
    pillow = pytest.importorskip("PIL.Image")
    page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.picture(path)
    box = "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('live-canvas')"
    x, y, width, height = map(round, page.value(f"{box}.getBoundingClientRect())"))
    return np.array(pillow.open(path).convert("RGB"))[y : y + height, x : x + width].astype(int), (x, y)


def press(page, key):
    page.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
    page.ask("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_the_view_starts_without_errors_and_asks_for_nothing(page):
    assert page.value("document.documentElement.dataset.live") == "ready", page.value(
        "document.getElementById('live-note').textContent"
    )
    assert page.errors == []
    assert all(address.startswith(("file:", "blob:", "data:")) for address in page.requests)
    assert sum(address.startswith("file:") for address in page.requests) == 1


def test_every_choice_draws_something_of_its_own(page, tmp_path):
    seen = {}
    for name in ("warped", "moving", "checkerboard", "difference", "jacobian", "error", "spikes"):
        page.value(f"spikereg.show('{name}')")
        seen[name], _ = canvas(page, tmp_path / f"{name}.png")
        assert (seen[name].max(2) > 60).mean() > 0.02, name
        for other in seen:
            if other != name:
                assert np.abs(seen[name] - seen[other]).max(2).astype(bool).mean() > 0.01, (name, other)
    page.value("spikereg.show('jacobian')")
    drawn, _ = canvas(page, tmp_path / "drawn.png")
    assert (np.abs(drawn - np.array(FOLD)).max(2) < 30).mean() > 0.005, "what is folded"
    press(page, " ")
    hidden, _ = canvas(page, tmp_path / "hidden.png")
    press(page, " ")
    shown_again, _ = canvas(page, tmp_path / "again.png")
    assert np.array_equal(drawn, shown_again), "space brings the overlay back"
    assert np.abs(drawn - hidden).max(2).astype(bool).mean() > 0.01, "space hides it"
    assert page.errors == []


@pytest.mark.parametrize("name", ["fixed", "warped", "jacobian", "error"])
def test_the_cursor_says_the_files_value(page, registration, name):
    volume = registration.predicted_error if name == "error" else getattr(registration, name)
    step = {"jacobian": 0.01, "error": 0.05}.get(name, 2.0)
    middle = np.rint(registration.fixed.frame.to_index(np.zeros(3)))
    for offset in np.random.default_rng(1).integers(-6, 7, (20, 3)):
        index = middle + offset
        lps = volume.frame.to_mm(index + 0.4 * np.sign(offset)).tolist()  # still in this voxel
        shown = page.value(f"spikereg.go({lps}), spikereg.valueAt('{name}', {lps})")
        i, j, k = index.astype(int)
        assert abs(shown - float(volume.data[k, j, i])) <= 0.501 * step
    label = {"fixed": "Fixed", "warped": "Warped", "jacobian": "Jacobian", "error": "Predicted error"}[name]
    terms = "[...document.querySelectorAll('#live-values dt')]"
    text = page.value(f"{terms}.find((term) => term.textContent === '{label}').nextSibling.textContent")
    assert abs(float(text.split()[0]) - float(volume.data[k, j, i])) <= 0.501 * step


def test_a_click_moves_the_cursor_as_a_radiologist_expects(page, tmp_path):
    """The first plane is coronal: to the right is the patient's left (+x), down is towards the feet (-z)."""
    page.value("spikereg.show('warped')")
    pixels, (left, top) = canvas(page, tmp_path / "a.png")
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    rows, columns = np.nonzero((pixels[:height, :width].max(2) > 60) & (np.ptp(pixels[:height, :width], axis=2) < 20))
    x, y = float(np.median(columns)) + left, float(np.median(rows)) + top

    def click(dx, dy):
        for kind in ("mousePressed", "mouseReleased"):
            page.ask("Input.dispatchMouseEvent", type=kind, x=x + dx, y=y + dy, button="left", buttons=1, clickCount=1)
        page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return np.array(page.value("spikereg.place()"))

    start, right, down = click(0, 0), click(20, 0), click(0, 20)
    assert right[0] - start[0] > 0.5 and abs(right[2] - start[2]) < 0.5
    assert start[2] - down[2] > 0.5 and abs(down[0] - start[0]) < 0.5


def test_the_worst_places_come_by_key_one_after_the_other(page):
    places = []
    for _ in range(3):
        press(page, "n")
        places.append(page.value("spikereg.place()"))
    assert places == [[5.0, -3.0, 4.0], [-6.0, 2.0, 1.0], [5.0, -3.0, 4.0]]
    assert page.value("document.getElementById('live-worst-text').textContent") == "Place 1 of 2: 4.0 mm expected"
