"""Public data sets that are known by name, and what of them has to be converted before it can be registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import check_writable, staged
from SpikeRegLib.studies import dir_lab, oasis
from SpikeRegLib.studies.manifest import manifest_text
from SpikeRegLib.studies.pairs import Study, StudyPair
from SpikeRegLib.system import interrupt

DATASETS: dict[str, Callable[[Path], Study]] = {oasis.NAME: oasis.oasis, dir_lab.NAME: dir_lab.dir_lab}


def read_dataset(name: str, root: Path) -> Study:
    """The pairs of a data set that lies below `root` as it is distributed.

    Raises:
        InputError: an unknown name, no such folder, or a missing file; names the first one.
    """
    if name not in DATASETS:
        raise InputError(f"--dataset: {name} is unknown; choose among {', '.join(DATASETS)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one with the data set {name} as it is distributed")
    return DATASETS[name](root)


def write_manifest(study: Study, path: Path) -> Path:
    """Write the manifest with which `spikereg cohort` registers the pairs of a study and `evaluate` measures them.

    Images without a header and landmarks in voxels are converted, to .nii.gz and .csv in LPS mm, into a folder beside
    the manifest, named like it with `-files`. The manifest and that folder appear together.

    Args:
        study: its pairs.
        path: of the manifest, `.csv`. It must not be there yet.

    Returns:
        `path`.

    Raises:
        InputError: another extension, a file or folder that is there, an image that is missing or unreadable, or a
            folder that cannot be written.
    """
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: unknown file type; name the manifest .csv")
    made = path.with_name(f"{path.stem}-files")
    for there in (path, made):
        if there.exists() or there.is_symlink():
            raise InputError(f"{there}: is there already and is not replaced; give the manifest another name")
    for pair in study.pairs:
        for file in pair.files():
            if not file.is_file():
                raise InputError(f"{file}: no such file; complete the data set {study.name}")
    check_writable(path.parent)
    with staged(path.parent, lambda folder: []) as staging:
        rows = [_row(pair, staging / made.name, made.name) for pair in study.pairs]
        (staging / path.name).write_text(manifest_text(rows), encoding="utf-8")
    return path


def _row(pair: StudyPair, folder: Path, name: str) -> dict[str, str]:
    """The line of a pair; what has to be converted is written into `folder`, which the manifest calls `name`."""
    from SpikeRegLib.images.points import write_points  # with torch
    from SpikeRegLib.images.volumes import read_labels, write_volume
    from SpikeRegLib.studies.landmarks import read_landmarks

    interrupt.check()
    row = {"id": pair.id}
    for column in ("fixed", "moving", "fixed_seg", "moving_seg"):
        path = getattr(pair, column)
        row[column] = "" if path is None else str(path.absolute())
    for side in ("fixed", "moving"):
        frame = pair.fixed_frame if side == "fixed" else pair.moving_frame
        image, points = getattr(pair, side), getattr(pair, f"{side}_points")
        if frame is not None and image is not None:
            folder.mkdir(exist_ok=True)
            write_volume(replace(dir_lab.read_raw(image, frame), name=""), folder / f"{pair.id}_{side}.nii.gz")
            row[side] = f"{name}/{pair.id}_{side}.nii.gz"
        if points is None:
            continue
        if pair.first_voxel is None:
            row[f"{side}_points"] = str(points.absolute())
            continue
        if frame is None:
            from SpikeRegLib.images.files import read_array

            labels = getattr(pair, f"{side}_seg")
            frame = read_labels(labels).frame if labels is not None else read_array(image)[1]
        folder.mkdir(exist_ok=True)
        write_points(read_landmarks(points, frame, pair.first_voxel), folder / f"{pair.id}_{side}_points.csv")
        row[f"{side}_points"] = f"{name}/{pair.id}_{side}_points.csv"
    return row
