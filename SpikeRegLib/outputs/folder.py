"""The output folder of a registration: written under a hidden name, put in place whole, or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.errors import InputError, SpikeRegError
from SpikeRegLib.outputs.accounts import OUTPUT_NAMES, REGISTRATION, Kind, digest, files_below, replaceable
from SpikeRegLib.outputs.publishing import hidden_beside, put_in_place, settle, sweep
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.atomic_files import NO_SPACE, disk_is_full, prove_space, unwritable
from SpikeRegLib.system.foreign_prints import without_foreign_prints

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration

# The inverse is itself found to hundredths of a millimetre: rounding moves no point by more than half of this.
INVERSE_STEP_MM = 2.0**-10
# As long as the longest name of a file that is written, with what its temporary name adds.
_LONGEST_NAME = "n" * 64


def check_writable(folder: str | Path) -> None:
    """Make sure that `folder` can be made or filled, before any work is spent.

    Raises:
        InputError: it is a file, lies below one, is a link to nothing, has a name that is too long, or may not be
            written.
    """
    folder = Path(folder)
    probe = hidden_beside(folder)
    missing = folder.absolute().relative_to(probe.parent)
    try:
        if missing.parts and os.path.islink(link := probe.parent / missing.parts[0]):
            raise InputError(
                f"{folder}: output folder cannot be written ({link} is a link to {os.readlink(link)}, which does not "
                "exist); make that folder or choose another one"
            )
        try:
            (probe / missing).mkdir(parents=True)
            (probe / missing / _LONGEST_NAME).touch()
        finally:
            shutil.rmtree(probe, ignore_errors=True)
    except (OSError, ValueError) as error:
        if disk_is_full(error, probe.parent):
            raise unwritable(folder, error, probe.parent) from error
        reason = "is a file" if os.path.isfile(folder) else getattr(error, "strerror", None) or str(error)
        raise InputError(f"{folder}: output folder cannot be written ({reason}); choose another one") from error


def check_results_folder(folder: str | Path, kind: Kind = REGISTRATION) -> None:
    """Make sure that the results of a run of this kind can go into `folder`, before any work is spent.

    What a run that was killed while it put its results there has left is finished or undone first.

    Raises:
        InputError: see `check_writable`; or something bears the name of a result and no result.json (or
            what else such a run accounts with) lying there says so, so that it must not be replaced.
    """
    folder = Path(folder)
    check_writable(folder)
    settle(folder)
    replaceable(folder, kind)


def write_outputs(registration: Registration, folder: str | Path, only: Collection[str] | None = None) -> Path:
    """Write everything `spikereg register` promises into `folder` and return it.

    The files appear together when all are written; after an error, a full disk or an interrupt `folder` is as it was,
    and after a kill the next run, or `publishing.settle`, makes it so or completes it.

    Args:
        registration: to be written; its `result` gets `files`, the SHA-256 of every file written but result.json.
        folder: made if it is not there.
        only: the names among `OUTPUT_NAMES` that are wanted; all if not given. result.json is always written.

    Raises:
        InputError: the folder cannot be written or the disk is full, a name is unknown, or something that is no result
            of SpikeReg lies where one goes.
        Cancelled: a signal or `interrupt.ask` told the run to stop before its files were complete.
    """
    from SpikeRegLib.images.volumes import write_volume
    from SpikeRegLib.report import write_report
    from SpikeRegLib.space.transforms import DisplacementTransform, write_transform

    wanted = set(OUTPUT_NAMES if only is None else only)
    if unknown := wanted.difference(OUTPUT_NAMES):
        raise InputError(f"outputs: {', '.join(sorted(unknown))} unknown; choose among {', '.join(OUTPUT_NAMES)}")
    folder = Path(folder)
    check_results_folder(folder)

    def write_displacement(path: Path) -> None:
        write_transform(DisplacementTransform(registration.displacement, registration.fixed.frame), path)

    def write_spikes(path: Path) -> None:
        path.mkdir()
        for layer, rate in registration.spike_maps.items():
            interrupt.check()
            write_volume(rate, path / f"{layer}.nii.gz")

    def write_coded(path: Path) -> None:
        from SpikeRegLib.neural_field.files import write_codes

        assert registration.coded is not None
        write_codes(registration.coded, path)

    labels, error = registration.warped_labels, registration.predicted_error
    writers: dict[str, Callable[[Path], None] | None] = {
        "warped.nii.gz": partial(write_volume, registration.warped),
        "transform.h5": partial(write_transform, registration.transform),
        "inverse_transform.h5": partial(write_transform, registration.inverse, step_mm=INVERSE_STEP_MM),
        "displacement.nii.gz": write_displacement,
        "jacobian.nii.gz": partial(write_volume, registration.jacobian),
        "predicted_error.nii.gz": None if error is None else partial(write_volume, error),
        "codes.safetensors": None if registration.coded is None else write_coded,
        "warped_seg.nii.gz": None if labels is None else partial(write_volume, labels),
        "spikes": write_spikes if registration.spike_maps else None,
        "report.html": partial(write_report, registration),
        "result.json": partial(write_account, registration.result),
    }
    with staged(folder, replaceable) as staging:
        for name, write in writers.items():
            if write is not None and (name in wanted or name == "result.json"):
                interrupt.check()
                write(staging / name)
    return folder


def write_account(result: dict[str, Any], path: Path) -> None:
    """Write `result` as JSON; it gets `files`, the SHA-256 of every file that lies beside `path`."""
    result["files"] = {name: digest(path.parent / name) for name in files_below(path.parent)}
    path.write_text(json.dumps(finite_or_null(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finite_or_null(value: Any) -> Any:
    """`value` with plain JSON types only: NaN and infinity, which JSON has no word for, become null."""
    if isinstance(value, dict):
        return {str(key): finite_or_null(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy and torch numbers and arrays
        return finite_or_null(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value


@contextmanager
def staged(folder: Path, replaced: Callable[[Path], Sequence[str]]) -> Iterator[Path]:
    """A hidden folder whose files appear in `folder` all together, or not at all, when the block is done.

    Args:
        folder: made if it is not there.
        replaced: see `publishing.put_in_place`.

    Raises:
        InputError: the folder cannot be written, the disk is full, or something is in the way.
    """
    staging, complete = hidden_beside(folder), False
    try:
        with _one_clear_error(staging, folder):
            staging.mkdir()
            sweep(staging)
            yield staging
            prove_space(staging, on_disk=True)
            interrupt.commit()
            complete = True
    finally:
        if not complete:
            shutil.rmtree(staging, ignore_errors=True)
    _publish(staging, folder, replaced)


def _publish(staging: Path, folder: Path, replaced: Callable[[Path], Sequence[str]]) -> None:
    try:
        put_in_place(staging, folder, replaced, files_below(staging))
    except OSError as error:
        if error.errno in NO_SPACE:
            raise unwritable(folder, error, folder.parent) from error
        raise InputError(
            f"{error.filename or folder}: cannot be moved ({error.strerror or error}), so {folder} is as it was; close "
            "what uses the file or choose another folder"
        ) from error


@contextmanager
def _one_clear_error(hidden: Path, wanted: Path) -> Iterator[None]:
    """Whatever goes wrong while `hidden` is written becomes one line about `wanted`; ITK's own prints are dropped."""
    try:
        with without_foreign_prints():
            yield
    except (OSError, RuntimeError, SpikeRegError) as error:
        if isinstance(error, OSError) or disk_is_full(error, hidden.parent):
            raise unwritable(wanted, error, hidden.parent) from error
        if isinstance(error, SpikeRegError):
            raise type(error)(str(error).replace(str(hidden), str(wanted))) from error
        raise
