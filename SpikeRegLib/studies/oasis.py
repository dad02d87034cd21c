"""OASIS as Learn2Reg distributes it: 19 pairs of consecutive subjects, 35 labels, skull-stripped and aligned.

Two editions hold the same validation subjects under other numbers: that of 2021 `img0438.nii.gz` to `img0457.nii.gz`
with `seg0438.nii.gz` ..., the later one `imagesTr/OASIS_0395_0000.nii.gz` to `0414` with `labelsTr/`. Every subject is
fixed for the next one. Source: github.com/MDL-UzL/L2R, `OASIS_VAL_evaluation_config.json`, for the later edition;
public code that reads the files of 2021 for the former.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.pairs import Study, StudyPair

NAME = "oasis-learn2reg"
LABELS = tuple(range(1, 36))
_SUBJECTS = range(395, 415)
_SUBJECTS_2021 = range(438, 458)
_FOLDER_2021 = "L2R_2021_Task3_val"


def oasis(root: Path) -> Study:
    """The pairs of the validation set below `root`, in the edition that lies there.

    Raises:
        InputError: neither edition is there, or one of its label maps is missing; names the first missing file.
    """
    older = next((folder for folder in (root, root / _FOLDER_2021) if (folder / "seg0438.nii.gz").is_file()), None)
    pairs = [_pair_2021(older, *two) for two in pairwise(_SUBJECTS_2021)] if older else []
    pairs = pairs or [_pair(root, *two) for two in pairwise(_SUBJECTS)]
    for pair in pairs:
        for path in (pair.fixed_seg, pair.moving_seg):
            if path is not None and not path.is_file():
                raise InputError(
                    f"{path}: no such file; give the folder of Learn2Reg's OASIS with imagesTr and labelsTr, or of its "
                    "edition of 2021 with img0438.nii.gz and seg0438.nii.gz"
                )
    return Study(NAME, tuple(pairs), LABELS)


def _pair(root: Path, fixed: int, moving: int) -> StudyPair:
    first, second = (f"OASIS_{subject:04}_0000.nii.gz" for subject in (fixed, moving))
    return StudyPair(
        f"{fixed:04}_{moving:04}",
        fixed=root / "imagesTr" / first,
        moving=root / "imagesTr" / second,
        fixed_seg=root / "labelsTr" / first,
        moving_seg=root / "labelsTr" / second,
        fields=(f"disp_{fixed:04}_0000_{moving:04}_0000", f"disp_{fixed:04}_{moving:04}"),
        subjects=(f"{fixed:04}", f"{moving:04}"),
    )


def _pair_2021(folder: Path, fixed: int, moving: int) -> StudyPair:
    return StudyPair(
        f"{fixed:04}_{moving:04}",
        fixed=folder / f"img{fixed:04}.nii.gz",
        moving=folder / f"img{moving:04}.nii.gz",
        fixed_seg=folder / f"seg{fixed:04}.nii.gz",
        moving_seg=folder / f"seg{moving:04}.nii.gz",
        fields=(f"disp_{fixed:04}_{moving:04}",),
        subjects=(f"{fixed:04}", f"{moving:04}"),
    )
