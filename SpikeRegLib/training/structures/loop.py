"""Training the network that names structures: one image a step, averaged weights, exact resume."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from SpikeRegLib.errors import InputError
from SpikeRegLib.spiking.unet import AnalogUNet, key
from SpikeRegLib.training.checkpoint import load_checkpoint, save_checkpoint
from SpikeRegLib.training.loop import gradient_precision, rewind
from SpikeRegLib.training.structures.images import NamedImage
from SpikeRegLib.training.structures.objective import at_places, some_places, structure_loss
from SpikeRegLib.training.structures.optimiser import MuonAdam
from SpikeRegLib.training.structures.recipe import StructureTraining
from SpikeRegLib.training.structures.renormalisation import allow, renormalised


class _State(nn.Module):
    """What a checkpoint holds beside the optimiser: the network and its average."""

    def __init__(self, network: AnalogUNet) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network)


def train_structures(
    network: AnalogUNet,
    images: Callable[[int], NamedImage],
    folder: Path,
    *,
    recipe: StructureTraining,
    resume: bool = False,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Train `network` in place, until it holds the averaged weights, and return the last log entry.

    Args:
        network: dense, or one of counts; with a structures head.
        images: gives image number `step`; the same step always gives the same image.
        folder: gets `checkpoint.safetensors` and `log.jsonl`.
        recipe: length and rates.
        resume: continue the run found in `folder`; without it a run found there is overwritten.
        show_progress: a progress bar with the time left.

    Raises:
        InputError: the run to resume had another network or recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log_path = folder / "checkpoint.safetensors", folder / "log.jsonl"
    state = _State(renormalised(network))
    optimiser = _optimiser(network)
    identity = json.loads(json.dumps({"spec": network.spec.to_json(), "recipe": asdict(recipe)}))
    start, seconds, entry = 0, 0.0, {}
    if resume and checkpoint.exists():
        progress = load_checkpoint(checkpoint, state, optimiser)
        if changed := [name for name, value in identity.items() if progress.get(name) != value]:
            raise InputError(
                f"{checkpoint}: another run (different {', '.join(changed)}); resume with what it began with"
            )
        start, seconds = progress["step"], progress["seconds"]
        entry = rewind(log_path, start, write=True)
    began = time.monotonic() - seconds
    with open(log_path, "a" if start else "w", encoding="utf-8") as log:
        bar = tqdm(
            range(start, recipe.steps), initial=start, total=recipe.steps, disable=not show_progress, unit="step"
        )
        for step in bar:
            entry = {"step": step + 1, **_step(state, optimiser, images(step), recipe, step)}
            last = step + 1 == recipe.steps
            entry["seconds"] = round(time.monotonic() - began, 1)
            if (step + 1) % recipe.log_every == 0 or last:
                print(json.dumps(entry), file=log, flush=True)
                bar.set_postfix(dice=entry["dice"])
            if (step + 1) % recipe.checkpoint_every == 0 or last:
                reached = {"step": step + 1, "seconds": entry["seconds"], **identity}
                save_checkpoint(checkpoint, state, optimiser, reached)
    network.load_state_dict(state.average.state_dict())
    network.eval()
    return entry


def _optimiser(network: AnalogUNet) -> MuonAdam:
    """Orthogonal updates for all convolutions but the first and the head, whose rows mean something."""
    edges = {key(layer.name) for layer in network.spec.layers if layer.inputs == ("image",) or not layer.neuron}
    turned = [weight for name, weight in network.weights.items() if name not in edges]
    known = {id(weight) for weight in turned}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    return MuonAdam([{"params": turned, "orthogonal": True}, {"params": rest, "orthogonal": False}])


def _step(
    state: _State, optimiser: MuonAdam, drawn: NamedImage, recipe: StructureTraining, step: int
) -> dict[str, float]:
    network = state.network.train()
    allow(network, 1.0 if recipe.initial else min(1.0, (step + 1) / recipe.renormalised_after))
    network.freeze_normalisation(step >= recipe.frozen_from * recipe.steps)
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(step) * (recipe.turning_rate if group["orthogonal"] else recipe.learning_rate)
    depth, height, width = drawn.image.shape[2:]
    places = some_places(recipe.places, recipe.seed * 1_000_003 + step)
    with gradient_precision(network.spec, (depth, height, width), "cpu").autocast():
        output = network(drawn.image)
    # Channel 8 c + place of a patch: one volume for each place.
    logits = output[0].unflatten(0, (-1, 8))[:, places].transpose(0, 1)
    loss, terms = structure_loss(logits, at_places(drawn.classes, places))
    network.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    if torch.isfinite(norm):
        optimiser.step()
    kept = min(recipe.average, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, value in zip(state.average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - kept)
    return {"loss": round(float(loss.detach()), 4), **terms, "gradient_norm": round(float(norm), 4)}
