"""Registrations whose errors are known: drawn heads with a known warp, drawn heads of two persons, real brains.

A case is one run of `register` on one thread with the evidence at sample points and the error there, in mm:

- `warps`: one training label map drawn twice, each with its own warp and look; the right map is known everywhere.
- `surfaces`: two training label maps; at the surface of each structure of the fixed head, the distance to the surface
  of the same structure of the moving one, brought over.
- `brain warps`, `brains`: the same two with development brains, to check; nothing is fitted to them.

Cases with a known warp come in three ways: as found; with two bumps of 4 to 20 mm added to the deformation, which is
then wrong in two places; and without any deformation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import evaluation as data
import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.anatomy.structures import LABELS
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.options.options import Options
from SpikeRegLib.pipeline.engine import choices, run_plan
from SpikeRegLib.pipeline.plan import PLANS
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.progress import Clock, silent
from SpikeRegLib.similarity.pair import Deformation
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, compose, warp_image
from SpikeRegLib.training.appearance import SyntheticOptions, contrast, scan, smooth_noise
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.subjects import Subject, load_subjects
from SpikeRegLib.trust.calibration import prepared
from SpikeRegLib.trust.evidence import evidence_of

POINTS = 20_000
PER_SURFACE = 600
# Correlation length and standard deviation of a warp, mm.
WARPS = ((48.0, 3.5), (24.0, 2.0), (12.0, 0.7))
HEAD = Frame((160, 192, 160), (-79.5, -95.5, -79.5))
LOOK = SyntheticOptions(thick_slices=0.3)


@dataclass(frozen=True)
class Sampled:
    """Evidence [N, K] at N points, the errors there [N] mm, and how the deformation was made."""

    evidence: np.ndarray
    error_mm: np.ndarray
    way: str


@dataclass(frozen=True)
class Made:
    """A pair and what is known of it: the error of a map at points [N, 3], or labels of both images."""

    fixed: Volume
    moving: Volume
    error: Callable[[Transform, torch.Tensor], torch.Tensor] | None = None
    labels: tuple[Volume, Volume] | None = None


@lru_cache
def heads() -> list[Subject]:
    return load_subjects(sorted((data.DATA / "train").glob("synthseg_seg_*.nii.gz")))


def a_warp(stream: Stream, shape: tuple[int, int, int], strength: float) -> torch.Tensor:
    """[3, D, H, W] mm."""
    field = torch.zeros(3, *shape)
    for length, amplitude in WARPS:
        field += strength * amplitude * stream.uniform(0.2, 1.0) * smooth_noise(stream, shape, 1.0, length, 3)
    return field


def drawn(head: Subject, stream: Stream, field: torch.Tensor, means: torch.Tensor) -> Volume:
    """A stripped head at 1 mm, seen through a warp."""
    personal = means * (1 + 0.03 * stream.normal(len(LABELS)))
    image = torch.cat([torch.zeros(1), personal])[head.fine_labels.long()]
    distance = torch.nn.functional.interpolate(head.distance.float()[None, None], scale_factor=2, mode="trilinear")
    edge = 2 + stream.normal(1) + smooth_noise(stream, HEAD.shape, 1.0, 30.0, 1)[0]
    clean = gaussian((image * (distance[0, 0] <= edge))[None], 0.5)[0]
    seen = warp(clean[None, None], field[None])[0, 0]
    inside = seen > 0.02 * float(seen.max())
    return Volume((scan(seen, stream, LOOK, 1.0).clamp_min(0) * inside * 1000).round(), HEAD)


def warps(number: int) -> Made:
    stream = Stream(7_000_003 + number)
    head, means = heads()[number % len(heads())], contrast(stream, 0.15)
    strength = stream.uniform(0.3, 1.6)
    fields = [a_warp(stream, HEAD.shape, strength) for _ in range(2)]
    fixed, moving = (drawn(head, stream, field, means) for field in fields)
    in_head = [DisplacementTransform(field, HEAD).map_points for field in fields]
    return Made(fixed, moving, lambda found, x: (in_head[1](found.map_points(x)) - in_head[0](x)).norm(dim=1))


def surfaces(number: int) -> Made:
    stream = Stream(14_000_006 + number)
    first = number % len(heads())
    both = heads()[first], heads()[(first + 1 + 7 * number % (len(heads()) - 1)) % len(heads())]
    means = contrast(stream, 0.15)
    fields = [a_warp(stream, HEAD.shape, 0.4) for _ in both]
    fixed, moving = (drawn(head, stream, field, means) for head, field in zip(both, fields, strict=True))
    labels = [
        Volume(warp(head.fine_labels.float()[None, None], field[None], mode="nearest")[0, 0].to(torch.int16), HEAD)
        for head, field in zip(both, fields, strict=True)
    ]
    return Made(fixed, moving, labels=(labels[0], labels[1]))


def brain_warps(number: int) -> Made:
    names = data.subjects()
    fixed = read_image(data.subject_image(names[number % len(names)]))
    stream = Stream(99_991 + number)
    strength = 1.4 * stream.uniform(0.3, 1.6)
    shape = fixed.frame.shape
    field = DisplacementTransform(a_warp(stream, (shape[0], shape[1], shape[2]), strength), fixed.frame)
    moved = warp_image(fixed, field, fixed.frame)
    inside = moved.data > 0
    image = moved.data.float() / torch.quantile(moved.data[inside].float()[::16], 0.99)
    look = (scan(image, stream, LOOK, 1.0).clamp_min(0) * inside * 1000).round()
    moving = replace(moved, data=look, name="warped")
    return Made(fixed, moving, lambda found, x: (field.map_points(found.map_points(x)) - x).norm(dim=1))


def brains(number: int) -> Made:
    pair = data.cohort_pairs()[number]
    fixed, moving = (read_image(data.subject_image(name)) for name in pair)
    labels = [data.grouped_labels(name) for name in pair]
    return Made(fixed, moving, labels=(labels[0], labels[1]))


KINDS = {"warps": warps, "surfaces": surfaces, "brain warps": brain_warps, "brains": brains}


def sampled(kind: str, number: int, preset: str) -> Iterator[Sampled]:
    """The case, registered, in every way that its kind has."""
    made, random = KINDS[kind](number), np.random.default_rng(number)
    values = choices(Options.of(preset=preset, threads=1))
    values |= {"fixed": made.fixed, "moving": made.moving, "device": "cpu"}
    found = run_plan(PLANS[values["method"]], values, Clock(silent), Memory())
    pair, deformation = found["working pair"], found["refinement"].deformation
    if made.error is None:
        assert made.labels is not None
        warped = warp_image(made.labels[1], found["mapping"].transform, made.labels[0].frame, interpolation="nearest")
        points, error = surface_errors(made.labels[0], warped, random)
        yield Sampled(evidence_at(pair.judged, deformation, points), error, "found")
        return
    indices = np.argwhere(found["fixed mask"].mask.numpy())
    points = physical(indices[random.permutation(len(indices))[:POINTS]], made.fixed.frame)
    base = found["alignment"].transform
    for way, field in ways(deformation, random):
        other = Deformation(field, deformation.grid)
        transform = compose(DisplacementTransform(field, pair.working.frame_of(deformation.grid)), base)
        error = made.error(transform, torch.from_numpy(points)).numpy()
        yield Sampled(evidence_at(pair.judged, other, points), error, way)


def ways(found: Deformation, random: np.random.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    yield "found", found.field
    yield "bumps", found.field + sum(a_bump(found, random) for _ in range(2))
    yield "not deformed", torch.zeros_like(found.field)


def a_bump(found: Deformation, random: np.random.Generator) -> torch.Tensor:
    """[3, d, h, w] mm: a push of 4 to 20 mm that fades over 12 to 25 mm, in the middle half of the grid."""
    centre = [random.uniform(0.3, 0.7) * (n - 1) * found.grid.spacing_mm for n in found.grid.shape]
    direction = random.normal(size=3)
    way = direction / np.linalg.norm(direction) * random.uniform(4, 20)
    return push(found.grid, centre, way, random.uniform(12, 25))


def push(grid: Grid, centre: Sequence[float], way: np.ndarray, width: float) -> torch.Tensor:
    """[3, d, h, w] mm: a displacement that is `way` at `centre` and fades around it.

    Args:
        grid: of the field.
        centre: mm from its first voxel, along (d, h, w).
        way: [3] mm.
        width: standard deviation, mm.
    """
    axes = [torch.arange(n) * grid.spacing_mm - middle for n, middle in zip(grid.shape, centre, strict=True)]
    squared = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij"))
    return torch.tensor(way, dtype=torch.float32).view(3, 1, 1, 1) * torch.exp(-squared / (2 * width**2)).float()


def physical(indices: np.ndarray, frame: Frame) -> np.ndarray:
    """[N, 3] LPS mm of voxels [N, 3] (z, y, x)."""
    return frame.to_mm(indices[:, ::-1])


def evidence_at(pair: Any, deformation: Deformation, points: np.ndarray) -> np.ndarray:
    """[N, K] of the evidence, interpolated linearly."""
    maps = prepared(evidence_of(pair, deformation)).movedim(-1, 0)
    index = pair.frame.to_index(points)
    position = torch.from_numpy(2 * index / (np.array(pair.frame.size) - 1) - 1).float()
    found = torch.nn.functional.grid_sample(
        maps[None], position[None, None, None], align_corners=True, padding_mode="border"
    )
    return found[0, :, 0, 0].T.numpy()


def surface_errors(fixed: Volume, warped: Volume, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] on the surfaces of all fixed structures, and their distance to the warped ones', mm."""
    points, errors = [], []
    for label in np.unique(fixed.data.numpy()):
        own, other = (image.data.numpy() == label for image in (fixed, warped))
        if label == 0 or min(own.sum(), other.sum()) < 50:
            continue
        indices = np.argwhere(own)
        low = np.maximum(indices.min(0) - 12, 0)
        box = tuple(slice(a, b) for a, b in zip(low, indices.max(0) + 13, strict=True))
        if other[box].sum() < 20:
            continue
        contour = sitk.GetArrayFromImage(sitk.LabelContour(sitk.GetImageFromArray(own[box].astype(np.uint8)))) > 0
        image = sitk.GetImageFromArray(other[box].astype(np.uint8))
        image.SetSpacing(fixed.frame.spacing)
        distance = np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))
        surface = np.argwhere(contour)
        chosen = surface[random.permutation(len(surface))[:PER_SURFACE]]
        points.append(physical(chosen + low, fixed.frame))
        errors.append(distance[tuple(chosen.T)])
    return np.concatenate(points), np.concatenate(errors)


def gathered(kind: str, number: int, preset: str, cache: Path) -> list[Sampled]:
    """The case, from the cache where it is there."""
    path = cache / f"{preset}-{kind.replace(' ', '-')}-{number}.npz"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        cases = list(sampled(kind, number, preset))
        arrays = {f"{case.way} {name}": getattr(case, name) for case in cases for name in ("evidence", "error_mm")}
        with (path.with_suffix(".part")).open("wb") as file:
            np.savez_compressed(file, **{name: value.astype(np.float32) for name, value in arrays.items()})
        path.with_suffix(".part").replace(path)
        print(path.name, *(f"{case.way} {case.error_mm.mean():.2f} mm" for case in cases), file=sys.stderr, flush=True)
    with np.load(path) as table:
        ways_there = [name.removesuffix(" error_mm") for name in table if name.endswith(" error_mm")]
        return [Sampled(table[f"{way} evidence"], table[f"{way} error_mm"], way) for way in ways_there]
