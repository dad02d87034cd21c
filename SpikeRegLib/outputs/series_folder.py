"""The output folder of a series: all files or none."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.outputs.accounts import SERIES, replaceable
from SpikeRegLib.outputs.folder import check_results_folder, staged, write_account
from SpikeRegLib.system import interrupt

if TYPE_CHECKING:
    from SpikeRegLib.groups.series import AlignedSeries

MOTION_COLUMNS = (
    "frame", "x_mm", "y_mm", "z_mm", "about_x_degrees", "about_y_degrees", "about_z_degrees",
    "framewise_displacement_mm",
)  # fmt: skip


def write_aligned_series(aligned: AlignedSeries, folder: str | Path) -> Path:
    """Write everything `spikereg series` promises into `folder` and return it.

    The files appear together when all are written; after an error, a full disk or an interrupt `folder` is as it was.

    Args:
        aligned: to be written; its `result` gets `files`, the SHA-256 of every file but series.json.
        folder: made if it is not there.

    Raises:
        InputError: the folder cannot be written or the disk is full, or something that no series.json there accounts
            for lies where a file goes.
        Cancelled: a signal or `interrupt.ask` told the run to stop before its files were complete.
    """
    from SpikeRegLib.images.series import write_series
    from SpikeRegLib.space.transforms import AffineTransform, write_transform

    folder = Path(folder)
    check_results_folder(folder, SERIES)
    with staged(folder, partial(replaceable, kind=SERIES)) as staging:
        write_series(aligned.series, staging / "series.nii.gz")
        (staging / "transforms").mkdir()
        for number, transform in enumerate(aligned.transforms):
            interrupt.check()
            kind = "tfm" if isinstance(transform, AffineTransform) else "h5"
            write_transform(transform, staging / "transforms" / f"{number:04d}.{kind}")
        with (staging / "motion.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(MOTION_COLUMNS)
            table.writerows([number, *(f"{value:.5f}" for value in row)] for number, row in enumerate(aligned.motion))
        write_account(aligned.result, staging / "series.json")
    return folder
