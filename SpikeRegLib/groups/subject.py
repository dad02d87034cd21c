"""One image of a group, read once: its brain scaled, where its structures lie, and their maps, in small pieces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib.anatomy.channels import channels_of
from SpikeRegLib.anatomy.layout import Places
from SpikeRegLib.anatomy.model import StructureModel
from SpikeRegLib.anatomy.pose import find_head
from SpikeRegLib.anatomy.reading import VIEWS
from SpikeRegLib.anatomy.tissue import structure_means
from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.working import Piece
from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import Side, bare_side, load_side
from SpikeRegLib.progress import Listener

# Of the brightest: intensities and maps are kept as whole numbers of 16 bits.
_STEPS = 65_535
# Voxels around the anatomy that are kept.
_MARGIN = 4
# The mean intensity that every brain is given before images are averaged.
_MEAN = 0.45
# A brain that fills less of what stands out from the background lies in a whole head.
_WHOLE_HEAD = 0.75


@dataclass(frozen=True)
class Subject:
    """What a group needs of one image.

    Attributes:
        scaled: its anatomy in [0, 1], of a whole head the brain alone, 0 around it; cropped.
        gain: what `scaled` is multiplied with before images are averaged.
        head: whether it was recognised as a head.
        places: of its structures; none without a head.
        maps: [12, D, H, W] channels of its structures on `maps_frame` (`anatomy.channels`); None without a head.
        means: [classes] mean intensities of the structures.
        warnings: what a person should know.
    """

    scaled: Volume
    gain: float
    head: bool
    places: Places
    maps: torch.Tensor | None
    maps_frame: Frame
    means: np.ndarray
    warnings: tuple[str, ...]

    def piece(self) -> Piece:
        """What `subject_of` reads."""
        none = np.zeros((0, 0, 0, 0), np.uint16)
        return {
            "scaled": _packed(self.scaled.data),
            "maps": none if self.maps is None else _packed(self.maps),
            "centres": self.places.centres,
            "volumes": self.places.volumes_ml,
            "cut": np.zeros(len(self.places.centres), bool) if self.places.cut is None else self.places.cut,
            "means": self.means,
            "facts": {
                "frame": _frame_facts(self.scaled.frame),
                "maps_frame": _frame_facts(self.maps_frame),
                "gain": self.gain,
                "head": self.head,
                "name": self.scaled.name,
                "warnings": list(self.warnings),
            },
        }


def subject_of(piece: Piece) -> Subject:
    """What `Subject.piece` gave."""
    facts = piece["facts"]
    frame, maps_frame = (_frame_of(facts[name]) for name in ("frame", "maps_frame"))
    maps = _unpacked(piece["maps"]) if piece["maps"].size else None
    return Subject(
        Volume(_unpacked(piece["scaled"]), frame, facts["name"]), facts["gain"], facts["head"],
        Places(piece["centres"], piece["volumes"], piece["cut"]), maps, maps_frame, piece["means"],
        tuple(facts["warnings"]),
    )  # fmt: skip


def read_subject(path: Path, model: StructureModel | None, listener: Listener) -> Subject:
    """Read an image and, with a model, the structures in it.

    Args:
        path: of the image.
        model: names structures; None for images that are not to be taken for heads.
        listener: hears the progress of the reading as step "read".

    Raises:
        InputError: the image cannot be used.
    """
    side = load_side(path)
    if model is None:
        return _without_structures(side, ())
    found = find_head(model.network, model.layout, side.image, views=len(VIEWS), listener=listener)
    if not found.check.head:
        reason = found.check.reason
        return _without_structures(side, (f"{path}: does not look like a head ({reason}); structures are not used",))
    brain = found.brain.on(side.image.frame)
    if float((brain & side.mask).sum()) <= _WHOLE_HEAD * float(side.mask.sum()):
        side = bare_side(side.image, Volume(brain.to(torch.int16), side.image.frame))
    warnings = () if found.warning is None else (f"{path}: {found.warning}",)
    return Subject(
        *_cropped(side), True, found.places, channels_of(found.maps.probabilities), found.maps.frame,
        structure_means(side.scaled, found.maps), (*side.image.warnings, *warnings),
    )  # fmt: skip


def _without_structures(side: Side, warnings: tuple[str, ...]) -> Subject:
    nothing = Places(np.zeros((0, 3)), np.zeros(0))
    return Subject(*_cropped(side), False, nothing, None, side.image.frame, np.zeros(0),
                   (*side.image.warnings, *warnings))  # fmt: skip


def _cropped(side: Side) -> tuple[Volume, float]:
    box = bounding_box(side.mask)
    assert box is not None  # an empty mask was refused
    low = [max(0, a - _MARGIN) for a in box[0]]
    high = [min(n - 1, b + _MARGIN) for b, n in zip(box[1], side.mask.shape, strict=True)]
    part = slices_of(low, high)
    data = torch.where(side.mask, side.scaled.data, 0.0)[part].contiguous()
    mean = float(side.scaled.data[side.mask].mean())
    if mean <= 0:
        raise InputError(f"{side.image.name}: is dark all over its anatomy; check the image")
    depth, height, width = data.shape
    frame = side.image.frame.part(low[::-1], (depth, height, width))
    return Volume(data, frame, side.image.name), _MEAN / mean


def _packed(values: torch.Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * _STEPS).round().to(torch.int32).numpy().astype(np.uint16)


def _unpacked(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).div_(_STEPS)


def _frame_facts(frame: Frame) -> dict[str, Any]:
    return {"shape": frame.shape, "origin": frame.origin, "spacing": frame.spacing, "direction": frame.direction}


def _frame_of(facts: dict[str, Any]) -> Frame:
    return Frame(**{name: tuple(values) for name, values in facts.items()})
