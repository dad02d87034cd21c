"""From label maps to a spiking network in one go: teacher, conversion, one fine-tuning after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.spiking.spec import named_spec
from SpikeRegLib.training.config import TrainingConfig, load_config
from SpikeRegLib.training.processes import Processes
from SpikeRegLib.training.recipe import convert_teacher, finetune, train_field, train_teacher


def chain(recipe: str | Path) -> list[TrainingConfig]:
    """The recipe and those that `then` names, in order.

    Raises:
        InputError: one of them is unknown, or follows itself.
    """
    found: dict[str, TrainingConfig] = {}
    following = str(recipe)
    while following:
        if following in found:
            raise InputError(f"recipe {following!r}: follows itself; take `then` out of the last one")
        config = found[following] = load_config(following)
        # A file names files beside it.
        beside = following.endswith(".toml") and config.then.endswith(".toml")
        following = str(Path(following).parent / config.then) if beside else config.then
    return list(found.values())


def shortened(config: TrainingConfig, steps: int | None) -> TrainingConfig:
    """The recipe with `steps` training pairs in both of its loops."""
    if steps is None:
        return config
    return replace(config, teacher=replace(config.teacher, steps=steps), finetune=replace(config.finetune, steps=steps))


def train_whole(
    labels: Path,
    out: Path,
    recipe: str | Path,
    *,
    device: str,
    resume: bool,
    steps: int | None = None,
    **common: Any,
) -> Path:
    """All steps, each in a folder of its own in `out`; returns the model file of the last fine-tuning.

    Weights are those that the commands for the single steps give.

    Args:
        labels: folder of whole-head label maps.
        out: gets `teacher`, `converted`, `finetuned-1`, `finetuned-2` ... and `teacher-N` before fine-tuning N, where
            its recipe says that the teacher goes on.
        recipe: name or file; the recipe of a neural field trains the encoder of one.
        device: where to train.
        resume: go on where a run in `out` was interrupted.
        steps: training pairs of every step; the recipes' own if not given.
        common: `validate` and `show_progress` of the single steps.

    Raises:
        InputError: see the single steps and `chain`.
    """
    configs = [shortened(config, steps) for config in chain(recipe)]
    config, processes = configs[0], Processes.joined()
    first = train_field if named_spec(config.network).output == "codes" else train_teacher
    teacher = first(labels, out / "teacher", config, device=device, resume=resume, **common)
    model = out / "converted" / "converted.safetensors"
    if processes.first and not (resume and model.exists()):
        convert_teacher(teacher, labels, model.parent, config, device=device)
    for number, config in enumerate(configs, 1):
        processes.wait()  # for the file that the first one writes
        if number > 1 and config.teacher_goes_on:
            further = replace(config, initial=str(teacher))
            teacher = first(labels, out / f"teacher-{number}", further, device=device, resume=resume, **common)
            processes.wait()
        model = finetune(
            model, labels, out / f"finetuned-{number}", config, device=device, resume=resume, teacher_file=teacher,
            **common,
        )  # fmt: skip
    return model
