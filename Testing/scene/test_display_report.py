"""The report of a visual check: one file, everything in it, nothing in it that runs."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import pytest
from SpikeRegSlicerLib.display import qa_report
from SpikeRegSlicerLib.display.places import Place

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
PLACES = [Place("jacobian", (1.04, -2.0, 3.0), 0.2, "shrinks to 20 % of its volume")]


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def result(sampleRun) -> dict:
    return json.loads((sampleRun / "result.json").read_text())


def test_it_holds_pictures_decision_verdict_figures_and_places(result):
    review = {
        "decision": "accepted",
        "reviewer": "R. Viewer",
        "note": "two\nlines",
        "time": "2026-01-02T03:04:05+00:00",
    }
    page = Page(qa_report.renderReport(result, review, {"Checkerboard": PNG}, PLACES))
    (picture,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == PNG
    for text in ("Accepted", "R. Viewer", "two\nlines", "2026-01-02 03:04:05 UTC", "Checkerboard"):
        assert text in page.text
    assert f"Verdict: {result['verdict']['level'].capitalize()}" in page.text
    assert all(reason in page.text for reason in result["verdict"]["reasons"])
    assert "shrinks to 20 % of its volume" in page.text and "1.0" in page.text
    assert f"{result['similarity']['lncc_after']:.3f}" in page.text
    assert f"E = {result['energy']['mac_pj']:g} pJ × MACs" in page.text


def test_it_needs_no_other_file_and_runs_nothing(result):
    html = qa_report.renderReport(result, None, {"Grid": PNG}, PLACES)
    assert not re.search(r"https?://|<script|<link|url\(|@import", html)
    assert "Not reviewed" in html


def test_text_from_outside_stays_text(result):
    result["inputs"] = {"fixed": f"/data/{EVIL}.nii.gz", "moving": EVIL}
    result["verdict"]["reasons"] = [EVIL]
    result["warnings"] = [EVIL]
    result["model"] = {"name": EVIL, "sha256": EVIL}
    result["dice"]["per_label"] = {EVIL: 0.5, "17": 0.6}
    result["dice"]["per_label_before"] = {EVIL: 0.1, "17": 0.2}
    result["label_names"] = {"17": "<script>x"}
    result["versions"] = {"spikereg": EVIL}
    places = [Place("residual", (0.0, 0.0, 0.0), 0.1, EVIL)]
    review = {"decision": EVIL, "reviewer": EVIL, "note": EVIL, "time": EVIL}
    page = Page(qa_report.renderReport(result, review, {EVIL: PNG}, places))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    assert page.text.count("<script>alert(1)</script>") >= 9
    assert "0.200 → 0.600" in page.text, "a label with a name keeps its Dice before"


def test_it_is_written_whole_or_not_at_all(result, tmp_path):
    path = tmp_path / "report.html"
    qa_report.writeReport(path, result, None, {}, [])
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        qa_report.writeReport(path, result, None, {"broken": "not bytes"}, [])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    qa_report.writeReport(tmp_path / ("n" * 250 + ".html"), result, None, {}, [])


def test_a_result_with_little_in_it_still_makes_a_report():
    page = Page(qa_report.renderReport({"verdict": {"level": "poor", "reasons": ["it folds"]}}, None, {}))
    assert "it folds" in page.text
    assert "Verdict: Poor" in page.text
