"""Prepare: networks and both sides read, or taken over from an earlier run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SpikeRegLib import models
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.pipeline.inputs import Side, Source, bare_side, load_image, load_labels
from SpikeRegLib.pipeline.recall import Memory, Value, file_key
from SpikeRegLib.progress import Listener, silent, tell_reading
from SpikeRegLib.space.transforms import Transform, check_finite, read_transform
from SpikeRegLib.spiking.unet import RegistrationUNet


def as_transform(given: Transform | str | os.PathLike[str] | None, listener: Listener = silent) -> Transform | None:
    if given is None or not isinstance(given, Transform):
        tell_reading(listener, given)
        return None if given is None else read_transform(given)
    check_finite(given, "initial_transform")
    return given


@dataclass(frozen=True)
class Network:
    """A network, and the name and digest of its file."""

    network: RegistrationUNet
    facts: dict[str, Any]


def recall_network(memory: Memory, part: str, path: Path | None, method: str, timesteps: int | None) -> Network | None:
    def load() -> Network | None:
        if path is None:
            return None
        network = models.load_for(path, method, timesteps)  # first: its message tells what is wrong with a file
        return Network(network, {"name": path.stem, "sha256": models.sha256(path)})

    return memory.recall(part, load, key=(file_key(path), method, timesteps))


@dataclass(frozen=True)
class FieldModel:
    """A neural deformation field with its encoder, and the name and digest of its file."""

    network: FieldNetwork
    facts: dict[str, Any]


def recall_field_model(memory: Memory, path: Path | None, method: str, timesteps: int | None) -> FieldModel | None:
    """The model of a neural field; takes the place of a network in memory."""

    def load() -> FieldModel | None:
        if path is None:
            return None
        network = models.load_field(path, kind="field" if method == "nephi" else "spiking-field", timesteps=timesteps)
        return FieldModel(network, {"name": path.stem, "sha256": models.sha256(path)})

    return memory.recall("network", load, key=(file_key(path), method, timesteps))


def recall_side(
    memory: Memory, name: str, source: Source, mask: Source | None, leave_out: Source | None, labels: Source | None, *,
    allow_nonfinite: bool, allow_few_values: bool, threads: int, listener: Listener = silent,
) -> Side:  # fmt: skip
    """One side without its points. Everything that is computed depends on the mask, so the threads are its key."""
    image_part, role = f"{name} image", f"{name} image"

    def reading(files: tuple[Source | None, ...], load: Callable[[], Value]) -> Value:
        tell_reading(listener, *files, fraction=0.0 if name == "fixed" else 0.5)
        return load()

    allowed = {"allow_nonfinite": allow_nonfinite, "allow_few_values": allow_few_values}
    image = memory.recall(
        image_part,
        lambda: reading((source,), lambda: load_image(source, **allowed, role=role)),
        key=(file_key(source), *allowed.values()),
    )
    side = memory.recall(
        f"{name} mask",
        lambda: reading((mask, leave_out), lambda: bare_side(image, mask, leave_out, role=role)),
        key=(file_key(mask), file_key(leave_out), threads),
        after=(image_part,),
    )
    segmentation = memory.recall(
        f"{name} segmentation",
        lambda: reading((labels,), lambda: load_labels(labels, image)),
        key=file_key(labels),
        after=(image_part,),
    )
    return replace(side, labels=segmentation)
