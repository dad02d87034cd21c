"""Results under the names that BIDS has for derivatives, with the files that describe them.

A transform is named after what it does to images, as the drafts of BIDS and fMRIPrep have it: `from-T1w_to-X_xfm`
resamples the T1-weighted image onto X, so it maps points of X to points of the T1-weighted image.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from SpikeRegLib import __version__
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.bids.work import Work
from SpikeRegLib.cohort.manifest import SEGMENT
from SpikeRegLib.errors import InputError
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.json_text import read_json

BIDS_VERSION = "1.10.0"
_NAME = "SpikeReg"
# Transforms have no names in the standard yet, but in its draft BEP014.
_IGNORED = ("*.html", "/work", "group_*", "*_xfm.h5", "*_xfm.json")
_README = """\
Made by SpikeReg from the T1-weighted images of a BIDS data set. `_from-A_to-B_mode-image_xfm.h5` resamples an image
of A onto B: it maps points of B to points of A (ITK, LPS mm). `_dseg` has FreeSurfer's numbers. Research software, no
medical device: look at the reports (sub-*.html) before you use any of it.
"""
_REMEDY = "choose another output folder"


def check_derivatives(out: Path) -> None:
    """Refuse a folder that holds somebody else's data set, before any work.

    Raises:
        InputError: it does.
    """
    path = out / "dataset_description.json"
    if not os.path.lexists(path):
        if out.is_dir() and any(out.glob("sub-*")):
            raise InputError(f"{out}: holds subjects and no dataset_description.json of SpikeReg; {_REMEDY}")
        return
    try:
        table = read_json(path.read_bytes())
        makers = [maker.get("Name") for maker in table.get("GeneratedBy", [])]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    if _NAME not in makers:
        raise InputError(f"{path}: describes a data set that SpikeReg did not make; {_REMEDY}")


def describe(out: Path, source: Path) -> None:
    """Write `dataset_description.json`, `README` and `.bidsignore`.

    Raises:
        InputError: they cannot be written.
    """
    _write_json(
        out / "dataset_description.json",
        {
            "Name": "SpikeReg registrations and segmentations",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": _NAME, "Version": __version__, "Description": "registration of T1w images"}],
            "SourceDatasets": [{"URL": source.absolute().as_uri()}],
        },
    )
    with atomic_output(out / "README") as temporary:
        temporary.write_text(_README, encoding="utf-8")
    with atomic_output(out / ".bidsignore") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in _IGNORED), encoding="utf-8")


def publish(work: Work, folder: Path, out: Path) -> None:
    """Give the results of a finished row their names among the derivatives; they share their space on disk.

    Args:
        work: the row.
        folder: its results.
        out: root of the derivatives.

    Raises:
        InputError: they cannot be written.
    """
    try:
        if work.row.what == SEGMENT:
            _publish_segmentation(work, folder, out)
        else:
            _publish_registration(work, folder, out)
    except OSError as error:
        raise InputError(f"{error.filename or out}: cannot be written ({error.strerror}); check the folder") from error


def _publish_registration(work: Work, folder: Path, out: Path) -> None:
    image, to = work.image, work.to
    place = out / image.folder
    place.mkdir(parents=True, exist_ok=True)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    facts = {
        "GeneratedBy": f"{_NAME} {__version__}",
        "Sources": [str(image.path), str(work.fixed)],
        "Preset": result.get("preset"),
        "Verdict": (result.get("verdict") or {}).get("level"),
    }
    for name, frm, target in (("transform.h5", "T1w", to), ("inverse_transform.h5", to, "T1w")):
        stem = f"{image.stem}_from-{frm}_to-{target}_mode-image_xfm"
        _same_file(folder / name, place / f"{stem}.h5")
        _write_json(place / f"{stem}.json", facts)
    stem = f"{image.stem}_space-{to}_T1w"
    _same_file(folder / "warped.nii.gz", place / f"{stem}.nii.gz")
    _write_json(place / f"{stem}.json", {**facts, "SkullStripped": False, "SpatialReference": str(work.fixed)})
    _same_file(folder / "report.html", out / f"{image.stem}_to-{to}.html")


def _publish_segmentation(work: Work, folder: Path, out: Path) -> None:
    image = work.image
    place = out / image.folder
    place.mkdir(parents=True, exist_ok=True)
    result = json.loads((folder / "segmentation.json").read_text(encoding="utf-8"))
    facts: dict[str, Any] = {"GeneratedBy": f"{_NAME} {__version__}", "Sources": [str(image.path)]}
    _same_file(folder / "labels.nii.gz", place / f"{image.stem}_dseg.nii.gz")
    _write_json(place / f"{image.stem}_dseg.json", {**facts, "Manual": False, "Confidence": result.get("confidence")})
    _same_file(folder / "brain_mask.nii.gz", place / f"{image.stem}_desc-brain_mask.nii.gz")
    _write_json(place / f"{image.stem}_desc-brain_mask.json", {**facts, "Type": "Brain"})
    with atomic_output(place / f"{image.stem}_dseg.tsv") as temporary:
        rows = [f"{label}\t{structure.name}\n" for label, structure in STRUCTURES.items()]
        temporary.write_text("index\tname\n" + "".join(rows), encoding="utf-8")


def _same_file(source: Path, target: Path) -> None:
    """The file under a second name; a copy where the file system has no such names. What was there is replaced."""
    with atomic_output(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            shutil.copyfile(source, temporary)


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
