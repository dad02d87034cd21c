"""The output folder of a person's visits: all files or none."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.outputs.accounts import LONGITUDINAL, replaceable
from SpikeRegLib.outputs.folder import INVERSE_STEP_MM, check_results_folder, staged, write_account
from SpikeRegLib.system import interrupt

if TYPE_CHECKING:
    from SpikeRegLib.groups.visits import ComparedVisits

CHANGE_COLUMNS = ("id", "structure", "ml_first", "ml_later", "change_percent")


def write_visits(compared: ComparedVisits, folder: str | Path) -> Path:
    """Write everything `spikereg longitudinal` promises into `folder` and return it.

    The files appear together when all are written; after an error, a full disk or an interrupt `folder` is as it was.

    Args:
        compared: to be written; its `result` gets `files`, the SHA-256 of every file but longitudinal.json.
        folder: made if it is not there.

    Raises:
        InputError: the folder cannot be written or the disk is full, or something that no longitudinal.json there
            accounts for lies where a file goes.
        Cancelled: a signal or `interrupt.ask` told the run to stop before its files were complete.
    """
    from SpikeRegLib.images.volumes import write_volume
    from SpikeRegLib.space.transforms import write_transform

    folder = Path(folder)
    check_results_folder(folder, LONGITUDINAL)
    with staged(folder, partial(replaceable, kind=LONGITUDINAL)) as staging:
        write_volume(compared.mid, staging / "mid.nii.gz")
        write_volume(compared.labels, staging / "labels.nii.gz")
        for number, visit in enumerate(compared.visits):
            interrupt.check()
            place = staging / "visits" / visit.name
            place.mkdir(parents=True)
            write_volume(visit.in_mid, place / "in_mid.nii.gz")
            write_transform(visit.to_visit, place / "to_visit.h5")
            write_transform(visit.to_mid, place / "to_mid.h5", step_mm=INVERSE_STEP_MM)
            if number:
                pair = staging / "pairs" / visit.name
                pair.mkdir(parents=True)
                write_volume(compared.jacobian(number), pair / "jacobian.nii.gz")
        with (staging / "changes.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, CHANGE_COLUMNS, extrasaction="ignore")
            table.writeheader()
            for row in compared.changes:
                numbers = {key: f"{row[key]:.4f}" for key in ("ml_first", "ml_later", "change_percent")}
                table.writerow({**row, **numbers})
        write_account(compared.result, staging / "longitudinal.json")
    return folder
