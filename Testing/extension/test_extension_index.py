"""What the extensions index and catalog ask of an extension's repository, checked without the network."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
NAME = "SpikeReg"
REPOSITORY = "https://github.com/SlicerSpikeReg/SlicerSpikeReg"
RAW = REPOSITORY.replace("https://github.com", "https://raw.githubusercontent.com") + "/main/"
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = json.loads((ROOT / f"{NAME}.json").read_text(encoding="utf-8"))
REQUIREMENTS = ROOT / "SpikeRegSlicer" / "Resources" / "requirements.txt"
SHIPPED = {"numpy", "scipy", "SimpleITK", "requests", "pydicom", "packaging"}  # by Slicer 5.12 with its Python
LIMIT = 100e6  # bytes


def metadata(key: str) -> str:
    """The value of EXTENSION_`key`, read as the index reads it: one quoted string on one line."""
    (value,) = re.findall(rf'^set\(EXTENSION_{key} "([^"\n]+)"\)$', CMAKE, re.M)
    return value


def in_repository(url: str) -> Path:
    assert url.startswith(RAW), f"{url} is not of this repository's main branch"
    return ROOT / url.removeprefix(RAW)


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n", f"{path.name} is no PNG"
    return struct.unpack(">II", header[16:24])


def test_project_entry_and_repository_have_the_name_of_the_extension():
    assert re.findall(r"project\s*\(\s*([^\s)]+)", CMAKE, re.I) == [NAME]
    assert ENTRY["scm_url"] == metadata("HOMEPAGE") == REPOSITORY
    assert REPOSITORY.rsplit("/", 1)[1] == f"Slicer{NAME}"


def test_the_entry_has_the_keys_of_the_schema():
    kinds = {
        "$schema": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "category": str,
        "scm_revision": str,
        "scm_url": str,
        "tier": int,
    }
    assert {key: type(value) for key, value in ENTRY.items()} == kinds
    assert re.search(r"/slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$", ENTRY["$schema"])
    assert ENTRY["tier"] in (1, 3, 5) and ENTRY["category"] == metadata("CATEGORY") == "Registration"
    assert list(ENTRY) == sorted(ENTRY)


def test_torch_comes_from_the_pytorch_extension_alone():
    assert ENTRY["build_dependencies"] == [metadata("DEPENDS")] == ["PyTorch"]


def test_the_description_is_one_or_two_sentences():
    sentences = re.findall(r"[^.]+\.(?: |$)", metadata("DESCRIPTION"))
    assert "".join(sentences) == metadata("DESCRIPTION") and 1 <= len(sentences) <= 2


def test_the_icon_is_128_pixels_square_and_that_of_the_module():
    icon = in_repository(metadata("ICONURL"))
    assert icon == ROOT / "SpikeRegSlicer" / "Resources" / "Icons" / "SpikeRegSlicer.png"
    assert png_size(icon) == (128, 128)


def test_every_screenshot_is_in_the_repository():
    screenshots = [in_repository(url) for url in metadata("SCREENSHOTURLS").split(" ")]
    assert screenshots and all(path.is_file() for path in screenshots), screenshots
    assert all(min(png_size(path)) >= 200 for path in screenshots)


def test_licence_and_readme_say_what_the_catalog_asks():
    assert (ROOT / "LICENSE").is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {NAME}\n")
    for part in ("Apache-2.0", "Docs/tutorial.md", "## In 3D Slicer"):
        assert part in readme, part


def tracked_bytes() -> int:
    """Size of what a clone checks out."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return sum((ROOT / name).stat().st_size for name in listing.decode().split("\0") if (ROOT / name).is_file())


def test_repository_and_history_stay_below_100_mb():
    if not (ROOT / ".git").exists():
        pytest.skip("SIZE OF THE REPOSITORY NOT CHECKED: this tree is a copy without its .git")
    history = subprocess.run(["git", "count-objects", "-v"], cwd=ROOT, capture_output=True, check=True, text=True)
    counts = dict(line.split(": ") for line in history.stdout.splitlines())
    packed = 1024 * (int(counts["size"]) + int(counts["size-pack"]))
    assert tracked_bytes() < LIMIT and packed < LIMIT, (tracked_bytes(), packed)


def requirements() -> list[Requirement]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_requirements_never_replace_what_slicer_or_pytorch_bring():
    assert not {one.name.lower() for one in requirements()} & {name.lower() for name in SHIPPED | {"torch"}}


def test_requirements_pin_no_version_and_give_pip_no_options():
    assert all(clause.operator == ">=" for one in requirements() for clause in one.specifier)
    assert not any(line.startswith("-") for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())


def imported(path: Path) -> set[str]:
    """Top-level packages a file imports anywhere, but for imports whose failure it handles."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    handled = {id(node) for attempt in ast.walk(tree) if isinstance(attempt, ast.Try) for node in ast.walk(attempt)}
    old_python = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "version_info" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in handled | old_python:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_requirements_are_what_the_library_needs_beyond_slicer_and_torch():
    """Training is left out: it is done from the command line, not in Slicer."""
    library = ROOT / "SpikeRegLib"
    paths = [path for path in library.rglob("*.py") if "training" not in path.relative_to(library).parts]
    needed = set().union(*(imported(path) for path in paths))
    needed -= set(sys.stdlib_module_names) | SHIPPED | {"torch", "SpikeRegLib"}
    assert needed == {one.name for one in requirements()}
