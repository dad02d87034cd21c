"""Where the transform of a pair lies in a folder of results: a registration's own, or a submission to Learn2Reg."""

from __future__ import annotations

from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.pairs import Study, StudyPair

TRANSFORM = "transform.h5"
_FIELD_EXTENSIONS = (".npz", ".nii.gz")


def transform_of(results: Path, pair: StudyPair) -> Path | None:
    """The file with the transform of a pair, fixed to moving; None where there is none.

    Args:
        results: holds ID/transform.h5 (ITK, LPS mm), or disp_XXXX_YYYY.npz or .nii.gz (voxels, see `voxel_fields`).
        pair: whose.
    """
    own = results / pair.id / TRANSFORM
    fields = (results / f"{name}{extension}" for name in pair.fields for extension in _FIELD_EXTENSIONS)
    return next((path for path in (own, *fields) if path.is_file()), None)


def is_voxel_field(path: Path) -> bool:
    """Whether a file that `transform_of` found holds displacements in voxels."""
    return path.name != TRANSFORM


def expected(results: Path, pair: StudyPair) -> str:
    """What `transform_of` looks for, for a message."""
    fields = [str(results / f"{name}.nii.gz") for name in pair.fields[:1]]
    return " or ".join([str(results / pair.id / TRANSFORM), *fields])


def check_results(results: Path, study: Study) -> None:
    """Make sure that there is anything to measure.

    Raises:
        InputError: no such folder, or no transform of any pair in it.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the one with the results of a study")
    if not any(transform_of(results, pair) for pair in study.pairs):
        raise InputError(
            f"{results}: holds no transform of the {len(study.pairs)} pairs of {study.name}, such as "
            f"{expected(results, study.pairs[0])}; check the folder and the ids"
        )
