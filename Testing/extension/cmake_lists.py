"""The file lists in CMake against the tree: `python Testing/extension/cmake_lists.py [--write]`.

Slicer installs what CMake lists. A file nobody listed works in a source tree and is missing after installation, and a
listed file that is gone stops the build. Without an option every difference is printed and the exit status is 1 if
there is one; with `--write` the lists are brought up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REMEDY = "`python Testing/extension/cmake_lists.py --write` brings the lists up to date"


@dataclass(frozen=True)
class FileLists:
    """The two lists of one folder: variables of the CMakeLists.txt in it, paths relative to it."""

    folder: str
    scripts: str
    resources: str


LISTS = (
    FileLists("SpikeRegSlicer", "MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"),
    FileLists("SpikeRegLib", "LIBRARY_PYTHON_SCRIPTS", "LIBRARY_RESOURCES"),
)


def files_below(folder: Path) -> list[str]:
    """Every file to install, relative to `folder`: no build files, caches or hidden files."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        ignored = path.name in ("CMakeLists.txt",) or path.suffix == ".pyc" or any(part[0] == "." for part in parts)
        if path.is_file() and not ignored:
            found.append("/".join(parts))
    return sorted(found)


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=^set\({name}\n).*?(?=^  \)$)", re.S | re.M)


def listed(text: str, name: str) -> list[str]:
    """Entries of the list `name` in the text of a CMake file.

    Raises:
        ValueError: the text has no such list, or it is not written one entry a line.
    """
    found = _block(name).search(text)
    if found is None:
        raise ValueError(f"no list {name}: a line `set({name}`, one file a line, and a line `  )` are expected")
    return [line.strip() for line in found.group().splitlines()]


def relisted(text: str, name: str, entries: Sequence[str]) -> str:
    """The text of a CMake file with other entries in the list `name`."""
    listed(text, name)
    return _block(name).sub(lambda _: "".join(f"  {entry}\n" for entry in entries), text, count=1)


def wanted(lists: FileLists, root: Path) -> dict[str, list[str]]:
    """What the tree asks each list to hold."""
    files = files_below(root / lists.folder)
    return {
        lists.scripts: [file for file in files if file.endswith(".py")],
        lists.resources: [file for file in files if not file.endswith(".py")],
    }


def differences(root: Path = ROOT) -> list[str]:
    """One sentence for each missing, surplus or repeated entry; empty when lists and tree agree."""
    found = []
    for lists in LISTS:
        path = f"{lists.folder}/CMakeLists.txt"
        text = (root / path).read_text(encoding="utf-8")
        for name, files in wanted(lists, root).items():
            entries = listed(text, name)
            found += [f"{path}: {name} lacks {file}" for file in files if file not in entries]
            found += [f"{path}: {name} names {entry}, which is not there" for entry in entries if entry not in files]
            found += [f"{path}: {name} repeats {e}" for e in sorted(set(entries)) if entries.count(e) > 1]
    return found


def write(root: Path = ROOT) -> None:
    """Bring the lists up to date; nothing else in the CMake files changes."""
    for lists in LISTS:
        path = root / lists.folder / "CMakeLists.txt"
        text = path.read_text(encoding="utf-8")
        for name, files in wanted(lists, root).items():
            text = relisted(text, name, files)
        path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the file lists in CMake with the tree.")
    parser.add_argument("--write", action="store_true", help="bring the lists up to date")
    if parser.parse_args(arguments).write:
        write()
    found = differences()
    print("\n".join([*found, REMEDY] if found else ["up to date"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
