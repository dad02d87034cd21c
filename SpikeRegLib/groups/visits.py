"""Visits of one person compared in a space in the middle of them all, so that none is favoured (Reuter et al. 2012).

Rigid maps are found both ways and moved so that their logarithms add to zero: the mid-space. There the velocity of what
changed between the first and each later visit is found from both at once (`groups.small_changes`). The structures are
named once, in the mean of all visits, and the volume of each at a visit is the integral of the Jacobian there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib.anatomy.label_maps import label_map
from SpikeRegLib.anatomy.model import StructureModel, load_structure_model
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.pose import find_head
from SpikeRegLib.anatomy.reading import VIEWS
from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.mid_space import MidSpace, Visit, mid_space, read_visit
from SpikeRegLib.groups.small_changes import ChangeSettings, change_between, sampler
from SpikeRegLib.images.volumes import Volume, background_value
from SpikeRegLib.pipeline.assemble import peak_memory_mb
from SpikeRegLib.progress import Clock, Listener, Progress, part_of_stage, silent
from SpikeRegLib.quality.metrics import jacobian_determinant
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import exponential
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose, warp_image
from SpikeRegLib.system.devices import leaving_state, set_threads
from SpikeRegLib.system.versions import versions

SCHEMA = 1
# The mean intensity that every visit is given before they are averaged.
_MEAN = 0.45


@dataclass(frozen=True)
class ComparedVisit:
    """One visit.

    Attributes:
        name: its id.
        in_mid: the image on the grid of the mid-space, in its own intensities, interpolated once.
        to_visit: mid-space -> visit points, LPS mm: first what changed, then the rigid map.
        to_mid: its inverse.
        jacobian: [D, H, W] determinant of what changed on the mid-space's grid: volume at this visit for each volume
            there.
    """

    name: str
    in_mid: Volume
    to_visit: Transform
    to_mid: Transform
    jacobian: torch.Tensor


@dataclass(frozen=True)
class ComparedVisits:
    """Visits of one person, still in memory.

    Attributes:
        mid: mean of all visits in the mid-space, in [0, 1].
        labels: int16, FreeSurfer's numbers on its grid.
        visits: in the order given.
        changes: for each later visit and structure: id, structure, ml_first, ml_later, change_percent.
        result: the content of longitudinal.json.
    """

    mid: Volume
    labels: Volume
    visits: list[ComparedVisit]
    changes: list[dict[str, Any]]
    result: dict[str, Any] = field(default_factory=dict)

    def jacobian(self, later: int) -> Volume:
        """Of the map first -> later visit, seen in the mid-space: 1 keeps volume."""
        ratio = self.visits[later].jacobian / self.visits[0].jacobian.clamp_min(1e-3)
        return Volume(ratio, self.mid.frame, "jacobian")


@leaving_state
def compare_visits(
    members: Mapping[str, Path],
    digests: Mapping[str, str],
    *,
    affine: bool = False,
    settings: ChangeSettings | None = None,
    threads: int | None = None,
    listener: Listener = silent,
) -> ComparedVisits:
    """Compare visits of one person.

    Args:
        members: id -> image, two or more, the first visit first.
        digests: id -> SHA-256 of the image.
        affine: let sizes and shears differ as well; they count as the scanner's, not as change.
        settings: how changes are found; what suits heads of 1 mm if not given.
        threads: CPU threads; all this process may run on if not given.
        listener: hears the steps prepare, align, refine and finish; raises Cancelled to stop.

    Raises:
        InputError: an image cannot be used or is no head, or the visits are not of one person.
        Cancelled: the listener asked to stop.
    """
    count, clock, settings = set_threads(threads), Clock(listener), settings or ChangeSettings()
    model = load_structure_model()
    clock.begin("prepare")
    visits = []
    for number, (name, path) in enumerate(members.items()):
        heard = part_of_stage(listener, number / len(members), (number + 1) / len(members))
        visits.append(read_visit(name, path, model, heard))
    clock.end("prepare")
    clock.begin("align")
    space = mid_space(visits, [digests[name] for name in members], affine=affine, listener=listener)
    clock.end("align")
    clock.begin("refine")
    velocities, grid = _velocities(visits, [digests[name] for name in members], space, settings, listener)
    clock.end("refine")
    clock.begin("finish")
    compared = []
    for number, (visit, matrix, velocity) in enumerate(zip(visits, space.matrices, velocities, strict=True)):
        listener(Progress("finish", 0.5 * number / len(visits), f"transforms of {visit.name}"))
        compared.append(_finished(visit, matrix, velocity, grid, space))
    mean = torch.stack([each.in_mid.data * scale for each, scale in zip(compared, _scales(visits), strict=True)]).mean(
        0
    )
    mid = Volume(mean.clamp_(0, 1), space.frame, "mean of all visits")
    labels = _labels(mid, model, part_of_stage(listener, 0.5, 0.9))
    changes = _changes(compared, labels)
    clock.end("finish")
    result = {
        "schema": SCHEMA,
        "model": {"name": model.name, "sha256": model.sha256},
        "affine": affine,
        "visits": [
            {
                "id": visit.name, "file": members[visit.name].name, "sha256": digests[visit.name],
                "matrix": matrix.tolist(), "correlation": correlation,
                "least_jacobian": float(each.jacobian.min()), "most_jacobian": float(each.jacobian.max()),
            }
            for visit, matrix, correlation, each in zip(
                visits, space.matrices, space.correlations, compared, strict=True
            )
        ],
        "changes": changes,
        "threads": count,
        **clock.times(),
        "peak_memory_mb": peak_memory_mb(),
        "versions": versions(),
        "warnings": [*(warning for visit in visits for warning in visit.warnings), *space.warnings],
    }  # fmt: skip
    return ComparedVisits(mid, labels, compared, changes, result)


def _velocities(
    visits: list[Visit], digests: list[str], space: MidSpace, settings: ChangeSettings, listener: Listener
) -> tuple[list[torch.Tensor], Grid]:
    """[3, d, h, w] mm of every visit: from the middle of all to it, on one grid.

    Of two visits the one of the smaller digest is taken first, so that exchanging them gives the same to the last bit.
    """
    samplers = [
        sampler(visit.scaled, AffineTransform(matrix)) for visit, matrix in zip(visits, space.matrices, strict=True)
    ]
    found: list[torch.Tensor] = []
    grid = Grid(space.frame.shape, space.frame.spacing[0])
    for number in range(1, len(visits)):
        heard = part_of_stage(listener, (number - 1) / (len(visits) - 1), number / (len(visits) - 1))
        pair = (samplers[0], samplers[number])
        turned = digests[number] < digests[0]
        velocity, grid = change_between(*(pair[::-1] if turned else pair), space.frame, settings, heard)
        found.append(-velocity if turned else velocity)
    found.insert(0, torch.zeros_like(found[0]))
    mean = torch.stack(found).mean(0)
    return [velocity - mean for velocity in found], grid


def _finished(visit: Visit, matrix: np.ndarray, velocity: torch.Tensor, grid: Grid, space: MidSpace) -> ComparedVisit:
    frame = replace(space.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)
    flow, _ = remove_folds(exponential(hold_border(grid.to_voxels(velocity))[None])[0])
    there = DisplacementTransform(grid.to_mm(flow), frame)
    affine = AffineTransform(matrix)
    to_visit = compose(there, affine)
    in_mid = warp_image(visit.image, to_visit, space.frame, outside=background_value(visit.image))
    whole = Grid(space.frame.shape, space.frame.spacing[0])
    jacobian = jacobian_determinant(resample(there.field, grid, whole), space.frame)
    to_mid = compose(affine.inverse(), fine_inverse(there))
    return ComparedVisit(visit.name, in_mid, to_visit, to_mid, jacobian)


def _scales(visits: list[Visit]) -> list[float]:
    return [_MEAN / float(visit.image.data[visit.mask].mean()) for visit in visits]


def _labels(mid: Volume, model: StructureModel, listener: Listener) -> Volume:
    """The structures of the mean of all visits."""

    def heard(progress: Progress) -> None:
        listener(Progress("finish", progress.fraction, "structures of the mean"))

    found = find_head(model.network, model.layout, mid, views=len(VIEWS), listener=heard)
    if not found.check.head:
        raise InputError(
            f"mean of the visits: does not look like a head ({found.check.reason}); check that they are of one person"
        )
    labels, _ = label_map(found.maps.logits, found.brain, mid.frame)
    return Volume(labels, mid.frame, "labels")


def _changes(visits: list[ComparedVisit], labels: Volume) -> list[dict[str, Any]]:
    """The volume of every structure at the first and at each later visit."""
    voxel_ml = float(np.prod(labels.frame.spacing)) / 1000
    places = labels.data.flatten().long()
    sums = [
        torch.zeros(max(STRUCTURES) + 1, dtype=torch.float64).index_add_(0, places, visit.jacobian.flatten().double())
        for visit in visits
    ]
    rows = []
    for visit, later in zip(visits[1:], sums[1:], strict=True):
        for label, structure in STRUCTURES.items():
            first_ml, later_ml = float(sums[0][label]) * voxel_ml, float(later[label]) * voxel_ml
            if first_ml:
                rows.append({
                    "id": visit.name, "label": label, "structure": structure.name, "ml_first": first_ml,
                    "ml_later": later_ml, "change_percent": 100 * (later_ml / first_ml - 1),
                })  # fmt: skip
    return rows
