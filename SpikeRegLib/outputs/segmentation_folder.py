"""The output folder of a segmentation: all files or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.outputs.accounts import SEGMENTATION, replaceable
from SpikeRegLib.outputs.folder import check_results_folder, staged, write_account
from SpikeRegLib.system import interrupt

if TYPE_CHECKING:
    from SpikeRegLib.anatomy.segmentation import Segmentation


def write_segmentation(segmentation: Segmentation, folder: str | Path) -> Path:
    """Write everything `spikereg segment` promises into `folder` and return it.

    The files appear together when all are written; after an error, a full disk or an interrupt `folder` is as it was.

    Args:
        segmentation: to be written; its `result` gets `files`, the SHA-256 of every file but segmentation.json.
        folder: made if it is not there.

    Raises:
        InputError: the folder cannot be written or the disk is full, or something that no segmentation.json there
            accounts for lies where a file goes.
        Cancelled: a signal or `interrupt.ask` told the run to stop before its files were complete.
    """
    from SpikeRegLib.images.volumes import write_volume

    folder = Path(folder)
    check_results_folder(folder, SEGMENTATION)
    with staged(folder, partial(replaceable, kind=SEGMENTATION)) as staging:
        for name, volume in (
            ("labels.nii.gz", segmentation.labels),
            ("brain_mask.nii.gz", segmentation.mask),
            ("brain.nii.gz", segmentation.brain),
        ):
            interrupt.check()
            write_volume(volume, staging / name)
        write_account(segmentation.result, staging / "segmentation.json")
    return folder
