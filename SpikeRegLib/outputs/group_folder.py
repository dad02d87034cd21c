"""The output folder of a group: the template and every subject's transforms, all files or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.outputs.accounts import GROUP, replaceable
from SpikeRegLib.outputs.folder import INVERSE_STEP_MM, check_results_folder, staged, write_account
from SpikeRegLib.system import interrupt

if TYPE_CHECKING:
    from SpikeRegLib.groups.template import Group


def write_group(group: Group, folder: str | Path) -> Path:
    """Write everything `spikereg group` promises into `folder` and return it.

    Subjects are finished and written one after the other. The files appear together when all are written; after an
    error, a full disk or an interrupt `folder` is as it was.

    Args:
        group: whose rounds are done; its `result` gets `files`, the SHA-256 of every file but group.json.
        folder: made if it is not there.

    Raises:
        InputError: the folder cannot be written or the disk is full, or something that no group.json there accounts
            for lies where a file goes.
        Cancelled: a signal, `interrupt.ask` or the group's listener told the run to stop before all was written.
    """
    from SpikeRegLib.images.volumes import write_volume
    from SpikeRegLib.space.transforms import write_transform

    folder = Path(folder)
    check_results_folder(folder, GROUP)
    with staged(folder, partial(replaceable, kind=GROUP)) as staging:
        for subject in group.subjects():
            interrupt.check()
            place = staging / "subjects" / subject.name
            place.mkdir(parents=True)
            write_transform(subject.to_subject, place / "to_subject.h5")
            write_transform(subject.to_template, place / "to_template.h5", step_mm=INVERSE_STEP_MM)
        write_volume(group.template(), staging / "template.nii.gz")
        write_account(group.result, staging / "group.json")
    return folder
