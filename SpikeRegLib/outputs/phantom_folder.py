"""The output folder of a commissioning: all files or none."""

from __future__ import annotations

import csv
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from SpikeRegLib.commissioning.page import render_page
from SpikeRegLib.outputs.accounts import PHANTOMS, replaceable
from SpikeRegLib.outputs.folder import check_results_folder, staged, write_account


def write_phantoms(made: Path, result: dict[str, Any], folder: str | Path) -> Path:
    """Put the phantoms and what was found of them into `folder` and return it.

    Args:
        made: folder with one folder a phantom, as `campaign.commission` fills it.
        result: what it returned; gets `files`, the SHA-256 of every file but phantom.json.
        folder: made if it is not there.

    Raises:
        InputError: the folder cannot be written or the disk is full, or something that no phantom.json there accounts
            for lies where a file goes.
    """
    folder = Path(folder)
    check_results_folder(folder, PHANTOMS)
    rows = result["phantoms"]
    with staged(folder, partial(replaceable, kind=PHANTOMS)) as staging:
        shutil.copytree(made, staging / "phantoms")
        if all("passed" in row for row in rows.values()):
            columns = list(next(iter(rows.values())))
            with (staging / "phantom.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["phantom", *columns])
                table.writerows([name, *(row[column] for column in columns)] for name, row in rows.items())
            (staging / "phantom.html").write_text(render_page(result), encoding="utf-8")
        write_account(result, staging / "phantom.json")
    return folder
