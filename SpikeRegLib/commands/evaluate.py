"""`spikereg evaluate`: one saved transform measured, as JSON; or a study of many pairs, see `evaluate_study`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from SpikeRegLib.commands.evaluate_study import add_study_arguments, asks_for_study, run_study
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import finite_or_null
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.system import interrupt
from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.ranges import LABEL, within_all

_EXAMPLES = """\
one transform: figures as JSON on stdout. Means are over the labels that both segmentations have; 0 is background.
  spikereg evaluate --fixed-seg F --moving-seg M --transform FILE

a study: tables of many pairs, in DIR evaluation.json, per_pair.csv and per_label.csv, all at once. RESULTS holds
ID/transform.h5 for every pair, or a submission to Learn2Reg (disp_XXXX_YYYY.nii.gz or .npz). Exit code 1: some pairs
could not be measured; they are listed with the reason.
  spikereg evaluate RESULTS --manifest pairs.csv --out DIR
  spikereg evaluate RESULTS --pairs OASIS_VAL_evaluation_config.json --data OASIS --out DIR
  spikereg evaluate RESULTS --dataset oasis-learn2reg OASIS --out DIR
  spikereg evaluate --dataset dir-lab 4DCT --write-manifest pairs.csv    then: spikereg cohort pairs.csv --out RESULTS

two methods on the same pairs (needs SciPy: pip install spikereg[studies]):
  spikereg evaluate --compare A/evaluation.json B/evaluation.json

pairs.csv: id,fixed_seg,moving_seg and/or id,fixed_points,moving_points, with paths relative to its folder; also, where
known, fixed,moving,fixed_subject,moving_subject.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXAMPLES
    one = parser.add_argument_group("one transform")
    one.add_argument("--fixed-seg", type=Path, metavar="F", help="label map of the fixed image")
    one.add_argument("--moving-seg", type=Path, metavar="F", help="label map of the moving image")
    one.add_argument("--transform", type=Path, metavar="FILE", help="fixed to moving: ITK .h5, .tfm or displacement")
    parser.add_argument(
        "--groups", type=Path, metavar="FILE", help='JSON {"map": {label: group}}, to merge labels first'
    )
    add_study_arguments(parser)


def run(options: argparse.Namespace) -> int:
    wants_study = asks_for_study(options)
    of_one = [name for name in ("--fixed-seg", "--moving-seg", "--transform") if _given(options, name)]
    if wants_study and of_one:
        raise InputError(f"{of_one[0]}: of one transform, and a study was asked for; leave one of them out")
    if wants_study:
        return run_study(options, read_groups(options.groups) if options.groups else None)
    missing = [name for name in ("--fixed-seg", "--moving-seg", "--transform") if not _given(options, name)]
    if missing:
        raise InputError(f"{', '.join(missing)}: required to measure one transform; or give RESULTS of a study")
    groups = read_groups(options.groups) if options.groups else None

    import numpy as np  # with torch, below: imported only when the command runs

    from SpikeRegLib.images.volumes import read_labels
    from SpikeRegLib.quality.metrics import deformation_summary, dice, hd95_mm
    from SpikeRegLib.space.transforms import Transform, read_transform, warp_image

    fixed, moving = read_labels(options.fixed_seg), read_labels(options.moving_seg)
    settle(options.transform.parent)  # a run into that folder may have been killed
    transform = read_transform(options.transform)
    before = warp_image(moving, Transform.identity(), fixed.frame, interpolation="nearest")
    after = warp_image(moving, transform, fixed.frame, interpolation="nearest")
    common = dice(fixed, fixed, groups).keys() & dice(moving, moving, groups).keys()
    if not common:
        raise InputError(f"{options.moving_seg}: shares no label with {options.fixed_seg}; check the files or --groups")
    overlap = {"before": dice(fixed, before, groups), "after": dice(fixed, after, groups)}
    distance = hd95_mm(fixed, after, groups)
    result = {
        "dice": {
            "before_mean": float(np.mean([overlap["before"].get(label, 0.0) for label in sorted(common)])),
            "after_mean": float(np.mean([overlap["after"].get(label, 0.0) for label in sorted(common)])),
            "per_label": {label: overlap["after"].get(label, 0.0) for label in sorted(common)},
            "per_label_before": {label: overlap["before"].get(label, 0.0) for label in sorted(common)},
        },
        "hd95_mm": {label: distance.get(label) for label in sorted(common)},
        "deformation": deformation_summary(transform.displacement_on(fixed.frame), fixed.frame, fixed.data > 0),
    }
    interrupt.check()
    print(json.dumps(finite_or_null(result), indent=2))
    return 0


def _given(options: argparse.Namespace, name: str) -> bool:
    return getattr(options, name.removeprefix("--").replace("-", "_")) is not None


def read_groups(path: Path) -> dict[int, int]:
    """label -> group from JSON: the table itself, or under the key "map".

    Raises:
        InputError: missing or unreadable file, or something else than whole numbers in it.
    """
    try:
        table = read_json(path.read_bytes())
        groups = {int(label): int(group) for label, group in table.get("map", table).items()}
        for numbers in groups.items():
            within_all("label", numbers, LABEL)
        return groups
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise InputError(f'{path}: not a table of label groups ({error}); give {{"map": {{"4": 14}}}}') from error
