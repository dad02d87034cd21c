"""`spikereg train all|teacher|nephi|convert|finetune|anatomy`: from label maps to weights on a laptop or a GPU."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from SpikeRegLib.commands.arguments import number
from SpikeRegLib.commands.streams import say
from SpikeRegLib.training.structures import command as anatomy

EPILOG = r"""\
the whole recipe:
  spikereg train all --labels LABELS --out runs

the same step by step:
  spikereg train teacher  --labels LABELS --out runs/teacher
  spikereg train convert  --teacher runs/teacher/teacher.safetensors --labels LABELS --out runs/converted
  spikereg train finetune --model runs/converted/converted.safetensors --teacher runs/teacher/teacher.safetensors \
                          --labels LABELS --out runs/finetuned
and one more fine-tuning for every recipe that the last one names under `then`.

a neural deformation field: `spikereg train nephi --labels LABELS --out runs/field`; convert and finetune (with --recipe
nephi) make its encoder spiking in the same way.
the fine pass that follows brain-t1 at 1 mm is trained the same way with --recipe brain-t1-fine. Several GPUs:
  torchrun --nproc-per-node=4 -m SpikeRegLib train teacher --labels LABELS --out runs/teacher

LABELS is a folder of whole-head FreeSurfer label maps; images are drawn from them while training. An interrupted run
continues with --resume and ends in the same weights as an uninterrupted one.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    anatomy.add_arguments(steps.add_parser("anatomy", help=anatomy.TEXT, description=anatomy.TEXT))
    for name, text in (
        ("all", "all steps of a recipe and of those that follow it, from label maps to a spiking network"),
        ("teacher", "train the dense network from scratch"),
        ("nephi", "train a neural deformation field with a dense encoder"),
        ("convert", "calibrate thresholds and convert the teacher to a spiking network"),
        ("finetune", "train the spiking network through its closed form"),
    ):
        step = steps.add_parser(name, help=text, description=text)
        step.add_argument("--labels", required=True, type=Path, metavar="DIR", help="folder of whole-head label maps")
        step.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets checkpoint, log and weights")
        recipe = "nephi" if name == "nephi" else "brain-t1"
        step.add_argument("--recipe", default=recipe, metavar="R", help=f"name or .toml file (default: {recipe})")
        step.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
        step.add_argument("--threads", type=number("threads"), metavar="N", help="CPU threads (default: all cores)")
        if name in ("all", "teacher", "nephi"):
            step.set_defaults(source=None)
        elif name == "convert":
            step.add_argument(
                "--teacher", dest="source", required=True, type=Path, metavar="FILE", help="teacher.safetensors"
            )
            step.add_argument(
                "--percentile",
                type=number("percentile"),
                metavar="P",
                help="of positive activations (default: the recipe's)",
            )
            step.add_argument("--timesteps", type=number("timesteps"), metavar="T", help="default: the recipe's")
        else:
            step.add_argument(
                "--model", dest="source", required=True, type=Path, metavar="M",
                help="converted.safetensors, or the name of a shipped model",
            )  # fmt: skip
            step.add_argument("--teacher", type=Path, metavar="M", help="the dense one, if the recipe stays near to it")
        if name != "convert":
            of = " of every step" if name == "all" else ""
            step.add_argument(
                "--steps", type=number("steps"), metavar="N", help=f"training pairs{of} (default: the recipe's)"
            )
            if name != "all":
                step.add_argument("--seed", type=number("seed"), metavar="N", help="default: the recipe's")
            step.add_argument("--resume", action="store_true", help="continue the run in --out")
            step.add_argument("--no-progress", action="store_true", help="no progress bar")
            step.add_argument(
                "--validation", type=Path, metavar="CSV",
                help="pairs to measure at every checkpoint: columns fixed,moving,fixed_seg,moving_seg",
            )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    if arguments.step == "anatomy":
        return anatomy.run(arguments)
    from SpikeRegLib.errors import InputError
    from SpikeRegLib.models import find
    from SpikeRegLib.outputs.folder import check_writable
    from SpikeRegLib.system.devices import choose_device, set_threads
    from SpikeRegLib.training import recipe
    from SpikeRegLib.training.config import load_config
    from SpikeRegLib.training.processes import join
    from SpikeRegLib.training.validation import DiceOnPairs
    from SpikeRegLib.training.whole import train_whole

    config = load_config(arguments.recipe)
    set_threads(arguments.threads)
    device = choose_device(arguments.device)
    for name in ("timesteps", "percentile", "seed"):
        if getattr(arguments, name, None) is not None:
            config = dataclasses.replace(config, **{name: getattr(arguments, name)})
    check_writable(arguments.out)
    check_begun(arguments.out, arguments.step, resume=getattr(arguments, "resume", False))
    if arguments.step == "convert":
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("train convert: needs one process only; run it without torchrun")
        path = recipe.convert_teacher(arguments.source, arguments.labels, arguments.out, config, device=device)
        say(str(path))
        return 0
    if arguments.steps is not None and arguments.step != "all":
        name = "finetune" if arguments.step == "finetune" else "teacher"
        loop = dataclasses.replace(getattr(config, name), steps=arguments.steps)
        config = dataclasses.replace(config, **{name: loop})
    validate = DiceOnPairs(arguments.validation) if arguments.validation else None
    common: dict[str, Any] = {
        "device": device,
        "resume": arguments.resume,
        "validate": validate,
    }
    with join(device) as processes:
        common["show_progress"] = not arguments.no_progress and processes.first
        if arguments.step == "all":
            path = train_whole(arguments.labels, arguments.out, arguments.recipe, steps=arguments.steps, **common)
        elif arguments.step == "teacher":
            path = recipe.train_teacher(arguments.labels, arguments.out, config, **common)
        elif arguments.step == "nephi":
            path = recipe.train_field(arguments.labels, arguments.out, config, **common)
        else:
            if arguments.teacher:
                common["teacher_file"] = find(arguments.teacher, "ann")
            source = find(arguments.source, "spikereg")
            path = recipe.finetune(source, arguments.labels, arguments.out, config, **common)
        if processes.first:
            say(str(path))
    return 0


