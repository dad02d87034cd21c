"""segment(): what is where in one image of a head, on the image's own grid."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from SpikeRegLib.anatomy.head_check import HeadCheck
from SpikeRegLib.anatomy.label_maps import label_map
from SpikeRegLib.anatomy.model import SHIPPED, StructureModel, load_structure_model
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.pose import find_head
from SpikeRegLib.anatomy.reading import VIEWS, StructureMaps
from SpikeRegLib.anatomy.structures import CLASS_OF
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.given import Source, load_image
from SpikeRegLib.images.volumes import Volume, background_value
from SpikeRegLib.progress import Clock, Listener, Progress, silent, tell_reading
from SpikeRegLib.space.field_of_view import cut_faces
from SpikeRegLib.system.devices import leaving_state, set_threads
from SpikeRegLib.system.versions import versions

SCHEMA = 1


@dataclass(frozen=True)
class Segmentation:
    """What is where in one image, still in memory.

    Attributes:
        image: as read, in its own intensities.
        labels: int16, FreeSurfer's numbers on the image's grid; see `anatomy.names`.
        mask: bool, the brain with its ventricles and the CSF around it, on the image's grid.
        brain: the image where the mask is, its background's value elsewhere.
        maps: what the network said, at 2 mm.
        result: the content of segmentation.json.
    """

    image: Volume
    labels: Volume
    mask: Volume
    brain: Volume
    maps: StructureMaps
    result: dict[str, Any] = field(default_factory=dict)


@leaving_state
def segment(
    source: Source,
    *,
    model: str | Path = SHIPPED,
    threads: int | None = None,
    allow_nonfinite: bool = False,
    allow_few_values: bool = False,
    listener: Listener = silent,
) -> Segmentation:
    """Name the structures of a head or a skull-stripped brain of any contrast, however it lies (`pose.find_head`).

    Args:
        source: a volume or a file; any spacing, orientation and size from 16 voxels per axis.
        model: name of a shipped model, or a .safetensors file, whose network names structures.
        threads: CPU threads; all this process may run on if not given.
        allow_nonfinite: take NaN and infinite voxels as background.
        allow_few_values: the image may be of few grey values with sharp edges: no label map.
        listener: hears the steps prepare, read and finish; raises Cancelled to stop.

    Threads and random state of torch and SimpleITK are afterwards what they were.

    Raises:
        InputError: the image cannot be used, or does not look like a human head.
        Cancelled: the listener asked to stop.
    """
    count, clock = set_threads(threads), Clock(listener)
    clock.begin("prepare")
    tell_reading(listener, source)
    image = load_image(source, allow_nonfinite=allow_nonfinite, allow_few_values=allow_few_values)
    tool = load_structure_model(model)
    clock.end("prepare")
    clock.begin("read")
    found = find_head(tool.network, tool.layout, image, views=len(VIEWS), listener=listener)
    clock.end("read")
    clock.begin("finish")
    maps, brain, head, table = found.maps, found.brain, found.check, found.confidences
    if not head.head:
        raise InputError(
            f"{image.name or 'image'}: does not look like a human head ({head.reason}); give an image of a whole head "
            "or brain"
        )
    labels, mask = label_map(
        maps.logits, brain, image.frame,
        tick=lambda share: listener(Progress("finish", share, "labels on the grid of the image")),
    )  # fmt: skip
    outside = background_value(image)
    stripped = replace(image, data=torch.where(mask, image.data, outside))
    result = _result(image, maps, tool, head, labels, mask, table)
    if found.warning is not None:
        result["warnings"].append(f"{image.name or 'image'}: {found.warning}")
    result |= {"background": outside, "threads": count, "tilt_degrees": found.tilt_degrees}
    clock.end("finish")
    result |= clock.times()
    named = replace(image, nonfinite=0, warnings=())
    return Segmentation(
        image, replace(named, data=labels), replace(named, data=mask), stripped, maps, _in_order(result)
    )


def _result(
    image: Volume, maps: StructureMaps, tool: StructureModel, head: HeadCheck, labels: torch.Tensor,
    mask: torch.Tensor, confidences: list[float],
) -> dict[str, Any]:  # fmt: skip
    """The content of segmentation.json, but for times and files."""
    voxel = _voxel_ml(image.frame.spacing)
    counts = torch.bincount(labels.flatten().int(), minlength=max(STRUCTURES) + 1)
    structures = [
        {
            "label": label,
            "name": structure.name,
            "ml": float(counts[label]) * voxel,
            "confidence": confidences[CLASS_OF[label]],
        }
        for label, structure in STRUCTURES.items()
    ]
    warnings = list(image.warnings)
    if image.nonfinite:
        warnings.append(f"{image.name or 'image'}: {image.nonfinite} NaN or infinite voxels were taken as background")
    if any(face for faces in cut_faces(mask) for face in faces):
        warnings.append("the field of view cuts the brain: volumes are of what it shows")
    if missing := [str(row["name"]) for row in structures if not row["ml"]]:
        warnings.append(f"not found: {', '.join(missing)}")
    updates = sum(layer.neuron_updates for layer in maps.layers)
    return {
        "input": image.name,
        "model": {"name": tool.name, "sha256": tool.sha256},
        "head": head.head,
        "reason": head.reason,
        "head_check": {name: value for name, value in asdict(head).items() if name not in ("head", "reason")},
        "confidence": confidences[0],
        "brain_ml": float(mask.sum()) * voxel,
        "structures": structures,
        "arithmetic": maps.arithmetic,
        "spikes": {
            "timesteps": maps.layers[0].timesteps,
            "mean_rate": sum(layer.count for layer in maps.layers) / updates,
        } if updates else None,
        "energy": maps.energy.as_result() if maps.energy is not None and maps.layers else None,
        "versions": versions(),
        "warnings": warnings,
    }  # fmt: skip


def _in_order(result: dict[str, Any]) -> dict[str, Any]:
    """Warnings last, as in result.json."""
    return {"schema": SCHEMA, **{key: value for key, value in result.items() if key != "warnings"},
            "warnings": result["warnings"]}  # fmt: skip


def _voxel_ml(spacing: tuple[float, float, float]) -> float:
    x, y, z = spacing
    return x * y * z / 1000
