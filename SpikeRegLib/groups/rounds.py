"""One round of a group: every subject registered to the template, and the template moved to where none is favoured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from SpikeRegLib.groups.space import Round, TemplateSpace
from SpikeRegLib.groups.subject import Subject
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import on_frame
from SpikeRegLib.progress import Listener
from SpikeRegLib.refinement.both_ways import refine_both_ways
from SpikeRegLib.refinement.feature_maps import FeatureMaps
from SpikeRegLib.refinement.refine import refine
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.grids import Grid, resample, resample_voxels
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, warp_image
from SpikeRegLib.space.transforms import compose as compose_transforms

# Maps of structures are no finer than the network sees them.
_MAPS_MM = 2.0


@dataclass(frozen=True)
class Template:
    """What subjects are registered to.

    Attributes:
        image: [D, H, W] in [0, 1] on the space's grid of `spacing_mm`.
        maps: [12, d, h, w] mean channels of the structures on `maps_grid` of the space; None without heads.
        spacing_mm: of `image`.
    """

    image: torch.Tensor
    maps: torch.Tensor | None
    spacing_mm: float


@dataclass(frozen=True)
class Field:
    """A displacement [3, d, h, w] mm, template -> aligned subject, on a grid that starts at the space's first voxel."""

    mm: torch.Tensor
    grid: Grid


def maps_grid(space: TemplateSpace) -> Grid:
    return space.grid.coarser(max(_MAPS_MM, space.grid.spacing_mm))


def transform_of(field: Field | None, matrix: np.ndarray, space: TemplateSpace) -> Transform:
    """The whole map, template -> subject points: first the deformation, then the affine map."""
    affine = AffineTransform(matrix)
    if field is None:
        return affine
    return compose_transforms(DisplacementTransform(field.mm, space.frame_of(field.grid)), affine)


def seen(
    subject: Subject, matrix: np.ndarray, field: Field | None, space: TemplateSpace, spacing_mm: float
) -> torch.Tensor:
    """[D, H, W] a subject on the space's grid of `spacing_mm`, interpolated once, of the mean brightness of all."""
    warped = on_frame(subject.scaled, space.at(spacing_mm), transform_of(field, matrix, space))
    return warped * subject.gain


def seen_maps(subject: Subject, matrix: np.ndarray, field: Field | None, space: TemplateSpace) -> torch.Tensor:
    """[12, d, h, w] the channels of a head's structures on `maps_grid`."""
    assert subject.maps is not None  # without heads nothing asks for maps
    frame, transform = space.frame_of(maps_grid(space)), transform_of(field, matrix, space)
    return torch.stack(
        [warp_image(Volume(channel, subject.maps_frame), transform, frame).data for channel in subject.maps]
    )


def registered(
    template: Template, subject: Subject, matrix: np.ndarray, start: Field | None, space: TemplateSpace, step: Round,
    listener: Listener,
) -> tuple[Field, dict[str, Any]]:  # fmt: skip
    """The deformation of a subject, found from `start` on, and how alike both are before and after.

    Args:
        matrix: [4, 4] template -> subject, LPS mm.
        start: of an earlier round; without one the coarse levels are optimised both ways.
        listener: hears the progress; raises Cancelled to stop.
    """
    moving = on_frame(subject.scaled, space.at(template.spacing_mm), AffineTransform(matrix))
    maps = None
    if template.maps is not None and any(level.maps for level in step.schedule.levels):
        grid = maps_grid(space)
        weight = resample((template.image > FOREGROUND).float(), _grid(space, template.spacing_mm), grid)
        maps = FeatureMaps(template.maps, seen_maps(subject, matrix, None, space), weight, grid)
    common: dict[str, Any] = {
        "spacing_mm": template.spacing_mm, "schedule": step.schedule, "mask": (template.image > FOREGROUND).float(),
        "maps": maps, "listener": listener,
    }  # fmt: skip
    if start is None and step.schedule.both_ways:
        found = refine_both_ways(template.image, moving, **common)
    else:
        initial: dict[str, Any] = {} if start is None else {"initial": start.mm, "initial_grid": start.grid}
        found = refine(template.image, moving, **initial, **common)
    facts = {"similarity_before": found.similarity_before, "similarity_after": found.similarity_after}
    return Field(found.field, found.grid), facts


def shape_update(mean: Field, space: TemplateSpace) -> Field:
    """The inverse of the mean deformation: where the points of the new template lie in the old one.

    Deformations that see it first have the mean id, exactly but for interpolation (Guimond, Meunier and Thirion 2000):
    every point of the new template lies where the points that it is mapped to lie on average.
    """
    frame = space.frame_of(mean.grid)
    inverse = DisplacementTransform(mean.mm, frame).inverse()
    return replace(mean, mm=hold_border(inverse.displacement_on(frame)))


def updated(field: Field, update: Field) -> Field:
    """A deformation of the old template as one of the new: the update first, without folds."""
    first = resample_voxels(update.grid.to_voxels(update.mm), update.grid, field.grid)
    composed = compose(first[None], field.grid.to_voxels(field.mm)[None])[0]
    composed, _ = remove_folds(hold_border(composed))
    return replace(field, mm=field.grid.to_mm(composed))


def _grid(space: TemplateSpace, spacing_mm: float) -> Grid:
    return space.grid.coarser(max(spacing_mm, space.grid.spacing_mm))
