"""The grids of a group's template, and the settings of its rounds, from a preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.pipeline.inputs import MARGIN_MM, MULTIPLE, check_size
from SpikeRegLib.presets.preset import Preset
from SpikeRegLib.refinement.schedule import Level, RefinementSchedule
from SpikeRegLib.space.grids import Grid

# All rounds but the last work on voxels so many times as large.
COARSER = 2.0


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        spacing_mm: of the template that images are registered to.
        schedule: of every registration. `both_ways` counts in the first round alone, where nothing is there yet.
    """

    spacing_mm: float
    schedule: RefinementSchedule


@dataclass(frozen=True)
class TemplateSpace:
    """Where a template lies.

    Attributes:
        frame: its finest grid, with the axes of the patient.
    """

    frame: Frame

    @property
    def grid(self) -> Grid:
        return Grid(self.frame.shape, self.frame.spacing[0])

    def at(self, spacing_mm: float) -> Frame:
        """The grid of this spacing that starts at the same voxel."""
        return self.frame_of(self.grid.coarser(max(spacing_mm, self.frame.spacing[0])))

    def frame_of(self, grid: Grid) -> Frame:
        """Where a grid lies that starts at the first voxel of `frame`."""
        return dataclasses.replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)


def space_around(frames: Sequence[Frame], matrices: Sequence[np.ndarray], preset: Preset) -> TemplateSpace:
    """The grid, with a margin, around all images in the common space.

    Args:
        frames: of the cropped images.
        matrices: [4, 4] common space -> image, LPS mm.
        preset: says the voxel size, or how many voxels the anatomy spans.

    Raises:
        InputError: it would have too many voxels.
    """
    corners = []
    for frame, matrix in zip(frames, matrices, strict=True):
        back = np.linalg.inv(matrix)
        corners.append(frame.corners() @ back[:3, :3].T + back[:3, 3])
    first = np.min([points.min(0) for points in corners], 0)
    last = np.max([points.max(0) for points in corners], 0)
    spacing_mm, margin = preset.working_spacing_mm, MARGIN_MM
    if preset.working_voxels:
        spacing_mm = float(np.prod(last - first + 1e-6) / preset.working_voxels) ** (1 / 3)
        margin = MARGIN_MM * spacing_mm
    frame = world_aligned(first - margin, last + margin, spacing_mm, MULTIPLE)
    check_size(frame, f"template: spacing of {spacing_mm:g} mm")
    return TemplateSpace(frame)


def rounds_of(preset: Preset, count: int, spacing_mm: float) -> list[Round]:
    """What the rounds do: coarse levels from the identity first, then coarse ones from where the last round ended, and
    in the last round the fine levels as well.

    Args:
        preset: with levels of refinement.
        count: of rounds, at least 1.
        spacing_mm: of the template.

    Raises:
        InputError: the preset has no levels.
    """
    schedule = preset.schedule(spacing_mm=spacing_mm)
    if schedule is None:
        raise InputError(f"preset {preset.name}: has no levels of refinement; choose brain or any-anatomy")
    coarse_mm = COARSER * spacing_mm
    # What a network would have found is found by a level of large voxels instead.
    start: tuple[Level, ...] = () if preset.method == "optimize" else (Level.usual(4.0 * spacing_mm, 20),)
    coarse = start + tuple(level for level in schedule.levels if level.spacing_mm >= 0.99 * coarse_mm)
    fine = tuple(level for level in schedule.levels if level.spacing_mm < 0.99 * coarse_mm)
    coarse = coarse or (Level.usual(2 * coarse_mm, 20), Level.usual(coarse_mm, 10))
    if count == 1:
        return [Round(spacing_mm, dataclasses.replace(schedule, levels=(*coarse, *fine), both_ways=len(coarse)))]
    # Maps of structures take most of the time, and are of use where most is found: on the coarsest voxels, and once
    # more where those of a first mean are compared.
    levels = (coarse[0], *_without_maps(coarse[1:]))
    first = dataclasses.replace(schedule, levels=levels, both_ways=len(coarse))
    again = dataclasses.replace(schedule, levels=coarse[-1:], both_ways=0)
    last = dataclasses.replace(schedule, levels=_without_maps(fine or coarse[-1:]), both_ways=0)
    return [Round(coarse_mm, first), *[Round(coarse_mm, again)] * (count - 2), Round(spacing_mm, last)]


def _without_maps(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple(dataclasses.replace(level, maps=0.0) for level in levels)
