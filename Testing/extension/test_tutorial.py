"""The tutorial says what is there: its pictures and links exist, and its bold words are on the panel."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from SpikeRegLib.options.options import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "Docs" / "tutorial.md"
TEXT = TUTORIAL.read_text(encoding="utf-8")
MODULE = ROOT / "SpikeRegSlicer"
LINKS = sorted({target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in target})
PICTURES = (
    *("panel-before", "panel-after", "grid", "glyph", "contour"),
    *("spikes-early", "spikes-deep", "chart", "checkerboard", "jacobian", "difference"),
)


def words_of_the_panel() -> set[str]:
    """Every text of the .ui file, and every literal in the module's code (buttons that change their text)."""
    form = ElementTree.parse(MODULE / "Resources" / "UI" / "SpikeRegSlicer.ui")
    words = {re.sub(r"<[^>]+>", "", element.text or "").strip() for element in form.iter("string")}
    for path in MODULE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return words


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    path, _, anchor = link.partition("#")
    target = TUTORIAL.parent / path if path else TUTORIAL
    assert target.is_file()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_picture_is_shown_once():
    assert sorted(re.findall(r"!\[[^\]]+\]\(screenshots/([\w-]+)\.png\)", TEXT)) == sorted(PICTURES)


def test_bold_words_are_on_the_panel():
    bold = set(re.findall(r"\*\*([^*]+)\*\*", TEXT)) - {"bold"}
    assert len(bold) > 25 and bold - words_of_the_panel() == set()


def test_presets_are_those_of_the_library():
    named = re.findall(r"^\| `([\w-]+)` \|", TEXT, re.M)
    assert sorted(named) == sorted(path.stem for path in (ROOT / "SpikeRegLib" / "presets").glob("*.toml"))


def definitions(path: Path) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Classes and functions of a file by name, methods among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_the_script_imports_what_is_there():
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    imports = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.ImportFrom)]
    assert len(imports) >= 3
    for node in imports:
        defined = definitions(MODULE / (node.module.replace(".", "/") + ".py"))
        assert {alias.name for alias in node.names} <= defined.keys(), node.module


def test_keywords_for_scripts_are_known():
    """To the logic, to its inputs or to the library."""
    (sentence,) = re.findall(r"^`wait=False`.*?\n\n", TEXT, re.S | re.M)
    mentioned = {word.removesuffix("=False") for word in re.findall(r"`([\w=]+)`", sentence)}
    register = definitions(MODULE / "SpikeRegSlicerLib" / "logic.py")["register"].args
    inputs = definitions(MODULE / "SpikeRegSlicerLib" / "scene" / "inputs.py")["Inputs"].body
    known = {argument.arg for argument in register.args + register.kwonlyargs}
    known |= {field.target.id for field in inputs if isinstance(field, ast.AnnAssign)}
    known |= OPTIONS.keys()
    assert len(mentioned) >= 8 and mentioned - known == set()


def test_the_sample_has_the_name_it_is_registered_by():
    constants = ast.parse((MODULE / "SpikeRegSlicerLib" / "sample.py").read_text(encoding="utf-8"))
    names = {ast.unparse(node) for node in constants.body if isinstance(node, ast.Assign)}
    assert "NAME = 'SpikeRegSample'" in names and "*SpikeRegSample*" in TEXT


def test_the_self_test_command_is_that_of_the_driver():
    (command,) = [line for line in TEXT.splitlines() if line.startswith("Slicer --testing")]
    driver = (ROOT / "Testing" / "selftest_in_slicer.py").read_text(encoding="utf-8")
    assert command in " ".join(ast.get_docstring(ast.parse(driver)).replace("\\\n", " ").split())
    assert all((ROOT / word).exists() for word in command.split() if word.startswith(("SpikeReg", "Testing")))
