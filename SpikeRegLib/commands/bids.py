"""`spikereg bids`: a BIDS App. T1-weighted images to a template or between sessions, and their structures."""

from __future__ import annotations

import argparse
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.bids.derivatives import check_derivatives, describe, publish
from SpikeRegLib.bids.layout import find_images
from SpikeRegLib.bids.work import OUTPUTS, Work, between_sessions, segmentations, to_template
from SpikeRegLib.commands.arguments import add_options, add_progress_option
from SpikeRegLib.commands.rows_progress import Outcomes
from SpikeRegLib.commands.rows_where import add_where, asked_of, doing, in_order
from SpikeRegLib.errors import InputError
from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.outputs.folder import check_writable
from SpikeRegLib.presets.preset import load_preset

if TYPE_CHECKING:
    from SpikeRegLib.cohort.rows import Plan

_OPTIONS = ("preset", "method", "structures", "regularisation", "device", "threads", "seed")
_EPILOG = """\
written to OUT, as BIDS derivatives:
  sub-S/[ses-T/]anat/..._from-T1w_to-X_mode-image_xfm.h5   resamples the image onto X, and back
  sub-S/[ses-T/]anat/..._space-X_T1w.nii.gz                the image on X's grid
  sub-S/[ses-T/]anat/..._dseg.nii.gz, _desc-brain_mask.nii.gz   its structures and brain
  sub-S[_ses-T]_to-X.html                                  the report
  group_registrations.tsv, group_registrations.html        by `group`: all of them, worst first
  work/                                                    what a further run goes on from

A subject that is done is not done again. exit code: 0, 1 where something failed, 2 bad input, 130 cancelled.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("root", metavar="IN", type=Path, help="a BIDS data set")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the derivatives")
    parser.add_argument("level", choices=("participant", "group"), help="do the work, or summarise it")
    parser.add_argument("--participant-label", nargs="+", default=(), metavar="S", help="subjects (default: all)")
    parser.add_argument("--session-label", nargs="+", default=(), metavar="T", help="sessions (default: all)")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--template", type=Path, metavar="F", help="register every image to this one")
    to.add_argument("--between-sessions", action="store_true", help="register later sessions to the first")
    parser.add_argument(
        "--template-name", metavar="X", help="of its space, as in MNI152NLin2009cAsym (default: template)"
    )
    parser.add_argument("--skip-segmentation", action="store_true", help="name no structures")
    add_where(parser)
    add_options(parser.add_argument_group("registration"), _OPTIONS)
    add_progress_option(parser)


def run(options: argparse.Namespace) -> int:
    images = find_images(options.root, options.participant_label, options.session_label)
    name = options.template_name or "template"
    if not re.fullmatch("[0-9a-zA-Z]+", name, re.ASCII):
        raise InputError(f"--template-name {name}: a label is of letters and digits")
    if options.template_name is not None and options.template is None:
        raise InputError("--template-name: names the space of a template; give --template, or leave it out")
    if options.template is not None and not options.template.is_file():
        raise InputError(f"--template {options.template}: no such file; check the path")
    if options.preset is not None:
        load_preset(options.preset)
    given = {OPTIONS[name].name: getattr(options, OPTIONS[name].key) for name in _OPTIONS}
    how = {"threads": 1, **{name: value for name, value in given.items() if value != OPTIONS[name].default}}
    if options.template is None:
        works = between_sessions(images, how)
    else:
        works = to_template(images, options.template, name, how)
    if not options.skip_segmentation:
        works += segmentations(images, how["threads"])
    check_writable(options.out)
    check_derivatives(options.out)

    from SpikeRegLib.cohort.rows import Plan  # imports torch

    plan = Plan(str((options.out / "work").absolute()), OUTPUTS, options.redo, options.retries)
    return _participants(works, plan, options) if options.level == "participant" else _group(works, plan, options.out)


def _participants(works: list[Work], plan: Plan, options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    describe(options.out, options.root)
    by_id = {work.row.id: work for work in works}
    rows = in_order(asked_of([work.row for work in works], options.shard), Path(plan.out))
    outcomes = Outcomes(len(rows), options.progress)
    with ExitStack() as stack:
        for outcome in doing(stack, rows, plan, options):
            outcomes.add(outcome)
            if outcome.state != "failed":
                publish(by_id[outcome.id], Path(plan.out) / outcome.id, options.out)
    return outcomes.finish(outcomes.of(rows), None)


def _group(works: list[Work], plan: Plan, out: Path) -> int:
    from SpikeRegLib.cohort.page import write_page
    from SpikeRegLib.cohort.summary import MISSING, on_disk, write_table

    known = on_disk([work.row for work in works if work.to], plan)
    if all(each.state == MISSING for each in known):
        raise InputError(f"{out}: nothing is done there; run `participant` with the same options first")
    write_table(known, out / "group_registrations.tsv")
    reports = {work.row.id: f"{work.image.stem}_to-{work.to}.html" for work in works if work.to}
    write_page(known, out, "Registrations of a BIDS data set", name="group_registrations.html", reports=reports)
    return int(any(each.state in ("failed", MISSING) for each in known))
