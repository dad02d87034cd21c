"""The page about the architecture: its picture is that of the imports, and every room and file it names is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Docs"))

import draw_architecture

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "Docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = (ROOT / "SpikeRegLib", ROOT / "SpikeRegSlicer" / "SpikeRegSlicerLib")
NAMED = sorted(set(re.findall(r"`((?:SpikeReg\w+|Testing|Docs)/[^`]*)`", PAGE)))


def first_cells(heading: str) -> list[str]:
    """The first column of the table under a heading."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("|")][2:]


def test_the_picture_is_that_of_the_imports():
    drawn = draw_architecture.PICTURE.read_text(encoding="utf-8")
    assert drawn == draw_architecture.picture(), "run `python Docs/draw_architecture.py`"


@pytest.mark.parametrize("named", NAMED)
def test_every_file_and_folder_named_is_there(named):
    path = ROOT / named
    assert path.is_dir() if named.endswith("/") else path.is_file()


def test_every_room_has_one_line():
    listed = [cell.strip("`") for part in ("library", "Slicer module") for cell in first_cells(f"Rooms of the {part}")]
    there = {
        folder.relative_to(ROOT).as_posix() + "/"
        for package in PACKAGES
        for folder in (package, *package.rglob("*"))
        if folder.is_dir() and folder.name != "__pycache__" and any(path.is_file() for path in folder.iterdir())
    }
    assert sorted(listed) == sorted(there)


def test_the_table_of_changes_is_long_enough_and_has_no_wish_twice():
    wishes = first_cells("To change something")
    assert len(set(wishes)) == len(wishes) >= 15


def test_imports_are_read_wherever_a_file_makes_them_but_for_type_checkers(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import a\n"
        "def work():\n    try:\n        from SpikeRegLib.space import grids\n"
        "    except ImportError:\n        import b\n"
    )
    assert list(draw_architecture.imported(path)) == ["typing.TYPE_CHECKING", "SpikeRegLib.space.grids", "b"]


def test_an_arrow_that_follows_from_others_is_left_out_and_a_circle_shares_a_box():
    rooms = {"top": {"one", "low"}, "one": {"two"}, "two": {"one", "low"}, "low": set()}
    arrows = {("top",): {("one", "two")}, ("one", "two"): {("low",)}, ("low",): set()}
    assert draw_architecture.boxes(rooms) == arrows
    assert draw_architecture.rows(arrows) == [[("low",)], [("one", "two")], [("top",)]]