# What a step writes; `all` writes it in folders of these names.
_WRITTEN = ("checkpoint.safetensors", "log.jsonl")
_MODEL = {"anatomy": "teacher", "teacher": "teacher", "nephi": "field", "convert": "converted", "finetune": "spiking"}
_FOLDERS = ("teacher", "teacher-*", "converted", "finetuned-*")


def check_begun(out: Path, step: str, *, resume: bool) -> None:
    """Refuse to resume what is not there, and to overwrite what is, see `check_new`.

    Args:
        out, step: of the command.
        resume: whether it is to go on with the run in `out`.

    Raises:
        InputError: names the run or the file.
    """
    from SpikeRegLib.errors import InputError

    if not resume:
        check_new(out, step)
    elif not os.path.exists(out / ("teacher" if step == "all" else "") / _WRITTEN[0]):
        raise InputError(f"{out}: holds no checkpoint to resume from; leave --resume out, or name its folder")


def check_new(out: Path, step: str) -> None:
    """Refuse to train into a folder where a file would be overwritten.

    Args:
        out: need not exist.
        step: of the command.

    Raises:
        InputError: names the run or the file.
    """
    from SpikeRegLib.errors import InputError

    folders = [folder for name in _FOLDERS for folder in sorted(out.glob(name))] if step == "all" else [out]
    models = [f"{_MODEL[name]}.safetensors" for name in (_MODEL if step == "all" else (step,))]
    for folder in folders:
        if step != "convert" and os.path.lexists(folder / _WRITTEN[0]):
            raise InputError(f"{out}: holds a run already; continue it with --resume or choose another folder")
        for name in (*models, *(() if step == "convert" else _WRITTEN)):
            if os.path.lexists(folder / name):
                raise InputError(f"{folder / name}: would be overwritten; move it elsewhere or choose another folder")
