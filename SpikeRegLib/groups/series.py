"""The frames of a 4-D image brought onto one of them or onto their mean, each interpolated once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.motion import Reference, parameters_of
from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.series import Series
from SpikeRegLib.images.volumes import Volume, background_value, foreground_mask, normalise_intensity
from SpikeRegLib.pipeline.assemble import peak_memory_mb
from SpikeRegLib.pipeline.inputs import on_frame
from SpikeRegLib.progress import Clock, Listener, Progress, part_of_stage, silent
from SpikeRegLib.refinement.refine import refine
from SpikeRegLib.refinement.schedule import Level, RefinementSchedule
from SpikeRegLib.space.matrix_logarithms import nearest_rigid, without_mean
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose, warp_image
from SpikeRegLib.system.devices import leaving_state, set_threads
from SpikeRegLib.system.versions import versions

SCHEMA = 1
MODELS = ("rigid", "affine", "deformable")
# The radius of a head, at which rotations are counted as distances (Power et al. 2012).
_RADIUS_MM = 50.0
# A frame that agrees less with what it was brought onto is named.
_LOW_CORRELATION = 0.8
# Of a deformation: margin around the anatomy, in voxels.
_MARGIN = 6.0


@dataclass(frozen=True)
class AlignedSeries:
    """A finished series, still in memory.

    Attributes:
        series: [T, D, H, W] all frames on the grid of the file.
        transforms: of every frame, from points of the reference to points of the frame (LPS mm).
        motion: [T, 7] translations in mm and rotations in degrees of every frame (see `motion.parameters_of`), and the
            framewise displacement in mm.
        result: the content of series.json.
    """

    series: Series
    transforms: list[Transform]
    motion: np.ndarray
    result: dict[str, Any] = field(default_factory=dict)


@leaving_state
def align_series(
    series: Series, *, to: int | None = None, model: str = "rigid", threads: int | None = None,
    listener: Listener = silent,
) -> AlignedSeries:  # fmt: skip
    """Bring all frames onto one, or onto their mean in the middle of all their positions.

    Args:
        series: two or more frames of one contrast.
        to: number of the frame, from 0; None for the mean.
        model: "rigid", "affine", or "deformable", a deformation after the rigid motion.
        threads: CPU threads; all this process may run on if not given.
        listener: hears the steps align, refine and finish; raises Cancelled to stop.

    Raises:
        InputError: no such frame, or frames that show too little.
        Cancelled: the listener asked to stop.
    """
    count, clock = set_threads(threads), Clock(listener)
    if to is not None and not 0 <= to < len(series):
        raise InputError(f"--to {to}: the series has the frames 0 to {len(series) - 1}; choose one of them or mean")
    clock.begin("align")
    matrices, reference, correlations = _motions(series, to, affine=model == "affine", listener=listener)
    centre = reference.centre
    clock.end("align")
    transforms: list[Transform] = [AffineTransform(matrix) for matrix in matrices]
    if model == "deformable":
        clock.begin("refine")
        mean = _mean(series, transforms, to)
        transforms = _deformed(series, mean, transforms, to, listener)
        clock.end("refine")
    clock.begin("finish")
    data = torch.empty_like(series.data)
    for number, transform in enumerate(transforms):
        listener(Progress("finish", number / len(series), f"frame {number}"))
        frame = series.volume(number)
        if number == to:  # nothing to interpolate
            data[number] = frame.data
            continue
        data[number] = warp_image(frame, transform, series.frame, outside=background_value(frame)).data
    motion = _motion(matrices, centre)
    clock.end("finish")
    low = [number for number, value in enumerate(correlations) if value < _LOW_CORRELATION]
    warnings = [f"frames {', '.join(map(str, low))} agree poorly with the others; look at them"] if low else []
    result = {
        "schema": SCHEMA,
        "input": series.name,
        "frames": len(series),
        "step": series.step,
        "to": "mean" if to is None else to,
        "model": model,
        "centre_mm": centre.tolist(),
        "most_translation_mm": float(np.linalg.norm(motion[:, :3], axis=1).max()),
        "most_rotation_degrees": float(np.abs(motion[:, 3:6]).max()),
        "mean_framewise_mm": float(motion[1:, 6].mean()),
        "correlation": {"mean": float(np.mean(correlations)), "least": float(min(correlations))},
        "threads": count,
        **clock.times(),
        "peak_memory_mb": peak_memory_mb(),
        "versions": versions(),
        "warnings": warnings,
    }
    return AlignedSeries(replace(series, data=data), transforms, motion, result)


def _motions(
    series: Series, to: int | None, *, affine: bool, listener: Listener
) -> tuple[list[np.ndarray], Reference, list[float]]:
    """[4, 4] reference -> frame of every frame; the last reference; and how alike each frame is to it."""
    first = len(series) // 2 if to is None else to
    image = series.volume(first)
    share = 0.5 if to is None else 1.0
    reference = Reference(image, foreground_mask(image), affine=affine)
    found, correlations = _all(series, reference, None, part_of_stage(listener, 0.0, share))
    if to is not None:
        found[to], correlations[to] = np.eye(4), 1.0
        return found, reference, correlations
    mean = _mean(series, [AffineTransform(matrix) for matrix in found], None)
    reference = Reference(mean, foreground_mask(mean), affine=affine)
    found, correlations = _all(series, reference, found, part_of_stage(listener, share, 1.0))
    try:
        return without_mean(found), reference, correlations
    except ValueError as error:
        raise InputError(f"{series.name}: frames turn by too much to have a middle ({error}); use --to N") from error


def _all(
    series: Series, reference: Reference, starts: list[np.ndarray] | None, listener: Listener
) -> tuple[list[np.ndarray], list[float]]:
    """Every frame from where it was found before, or else from where the frame before it lies."""
    found: list[np.ndarray] = []
    correlations = []
    for number in range(len(series)):
        start = starts[number] if starts is not None else found[-1] if found else None

        def tick(done: float, number: int = number) -> None:
            listener(Progress("align", (number + done) / len(series), f"frame {number}"))

        matrix, correlation = reference.find(series.volume(number), start, tick=tick)
        found.append(matrix)
        correlations.append(correlation)
    return found, correlations


def _mean(series: Series, transforms: list[Transform] | list[AffineTransform], to: int | None) -> Volume:
    """The mean of all frames, or the one frame that others are brought onto."""
    if to is not None:
        return series.volume(to)
    total = torch.zeros(series.frame.shape)
    for number, transform in enumerate(transforms):
        frame = series.volume(number)
        total += warp_image(frame, transform, series.frame, outside=background_value(frame)).data
    return Volume(total / len(series), series.frame, f"{series.name or 'series'}: mean")


def _deformed(
    series: Series, mean: Volume, transforms: list[Transform], to: int | None, listener: Listener
) -> list[Transform]:
    """Each frame's motion after a smooth deformation."""
    frame = _working(mean)
    spacing_mm = frame.spacing[0]
    mask = foreground_mask(mean)
    fixed = on_frame(normalise_intensity(mean, mask), frame, AffineTransform.identity())
    schedule = RefinementSchedule((
        Level(2 * spacing_mm, 15, 2 * spacing_mm, 4 * spacing_mm, 1.5 * spacing_mm),
        Level(spacing_mm, 8, 2 * spacing_mm, 3 * spacing_mm, spacing_mm),
    ))  # fmt: skip
    found: list[Transform] = []
    for number, transform in enumerate(transforms):
        if number == to:
            found.append(transform)
            continue
        heard = part_of_stage(listener, number / len(series), (number + 1) / len(series))
        image = series.volume(number)
        moving = on_frame(normalise_intensity(image, foreground_mask(image)), frame, transform)
        field = refine(fixed, moving, spacing_mm=spacing_mm, schedule=schedule, listener=heard)
        own = replace(frame, shape=field.grid.shape, spacing=(field.grid.spacing_mm,) * 3)
        found.append(compose(DisplacementTransform(field.field, own), transform))
    return found


def _working(image: Volume) -> Frame:
    """An isotropic grid around the anatomy with about as many voxels as the image has there."""
    box = bounding_box(foreground_mask(image))
    assert box is not None
    (k, j, i), (c, b, a) = box
    part = image.frame.part((i, j, k), (c - k + 1, b - j + 1, a - i + 1))
    spacing_mm = math.prod(image.frame.spacing) ** (1 / 3)
    corners, margin = part.corners(), _MARGIN * spacing_mm
    return world_aligned(corners.min(0) - margin, corners.max(0) + margin, spacing_mm, 4)


def _motion(matrices: list[np.ndarray], centre: np.ndarray) -> np.ndarray:
    """[T, 7], see `AlignedSeries`; of affine maps the nearest rigid motion."""
    rows = []
    for matrix in matrices:
        rigid = nearest_rigid(matrix)
        rigid[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] - rigid[:3, :3] @ centre
        rows.append(np.concatenate(parameters_of(rigid, centre)))
    values = np.array(rows)
    change = np.abs(np.diff(values, axis=0, prepend=values[:1]))
    framewise = change[:, :3].sum(1) + _RADIUS_MM * np.radians(change[:, 3:]).sum(1)
    return np.column_stack((values, framewise))
