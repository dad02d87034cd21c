"""The documents: links lead somewhere, the README has short sentences and no figure by hand, its picture is current."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import SpikeRegLib
from SpikeRegLib.presets.preset import read_toml
from SpikeRegLib.text.yaml_text import read_yaml_text

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Docs"))

import make_readme_picture

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for pattern in ("*.md", "Docs/**/*.md", "Benchmarks/*.md", "Examples/*.md", "SpikeRegLib/weights/*.md")
    for path in ROOT.glob(pattern)
)
LONGEST_SENTENCE = 29


def without_code(text: str) -> str:
    """Markdown without its code blocks and what scripts fill in."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    return re.sub(r"<!-- figures:.*?<!-- end -->", "", text, flags=re.S)


def sentences(text: str) -> list[str]:
    """Sentences of the prose; headings, tables and pictures are none."""
    prose = "\n".join(line for line in without_code(text).splitlines() if not line.startswith(("#", "|", "!", "<!--")))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", prose)
    return [one for part in paragraphs for one in re.split(r"(?<=[.!?])\s+", " ".join(part.split())) if one]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, target


def test_sentences_of_the_readme_are_short():
    words = {sentence: len(re.findall(r"[\w`]+(?:[-'.]\w+)*", sentence)) for sentence in sentences(README)}
    assert len(words) > 60
    assert {sentence for sentence, count in words.items() if count > LONGEST_SENTENCE} == set()


def test_the_readme_has_four_rows_and_one_plot_and_no_other_figures():
    filled = dict(re.findall(r"<!-- figures:([\w-]+) -->\n(.*?)<!-- end -->", README, re.S))
    assert filled.keys() == {"summary", "accuracy-time"}
    rows = [line for line in filled["summary"].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert re.findall(r"\b0\.\d{2,}", without_code(README)) == []


def test_the_readme_says_whose_the_pairs_are():
    assert "The pairs are of the development subjects" in " ".join(README.split())


def test_the_picture_of_the_readme_is_made_of_the_tutorials():
    from PIL import Image  # comes with matplotlib

    made = make_readme_picture.compose().convert("RGB")
    shown = Image.open(make_readme_picture.PICTURE).convert("RGB")
    assert "![The module SpikeReg after a run](Docs/screenshots/in-slicer.png)" in README
    assert made.size == shown.size and made.tobytes() == shown.tobytes(), "run `python Docs/make_readme_picture.py`"


def test_the_citation_names_this_version_and_both_systems():
    citation = read_yaml_text((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = read_toml(ROOT / "pyproject.toml")["project"]
    assert citation["version"] == SpikeRegLib.__version__ and citation["license"] == project["license"]
    numbers = [one["identifiers"][0]["value"].split(":")[1] for one in citation["references"]]
    titles = [one["title"].split(":")[0] for one in citation["references"]]
    assert dict(zip(titles, numbers, strict=True)) == {"SpikeReg": "2605.25144", "NePhi": "2309.07322"}
    assert all(f"arXiv {number}" in README for number in numbers)


def test_every_note_is_dated_listed_and_about_files_that_exist():
    folder = ROOT / "Docs" / "notes"
    listed = dict(re.findall(r"\(([\w-]+\.md)\) \| (\d{4}-\d\d-\d\d) \|", (folder / "README.md").read_text("utf-8")))
    assert listed.keys() == {path.name for path in folder.glob("*.md")} - {"README.md"}
    for name, date in listed.items():
        head = (folder / name).read_text("utf-8").split("\n\n**Situation.**")[0]
        assert date in head
        named = re.findall(r"`(SpikeRegLib/[\w/.]+)`", head)
        assert named and all((ROOT / path).is_file() for path in named)
