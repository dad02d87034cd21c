"""The training loop: one pair a step, or the mean over a batch (for each process where several train together), cosine
learning rate, checkpoints, a JSON-lines log, exact resume.
"""

from __future__ import annotations

import functools
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from SpikeRegLib.errors import InputError
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.spiking.behaviour import PLAIN, behaviour_of
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.checkpoint import load_checkpoint, save_checkpoint
from SpikeRegLib.training.objective import ObjectiveWeights, echo, first_pass, objective
from SpikeRegLib.training.processes import Processes
from SpikeRegLib.training.synthetic import SyntheticPair

# A U-Net, or a neural field whose `encoder` is one.
Trained = RegistrationUNet | FieldNetwork
# (network, pair, number of the step, precision) -> the loss and its terms for the log.
Loss = Callable[[Any, SyntheticPair, int, Precision], tuple[torch.Tensor, dict[str, float]]]
Losses = Iterator[tuple[torch.Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast to train.

    Attributes:
        steps: in the whole run, of one pair a process; the learning rate falls to zero at the end.
        learning_rate: of Adam after `warmup` steps.
        second_pass: share of steps that train the second pass of the iterative policy, once `second_pass_from`
            (a fraction of the run) is over.
        freeze_normalisation_from: fraction of the run after which BatchNorm uses its running statistics (dense only).
        threshold_learning_rate: factor on the learning rate of thresholds (spiking only).
        echoes: further updates from every pair, by the distance to the teacher, the operations and with a weight
            `echo_dice` the labels (see `objective.echo`): a fifth of the cost of a new pair each. Needs a teacher or
            that weight.
        timesteps: T of the spiking network from here on; 0: as it is.
        decoder_learning_rate: factor on that of the decoders of a neural field, whose sines are sensitive.
        checkpoint_every, log_every: in steps.
    """

    steps: int = 4600
    learning_rate: float = 4e-4
    warmup: int = 50
    second_pass: float = 0.4
    second_pass_from: float = 0.25
    freeze_normalisation_from: float = 0.15
    threshold_learning_rate: float = 1.0
    decoder_learning_rate: float = 0.5
    echoes: int = 0
    timesteps: int = 0
    checkpoint_every: int = 200
    log_every: int = 10
    weights: ObjectiveWeights = field(default_factory=ObjectiveWeights)

    def __post_init__(self) -> None:
        check_numbers(self)

    def rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


def make_optimiser(network: Trained, options: LoopOptions) -> torch.optim.Adam:
    """Adam with thresholds and decoders in groups of their own."""
    factors = {"log_thresholds.": options.threshold_learning_rate, "decoders.": options.decoder_learning_rate}
    members: dict[str | None, list[torch.nn.Parameter]] = {None: []}
    for name, parameter in network.named_parameters():
        kind = next((known for known in factors if name.removeprefix("encoder.").startswith(known)), None)
        members.setdefault(kind, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "factor": 1.0 if kind is None else factors[kind]} for kind, parameters in members.items()
    ]
    return torch.optim.Adam(groups, lr=options.learning_rate)


@functools.lru_cache(maxsize=32)
def gradient_precision(spec: NetworkSpec, shape: tuple[int, int, int], device: str) -> Precision:
    """bfloat16 where it is fast and its gradients are right, float32 elsewhere.

    On CPUs, the bfloat16 weight gradient of oneDNN 3.12 (PyTorch 2.13) is wrong, often not finite, for a convolution of
    stride 1 whose grid is at least 2 but less than its kernel deep: a grid of 2 for a 3^3 kernel. Its forward pass and
    its input gradient are right, and so are float32, strided and transposed convolutions.

    Args:
        spec: of the network.
        shape: (D, H, W) of the images.
        device: where it is trained.
    """
    depths = {name: grid[0] for name, grid in spec.shapes(shape).items()}
    wrong = any(
        layer.stride == 1 and 2 <= depths[layer.name] < layer.kernel for layer in spec.layers if not layer.transposed
    )
    return Precision(device, False) if wrong and device == "cpu" else Precision.best(device)


def train(
    network: Trained,
    pairs: Callable[[int], SyntheticPair],
    folder: Path,
    *,
    options: LoopOptions,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = False,
    validate: Callable[[Any], dict[str, float]] | None = None,
    show_progress: bool = True,
    teacher: RegistrationUNet | None = None,
    loss_of: Loss | None = None,
) -> dict[str, Any]:
    """Train `network` in place and return the last log entry.

    In a group of N processes (see `processes.join`) step n is made of the pairs nN .. nN + N - 1, one a process. The
    first process alone writes; its entries are those of its own pair. Resuming needs the same number of processes.

    Args:
        network: dense or spiking, or a neural field.
        pairs: gives pair number `step`; the same step always gives the same pair. Of a batch [B, ...], the step follows
            the mean of the gradients of its pairs.
        folder: gets `checkpoint.safetensors` and `log.jsonl`.
        options: length, rates and weights.
        device: where to train.
        seed: decides which steps train the second pass.
        resume: continue the run found in `folder`; without it a run found there is overwritten.
        validate: called at every checkpoint; its figures go into the log.
        show_progress: a progress bar with the time left.
        teacher: the dense network, where `options.weights.teacher` asks to stay near it.
        loss_of: instead of `objective` with `options.weights`; there is then one pass only.

    Raises:
        InputError: the run to resume had another spec, other neurons or options, another seed or number of processes.
    """
    processes = Processes.joined()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log_path = folder / "checkpoint.safetensors", folder / "log.jsonl"
    network.to(device)
    optimiser = make_optimiser(network, options)
    unet = network.encoder if isinstance(network, FieldNetwork) else network
    aimless = teacher is None and options.weights.echo_dice == 0
    if options.echoes and (aimless or loss_of is not None):
        raise InputError(
            "recipe: echoes need a weight on the distance to the teacher or on labels (finetune.weights.teacher, "
            "echo_dice)"
        )
    start, seconds = 0, 0.0
    identity = json.loads(json.dumps({"spec": unet.spec.to_json(), "options": asdict(options), "seed": seed}))
    identity["processes"] = processes.count
    if isinstance(unet, SpikingUNet):
        identity["neurons"] = behaviour_of(unet)
    entry: dict[str, Any] = {}
    processes.wait()
    if resume and checkpoint.exists():
        progress = {"processes": 1, "neurons": PLAIN, **load_checkpoint(checkpoint, network, optimiser)}
        changed = [name for name, value in identity.items() if progress.get(name) != value]
        if changed:
            raise InputError(
                f"{checkpoint}: another run (different {', '.join(changed)}); resume with what it began with"
            )
        start, seconds = progress["step"], progress["seconds"]
        entry = rewind(log_path, start, write=processes.first)
    processes.share_start(network)
    if isinstance(unet, SpikingUNet):
        unet.mode = "surrogate"
    began = time.monotonic() - seconds
    show_progress = show_progress and processes.first
    with open(log_path if processes.first else os.devnull, "a" if start else "w", encoding="utf-8") as log:
        bar = tqdm(
            range(start, options.steps), initial=start, total=options.steps, disable=not show_progress, unit="step"
        )
        skipped = 0  # updates since the last line of the log whose gradient was not finite
        for step in bar:
            network.train()
            frozen = step >= options.freeze_normalisation_from * options.steps
            if isinstance(unet, AnalogUNet):
                unet.freeze_normalisation(frozen)
            for group in optimiser.param_groups:
                group["lr"] = options.rate(step) * group["factor"]
            statistics = [buffer.clone() for buffer in network.buffers()]
            pair = pairs(step * processes.count + processes.rank)
            depth, height, width = pair.fixed.shape[2:]
            precision = gradient_precision(unet.spec, (depth, height, width), device)
            second = random.Random(seed * 7919 + step).random() < options.second_pass
            second = second and step >= options.second_pass_from * options.steps and loss_of is None
            members = pair.members()
            losses: Losses
            if loss_of is not None:
                losses = (loss_of(network, member, step, precision) for member in members)
            else:
                assert not isinstance(network, FieldNetwork)
                losses = _objectives(
                    network, members, options.weights, precision, teacher, second=second, frozen=frozen
                )
            size, terms = _update(network, optimiser, losses, len(members), processes)
            if size is None:
                skipped += 1
                for buffer, before in zip(network.buffers(), statistics, strict=True):
                    buffer.copy_(before)
            for number in range(options.echoes):
                assert not isinstance(network, FieldNetwork)
                number += (seed * 1_000_003 + step) * options.echoes
                losses = _echoes(network, members, options.weights, precision, teacher, seed=number)
                again, heard = _update(network, optimiser, losses, len(members), processes)
                skipped += again is None
                if "teacher_distance" in heard:
                    terms["echo_distance"] = heard["teacher_distance"]
            entry = {"step": step + 1, "pass": 2 if second else 1, "gradient_norm": size, **terms}
            last = step + 1 == options.steps
            if (step + 1) % options.log_every == 0 or last:
                entry["seconds"] = round(time.monotonic() - began, 1)
                if skipped:
                    entry["skipped"], skipped = skipped, 0
                print(json.dumps(entry), file=log, flush=True)
                bar.set_postfix(lncc=terms["lncc"], dice=terms.get("dice", 0.0))
            if processes.first and ((step + 1) % options.checkpoint_every == 0 or last):
                elapsed = round(time.monotonic() - began, 1)
                save_checkpoint(checkpoint, network, optimiser, {"step": step + 1, "seconds": elapsed, **identity})
                if validate is not None:
                    network.eval()
                    figures = validate(network)
                    print(json.dumps({"step": step + 1, "validation": figures}), file=log, flush=True)
    network.eval()
    return entry


def _objectives(
    network: RegistrationUNet, members: list[SyntheticPair], weights: ObjectiveWeights, precision: Precision,
    teacher: RegistrationUNet | None, *, second: bool, frozen: bool,
) -> Losses:  # fmt: skip
    """`objective` of each pair of a batch, made when it is asked for."""
    for pair in members:
        earlier = first_pass(network, pair, precision) if second else None
        if second and isinstance(network, AnalogUNet):
            network.freeze_normalisation(frozen)
        yield objective(network, pair, weights, precision=precision, earlier=earlier, teacher=teacher)


def _echoes(
    network: RegistrationUNet, members: list[SyntheticPair], weights: ObjectiveWeights, precision: Precision,
    teacher: RegistrationUNet | None, *, seed: int,
) -> Losses:  # fmt: skip
    """`echo` of each pair of a batch, all shown alike."""
    for pair in members:
        yield echo(network, pair, weights, precision=precision, teacher=teacher, seed=seed)


def _update(
    network: Trained, optimiser: torch.optim.Optimizer, losses: Losses, count: int, processes: Processes
) -> tuple[float | None, dict[str, float]]:
    """One step of the optimiser by the mean of `count` losses, of which one at a time is held in memory.

    Returns:
        The norm of the gradient, or None and no step where it is not finite; and the means of the terms.
    """
    optimiser.zero_grad(set_to_none=True)
    each = []
    for loss, terms in losses:
        (loss / count).backward()
        each.append(terms)
    processes.average(network)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    terms = each[0] if count == 1 else {name: round(fmean(t[name] for t in each), 5) for name in each[0]}
    if not torch.isfinite(norm):
        return None, terms
    optimiser.step()
    return round(float(norm), 4), terms


def rewind(log_path: Path, step: int, *, write: bool) -> dict[str, Any]:
    """Drop what the log says of steps after `step`, which will be done again; returns the last training entry kept.

    Args:
        log_path: of the run; need not exist.
        step: that the checkpoint holds.
        write: whether to change the file.
    """
    if not log_path.exists():
        return {}
    entries = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [entry for entry in entries if entry["step"] <= step]
    if write:
        with atomic_output(log_path) as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    return next((entry for entry in reversed(kept) if "loss" in entry), {})
