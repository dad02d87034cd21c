"""Configures, builds and installs the extension with the stand-in for Slicer's CMake package, and runs the result."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cmake_lists

ROOT = cmake_lists.ROOT
STAND_IN = Path(__file__).resolve().parent / "slicer_macros"
MODULES = Path("lib", "Slicer-5.12", "qt-scripted-modules")

# Runs at the start of every Python that has its folder on the path: hides what Slicer does not ship, and this
# repository where an editable install made it importable.
SITE = """
import sys
HIDDEN = {{"tqdm", "nibabel", "matplotlib", "snntorch", "monai", "pytest", "hypothesis", "PySide6"}}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{{name}} is not shipped with Slicer", name=name)
sys.meta_path[:] = [Hide(), *(finder for finder in sys.meta_path if "ditable" not in repr(finder))]
sys.path[:] = [entry for entry in sys.path if entry not in ({root!r}, {root!r} + "/SpikeRegSlicer")]
"""


def cmake(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True)


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    """Configure the extension in `source` as Slicer's build system does, but with the stand-in."""
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    return cmake("-S", source, "-B", build, f"-DSlicer_DIR={STAND_IN}", python, "-DCMAKE_BUILD_TYPE=Release")


def install(source: Path, folder: Path, *, compiled: bool = True) -> Installation:
    """Build in `folder` and install below it.

    Raises:
        AssertionError: cmake failed, with what it said.
    """
    build, prefix = folder / "build", folder / "prefix"
    steps = [configure(source, build)]
    if compiled:
        steps.append(cmake("--build", build))
    steps.append(cmake("--install", build, "--prefix", prefix))
    for step in steps:
        assert step.returncode == 0, step.stdout + step.stderr
    return Installation(source, build, prefix, folder)


def linked_copy(folder: Path) -> Path:
    """A copy of what CMake reads, of links to the files, with CMake files of its own to change."""
    for name in ("CMakeLists.txt", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for lists in cmake_lists.LISTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / lists.folder, folder / lists.folder, copy_function=os.symlink, ignore=ignored)
        own = folder / lists.folder / "CMakeLists.txt"
        own.unlink()
        shutil.copy(ROOT / lists.folder / "CMakeLists.txt", own)
    return folder


@dataclass(frozen=True)
class Installation:
    """An installed extension: `modules` is the folder where Slicer would find its scripted module."""

    source: Path
    build: Path
    prefix: Path
    folder: Path

    @property
    def modules(self) -> Path:
        return self.prefix / MODULES

    def differences(self) -> list[str]:
        """One sentence for each file of the source that is missing or other here, or that is only here."""
        expected = {}
        for lists in cmake_lists.LISTS:
            above = self.source / (lists.folder if lists.folder == "SpikeRegSlicer" else ".")
            for file in cmake_lists.files_below(self.source / lists.folder):
                path = self.source / lists.folder / file
                expected[path.relative_to(above).as_posix()] = path
        present = set(cmake_lists.files_below(self.modules))
        found = [f"{name} is not installed" for name in sorted(expected.keys() - present)]
        found += [f"{name} is not in the source" for name in sorted(present - expected.keys())]
        for name in sorted(present & expected.keys()):
            if not filecmp.cmp(self.modules / name, expected[name], shallow=False):
                found.append(f"{name} has other content")
        return found

    def python(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run Python with the installed tree, PyTorch, and what Slicer ships; elsewhere than in the repository."""
        site, elsewhere = self.folder / "site", self.folder / "elsewhere"
        for path in (site, elsewhere):
            path.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE.format(root=str(ROOT)), encoding="utf-8")
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (self.modules, site))))
        environment.setdefault("OMP_NUM_THREADS", "1")
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
