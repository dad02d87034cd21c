"""Learn2Reg's lists of pairs: the JSON of a data set, or of its evaluation; the other files follow by convention.

Source: github.com/MDL-UzL/L2R (README, `evaluation/create_evaluation_config.py`, `evaluation/evaluation.py`). Images
are named `imagesTr/TASK_SSSS_MMMM.nii.gz` (subject and modality); labels, masks, landmarks and keypoints lie in folders
of those names. A field is `disp_SSSS_SSSS` (fixed, moving) or, with the modalities, `disp_SSSS_MMMM_SSSS_MMMM`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.pairs import Study, StudyPair, check_ids
from SpikeRegLib.text.json_text import read_json

_LISTS = ("eval_pairs", "registration_val", "registration_test")
_IMAGE = re.compile(r"_(\d{4})_(\d{4})\.nii\.gz$")


@dataclass(frozen=True)
class _Side:
    """An image as the list names it: below `root`, and of which subject and modality."""

    root: Path
    name: PurePosixPath
    subject: str
    modality: str

    def beside(self, folder: str, suffix: str = ".nii.gz") -> Path:
        """The file that belongs to it in another folder, as labels do."""
        parts = [part.replace("images", folder) for part in self.name.parts[:-1]]
        return self.root.joinpath(*parts, self.name.name.removesuffix(".nii.gz") + suffix)


def read_learn2reg_pairs(path: Path, root: Path | None = None) -> Study:
    """Read a list of pairs.

    `eval_pairs` of an evaluation are taken, else `registration_val`, else `registration_test`. An evaluation also says
    which labels are measured and whether masks are used. Label maps are measured where they are there, and landmarks,
    or else keypoints, in voxels of the images.

    Args:
        path: of the JSON.
        root: the folder that the names in it are relative to; that of the JSON by default.

    Raises:
        InputError: missing or malformed file, no pairs in it, or names that are no files of Learn2Reg below the folder.
    """
    table = _table(path)
    listed = next((table[key] for key in _LISTS if isinstance(table.get(key), list) and table[key]), None)
    if listed is None:
        raise InputError(f"{path}: lists no pairs ({', '.join(_LISTS)}); give the JSON of a data set of Learn2Reg")
    root = path.parent if root is None else root
    sides = [(_side(pair, "fixed", root, path), _side(pair, "moving", root, path)) for pair in listed]
    labels = _labels(table, path)
    masked = table.get("masked_evaluation") is True
    pairs = [_pair(fixed, moving, masked) for fixed, moving in sides]
    often = Counter(pair.id for pair in pairs)
    named = [pair if often[pair.id] == 1 else replace(pair, id=pair.fields[0][5:]) for pair in pairs]
    check_ids([pair.id for pair in named], str(path))
    return Study(str(table.get("task_name") or table.get("name") or path), tuple(named), labels)


def _table(path: Path) -> dict[str, Any]:
    try:
        table = read_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); give the JSON of a data set of Learn2Reg") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: lists no pairs ({', '.join(_LISTS)}); give the JSON of a data set of Learn2Reg")
    return table


def _side(pair: Any, key: str, root: Path, path: Path) -> _Side:
    name = pair.get(key) if isinstance(pair, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{path}: a pair has no {key} image ({pair!s:.60}); give fixed and moving")
    posix = PurePosixPath(name)
    match = _IMAGE.search(posix.name)
    if match is None or posix.is_absolute() or ".." in posix.parts or set(name) & set("\\:\0"):
        raise InputError(
            f"{path}: {name!r:.80} is no image below its folder, such as ./imagesTr/OASIS_0395_0000.nii.gz; correct it"
        )
    return _Side(root, posix, match[1], match[2])


def _labels(table: dict[str, Any], path: Path) -> tuple[int, ...] | None:
    """The labels of the metrics dice and hd95, where the file is of an evaluation."""
    methods = table.get("evaluation_methods")
    try:
        found = {int(label) for method in methods or () for label in method.get("labels", ())}
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: evaluation_methods has labels that are no numbers; correct them") from error
    return tuple(sorted(found)) or None


def _pair(fixed: _Side, moving: _Side, masked: bool) -> StudyPair:
    plain = fixed.modality == moving.modality or (fixed.modality, moving.modality) == ("0000", "0001")
    short = f"{fixed.subject}_{moving.subject}"
    long = f"{fixed.subject}_{fixed.modality}_{moving.subject}_{moving.modality}"
    points = _points(fixed, moving, plain)
    segmentations = fixed.beside("labels"), moving.beside("labels")
    measured = all(path.is_file() for path in segmentations) or points is None  # else the reason names the label map
    mask = fixed.beside("masks")
    return StudyPair(
        id=short if plain else long,
        fixed=fixed.root / fixed.name,
        moving=moving.root / moving.name,
        fixed_seg=segmentations[0] if measured else None,
        moving_seg=segmentations[1] if measured else None,
        fixed_points=None if points is None else points[0],
        moving_points=None if points is None else points[1],
        first_voxel=None if points is None else 0,
        fixed_mask=mask if masked and mask.is_file() else None,
        fields=(f"disp_{long}", f"disp_{short}") if plain else (f"disp_{long}",),
        subjects=(fixed.subject, moving.subject),
    )


def _points(fixed: _Side, moving: _Side, plain: bool) -> tuple[Path, Path] | None:
    """The files of landmarks, or else of keypoints, whose folder may name both modalities where these differ."""
    low, high = sorted((fixed.modality, moving.modality))
    suffixes = ("",) if plain else (low + high, f"{int(low)}{int(high)}", "")
    for kind in ("landmarks", "keypoints"):
        for suffix in suffixes:
            found = fixed.beside(kind + suffix, ".csv"), moving.beside(kind + suffix, ".csv")
            if all(path.is_file() for path in found):
                return found
    return None
