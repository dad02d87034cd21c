"""The folder of an evaluation or a comparison: all files or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from SpikeRegLib.outputs.accounts import COMPARISON, EVALUATION, replaceable
from SpikeRegLib.outputs.folder import check_results_folder, staged, write_account
from SpikeRegLib.studies.tables import per_label_csv, per_pair_csv


def write_evaluation(evaluation: dict[str, Any], folder: Path) -> Path:
    """Write evaluation.json, per_pair.csv and per_label.csv into `folder` and return it.

    Args:
        evaluation: as `evaluate_study` returns it; it gets `files`, the SHA-256 of the tables.
        folder: made if it is not there; an earlier evaluation in it is replaced.

    Raises:
        InputError: the folder cannot be written, or something that is no evaluation lies where a file goes.
    """
    check_results_folder(folder, EVALUATION)
    with staged(folder, partial(replaceable, kind=EVALUATION)) as staging:
        (staging / "per_pair.csv").write_text(per_pair_csv(evaluation), encoding="utf-8")
        (staging / "per_label.csv").write_text(per_label_csv(evaluation), encoding="utf-8")
        write_account(evaluation, staging / EVALUATION.account)
    return folder


def write_comparison(comparison: dict[str, Any], folder: Path) -> Path:
    """Write comparison.json into `folder` and return it; arguments and errors as in `write_evaluation`."""
    check_results_folder(folder, COMPARISON)
    with staged(folder, partial(replaceable, kind=COMPARISON)) as staging:
        write_account(comparison, staging / COMPARISON.account)
    return folder
