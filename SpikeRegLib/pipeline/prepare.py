"""Prepare: networks, both images and what belongs to them, read and checked before any work is spent."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from SpikeRegLib import models
from SpikeRegLib.images.given import load_image
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.passes import check_tile
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.pipeline.inputs import Side, bare_side, check_pair, load_labels, with_points
from SpikeRegLib.pipeline.stage import Stage, Tracked, Work
from SpikeRegLib.progress import Progress, tell_reading
from SpikeRegLib.quality.bounds import Bounds, default_bounds, load_bounds
from SpikeRegLib.space.transforms import Transform, check_finite, read_transform
from SpikeRegLib.spiking.unet import RegistrationUNet

Value = TypeVar("Value")


@dataclass(frozen=True)
class Network:
    """A network, and the name and digest of its file."""

    network: RegistrationUNet
    facts: dict[str, Any]


@dataclass(frozen=True)
class FieldModel:
    """A neural deformation field with its encoder, and the name and digest of its file."""

    network: FieldNetwork
    facts: dict[str, Any]


def _network_stage(name: str, file: str) -> Stage:
    def load(work: Work, settings: dict[str, Any]) -> Network | None:
        path = settings[file].given
        if path is None:
            return None
        # First: its message tells what is wrong with a file.
        network = models.load_for(path, settings["method"], settings["timesteps"])
        return Network(network, {"name": path.stem, "sha256": models.sha256(path)})

    return Stage(name, "prepare", load, reads=(file, "method", "timesteps"))


def _field_model(work: Work, settings: dict[str, Any]) -> FieldModel | None:
    path = settings["network_file"].given
    if path is None:
        return None
    kind = "field" if settings["method"] == "nephi" else "spiking-field"
    network = models.load_field(path, kind=kind, timesteps=settings["timesteps"])
    return FieldModel(network, {"name": path.stem, "sha256": models.sha256(path)})


def _check_tile(work: Work, settings: dict[str, Any]) -> None:
    loaded = (work["network"], work["fine network"])
    check_tile(settings["tile"], *(part.network for part in loaded if part is not None))


def _initial_transform(work: Work, settings: dict[str, Tracked]) -> Transform | None:
    given = settings["initial_transform"].given
    if given is None or not isinstance(given, Transform):
        tell_reading(work.listener, given)
        return None if given is None else read_transform(given)
    check_finite(given, "initial_transform")
    return given


def _side_stages(side: str, done: float) -> tuple[Stage, ...]:
    """The stages that read one image and what belongs to it; `done` is the share of the reading that came before."""
    image, bare, points = f"{side} image", f"{side} input", f"{side}_points"

    def reading(work: Work, files: tuple[Tracked, ...], load: Callable[[], Value]) -> Value:
        tell_reading(work.listener, *(file.given for file in files), fraction=done)
        return load()

    def read_image(work: Work, settings: dict[str, Any]) -> Volume:
        allowed = {name: settings[name] for name in ("allow_nonfinite", "allow_few_values")}
        source = settings[side]
        return reading(work, (source,), lambda: load_image(source.given, **allowed, role=image))

    def read_masks(work: Work, settings: dict[str, Any]) -> Side:
        given = settings[f"{side}_mask"], settings[f"{side}_leave_out"]
        return reading(work, given, lambda: bare_side(work[image], *(file.given for file in given), role=image))

    def read_labels(work: Work, settings: dict[str, Tracked]) -> Volume | None:
        labels = settings[f"{side}_labels"]
        return reading(work, (labels,), lambda: load_labels(labels.given, work[image]))

    def read_points(work: Work, settings: dict[str, Tracked]) -> Side:
        given: torch.Tensor | str | os.PathLike[str] | None = settings[points].given
        tell_reading(work.listener, given, fraction=done + 0.5)
        found = with_points(work[bare], given, role=image)
        work.listener(Progress("prepare", done + 0.5, f"read the {image}"))
        return found

    return (
        Stage(image, "prepare", read_image, reads=(side, "allow_nonfinite", "allow_few_values"), side=side),
        Stage(bare, "prepare", read_masks, reads=(f"{side}_mask", f"{side}_leave_out"), follows=(image,), side=side),
        Stage(f"{side} segmentation", "prepare", read_labels, reads=(f"{side}_labels",), follows=(image,)),
        Stage(f"{side} points", "prepare", read_points, reads=(points,), follows=(bare,), kept=False),
    )


def _check_pair(work: Work, settings: dict[str, Any]) -> None:
    check_pair(work["fixed points"], work["moving points"])


def _verdict_bounds(work: Work, settings: dict[str, Tracked]) -> Bounds:
    given = settings["verdict_bounds"].given
    return default_bounds() if given is None else load_bounds(given)


NETWORK = _network_stage("network", "network_file")
FINE_NETWORK = _network_stage("fine network", "fine_network_file")
FIELD_MODEL = Stage("network", "prepare", _field_model, reads=("network_file", "method", "timesteps"))
TILE = Stage("tile", "prepare", _check_tile, reads=("tile",), follows=("network", "fine network"), kept=False)
VERDICT_BOUNDS = Stage("verdict bounds", "prepare", _verdict_bounds, reads=("verdict_bounds",), kept=False)
INITIAL_TRANSFORM = Stage("initial transform", "prepare", _initial_transform, reads=("initial_transform",))
INPUTS = (*_side_stages("fixed", 0.0), *_side_stages("moving", 0.5))
PAIR = Stage("pair", "prepare", _check_pair, follows=("fixed points", "moving points"), kept=False)
