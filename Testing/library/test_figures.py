"""Every figure in the documents is what the committed result files say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Benchmarks"))

import tables  # noqa: E402


@pytest.mark.parametrize("path", sorted(tables.documents()), ids=lambda path: path.name)
def test_tables_are_written_from_the_results(path):
    assert path.read_text(encoding="utf-8") == tables.documents()[path], "run `python Benchmarks/tables.py`"


def test_every_marker_is_filled():
    for path in tables.documents():
        for part in path.read_text(encoding="utf-8").split("<!-- figures:")[1:]:
            table = part.split("-->", 1)[1].split("<!-- end -->")[0]
            assert table.count("|") > 4, path


def test_fill_replaces_only_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures:x -->\nold\n<!-- end -->\nb\n")
    assert tables.fill(page, {"x": "new"}) == "a\n<!-- figures:x -->\nnew\n<!-- end -->\nb\n"
