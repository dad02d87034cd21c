"""Which files in a folder are results of an earlier run of the same kind, so that a later one may replace them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError

# Everything a registration can write. A later run into the same folder removes those it does not write again, so that
# a folder never mixes two runs; none is removed that result.json does not list with its digest. result.json is removed
# first and comes last: where it stands, the rest is complete.
OUTPUT_NAMES = (
    "warped.nii.gz",
    "transform.h5",
    "inverse_transform.h5",
    "displacement.nii.gz",
    "jacobian.nii.gz",
    "predicted_error.nii.gz",
    "codes.safetensors",
    "warped_seg.nii.gz",
    "spikes",
    "report.html",
    "result.json",
)


@dataclass(frozen=True)
class Kind:
    """What one kind of run writes.

    Attributes:
        names: of all its files and folders.
        account: the one among them that lists the others with their digests.
        folders: which of the names are folders; all that lies in them is of the run.
    """

    names: tuple[str, ...]
    account: str
    folders: tuple[str, ...] = ()


REGISTRATION = Kind(OUTPUT_NAMES, "result.json", ("spikes",))
SEGMENTATION = Kind(("labels.nii.gz", "brain_mask.nii.gz", "brain.nii.gz", "segmentation.json"), "segmentation.json")
EVALUATION = Kind(("per_pair.csv", "per_label.csv", "evaluation.json"), "evaluation.json")
COMPARISON = Kind(("comparison.json",), "comparison.json")
GROUP = Kind(("template.nii.gz", "subjects", "group.json"), "group.json", ("subjects",))
LONGITUDINAL = Kind(
    ("mid.nii.gz", "labels.nii.gz", "visits", "pairs", "changes.csv", "longitudinal.json"), "longitudinal.json",
    ("visits", "pairs"),
)  # fmt: skip
SERIES = Kind(("series.nii.gz", "motion.csv", "transforms", "series.json"), "series.json", ("transforms",))
PHANTOMS = Kind(("phantoms", "phantom.csv", "phantom.html", "phantom.json"), "phantom.json", ("phantoms",))
_KINDS = (REGISTRATION, SEGMENTATION, EVALUATION, COMPARISON, GROUP, LONGITUDINAL, SERIES, PHANTOMS)
_ACCOUNTS = tuple(kind.account for kind in _KINDS)
# What desktops leave in every folder that somebody looks into.
_OF_DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini")


def files_below(folder: Path) -> list[str]:
    """Names of all files below `folder`, sorted, with slashes; what lists the others comes last."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(found, key=lambda name: (name in _ACCOUNTS, name))


def replaceable(folder: Path, kind: Kind = REGISTRATION) -> list[str]:
    """The files of an earlier run of this kind in `folder`, the one that lists the others first.

    Raises:
        InputError: names what bears the name of a result and is none, or was changed since.
    """
    remedy = "move it elsewhere or choose another folder"
    for below in (folder / name for name in kind.folders):
        if below.is_dir() and below.stat().st_dev != folder.stat().st_dev:
            raise InputError(f"{below}: is another file system, into which nothing can be moved at once; {remedy}")
    there = list(_named_like_results(folder, kind))
    if not there:
        return []
    accounts = _files_of(folder / kind.account)
    if accounts is None and kind.account in there:
        raise InputError(
            f"{folder / kind.account}: does not say which files belong to it, so nothing is replaced; {remedy}"
        )
    for name in there:
        path = folder / name
        if accounts is None or (name != kind.account and name not in accounts):
            raise InputError(f"{path}: was not written by a run whose {kind.account} lies there; {remedy}")
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: is no plain file, so it is not replaced; {remedy}")
        if name != kind.account and digest(path) != accounts[name]:
            raise InputError(f"{path}: was changed since the run that wrote it; {remedy}")
    return sorted(there, key=lambda name: (name != kind.account, name))


def _named_like_results(folder: Path, kind: Kind) -> Iterator[str]:
    """What lies in `folder` under the name of a result, with slashes; of a folder among them, every file."""
    for name in kind.names:
        path = folder / name
        if name in kind.folders and path.is_dir() and not path.is_symlink():
            for found in sorted(path.rglob("*")):
                if (found.is_symlink() or not found.is_dir()) and found.name not in _OF_DESKTOPS:
                    yield found.relative_to(folder).as_posix()
        elif os.path.lexists(path):
            yield name


def _files_of(path: Path) -> dict[str, Any] | None:
    """Name -> SHA-256 of the files that such a file accounts for; None where it is none of ours."""
    files = (read_account(path) or {}).get("files")
    return files if isinstance(files, dict) else None


def read_account(path: Path) -> dict[str, Any] | None:
    """A JSON object that a run wrote, known by its schema; None where there is none of ours."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) and "schema" in table else None


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()
