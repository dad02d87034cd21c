"""The file lists in CMake and the tree agree, and the comparison finds what it is for."""

from __future__ import annotations

import re
from pathlib import Path

import cmake_lists
import pytest

CMAKE_FILES = [cmake_lists.ROOT / "CMakeLists.txt"] + [
    cmake_lists.ROOT / lists.folder / "CMakeLists.txt" for lists in cmake_lists.LISTS
]


@pytest.fixture
def small_tree(tmp_path) -> Path:
    """A tree in step with its lists: the real CMake files, relisted for a few empty files."""
    tree = {"SpikeRegSlicer": ("Module.py", "Lib/part.py", "UI/panel.ui"), "SpikeRegLib": ("a.py", "b.toml")}
    for lists in cmake_lists.LISTS:
        for file in tree[lists.folder]:
            (tmp_path / lists.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / lists.folder / file).touch()
        text = (cmake_lists.ROOT / lists.folder / "CMakeLists.txt").read_text(encoding="utf-8")
        (tmp_path / lists.folder / "CMakeLists.txt").write_text(text, encoding="utf-8")
    cmake_lists.write(tmp_path)
    return tmp_path


def test_lists_and_tree_agree():
    assert not cmake_lists.differences(), cmake_lists.REMEDY


def test_a_file_that_nobody_listed_is_named(small_tree):
    (small_tree / "SpikeRegSlicer" / "Lib" / "new.py").touch()
    (small_tree / "SpikeRegLib" / "weights").mkdir()
    (small_tree / "SpikeRegLib" / "weights" / "new.safetensors").touch()
    assert cmake_lists.differences(small_tree) == [
        "SpikeRegSlicer/CMakeLists.txt: MODULE_PYTHON_SCRIPTS lacks Lib/new.py",
        "SpikeRegLib/CMakeLists.txt: LIBRARY_RESOURCES lacks weights/new.safetensors",
    ]


def test_an_entry_without_a_file_is_named(small_tree):
    (small_tree / "SpikeRegLib" / "b.toml").unlink()
    assert cmake_lists.differences(small_tree) == [
        "SpikeRegLib/CMakeLists.txt: LIBRARY_RESOURCES names b.toml, which is not there"
    ]


def test_a_repeated_entry_is_named(small_tree):
    path = small_tree / "SpikeRegSlicer" / "CMakeLists.txt"
    text = path.read_text(encoding="utf-8")
    path.write_text(cmake_lists.relisted(text, "MODULE_PYTHON_RESOURCES", ["UI/panel.ui"] * 2), encoding="utf-8")
    assert cmake_lists.differences(small_tree) == [
        "SpikeRegSlicer/CMakeLists.txt: MODULE_PYTHON_RESOURCES repeats UI/panel.ui"
    ]


def test_caches_and_hidden_files_are_not_installed(small_tree):
    for unwanted in ("__pycache__/a.cpython-311.pyc", ".cache/a.py", ".hidden.toml"):
        path = small_tree / "SpikeRegLib" / unwanted
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert not cmake_lists.differences(small_tree)


def test_writing_mends_every_difference_and_changes_nothing_else(small_tree):
    path = small_tree / "SpikeRegSlicer" / "CMakeLists.txt"
    before = path.read_text(encoding="utf-8")
    (small_tree / "SpikeRegSlicer" / "Lib" / "new.py").touch()
    (small_tree / "SpikeRegSlicer" / "UI" / "panel.ui").unlink()
    cmake_lists.write(small_tree)
    assert not cmake_lists.differences(small_tree)
    mended = before.replace("  Lib/part.py\n", "  Lib/new.py\n  Lib/part.py\n").replace("  UI/panel.ui\n", "")
    assert path.read_text(encoding="utf-8") == mended


def test_a_list_that_cannot_be_read_is_an_error_with_its_name():
    with pytest.raises(ValueError, match="no list MODULE_PYTHON_SCRIPTS"):
        cmake_lists.listed("set(MODULE_PYTHON_SCRIPTS Module.py)\n", "MODULE_PYTHON_SCRIPTS")


@pytest.mark.parametrize("path", CMAKE_FILES, ids=lambda path: path.parent.name)
def test_nothing_is_globbed(path):
    assert not re.search(r"\bGLOB", path.read_text(encoding="utf-8"), re.I)


def test_no_python_file_lies_beside_the_module():
    """Slicer takes every .py in the folder of scripted modules for a module."""
    scripts = cmake_lists.wanted(cmake_lists.LISTS[0], cmake_lists.ROOT)["MODULE_PYTHON_SCRIPTS"]
    assert [script for script in scripts if "/" not in script] == ["SpikeRegSlicer.py"]
