"""Instance optimisation: improve any displacement field for the one pair at hand, without a network and without folds.

Every iteration takes the closed-form gradient of the local correlation, times the gradient of the warped image, as a
velocity; smooths it (fluid regularisation), scales it to a small step and composes it with the field:
u <- d + u o (id + d), which is then smoothed itself (diffusion). It is the greedy diffeomorphic scheme of Avants et al.
(2008) and Yushkevich et al. (2016), with one change that makes it fast, and better: the field lives on a grid twice as
coarse as the images that drive it. Work on three channels then costs an eighth, and the velocity is smooth anyway.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.boxes import Box, slices_of
from SpikeRegLib.progress import Listener, part_of_stage, silent
from SpikeRegLib.refinement.climb import climb
from SpikeRegLib.refinement.feature_maps import FeatureMaps
from SpikeRegLib.refinement.landmarks import Landmarks, Pull, displacement_at
from SpikeRegLib.refinement.level_images import Images, LevelImages, content_of
from SpikeRegLib.refinement.region import Neighbourhood, Region, changed_only_inside
from SpikeRegLib.refinement.schedule import DEFAULT, THOROUGH, Level, RefinementSchedule
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.grids import Grid, resample, resample_voxels
from SpikeRegLib.space.known import FADE_MM, Known

__all__ = ["DEFAULT", "THOROUGH", "Level", "OptimisedField", "RefinementSchedule", "refine"]

# Spacing of the images on which the final field is compared with the one it started from.
_JUDGE_SPACING_MM = 2.0
# Parts of their way that landmarks are carried at the end, the first that is worth it.
_SHARES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class OptimisedField:
    """The displacement field that `refine` gives, and how the optimisation went.

    Attributes:
        field: [3, d, h, w] displacement in mm, fixed -> moving, on `grid` (coarser than the input frame, same corner).
        grid: where `field` lives.
        frame_grid: the grid of the input images.
        similarity_before: mean local correlation with the initial field, on images of about 2 mm.
        similarity_after: the same with `field`; never smaller, unless the initial field folded.
        iterations: done at each level.
        accepted: False when the optimised field was no better and the initial one is returned.
        folded_before_guard: cells of the optimised field that the guard had to repair at the end.
    """

    field: torch.Tensor
    grid: Grid
    frame_grid: Grid
    similarity_before: float
    similarity_after: float
    iterations: tuple[int, ...]
    accepted: bool
    folded_before_guard: int

    @functools.cached_property
    def displacement(self) -> torch.Tensor:
        """[3, D, H, W] mm on the input frame: `field`, interpolated linearly."""
        return resample(self.field, self.grid, self.frame_grid)


def _content(fixed: torch.Tensor, area: Region | Neighbourhood | None) -> Box:
    """The box in which the fixed image is not empty, and inside the area if there is one."""
    first, last = content_of(fixed)
    if area is not None:
        low, high = ([*values] for values in area.content)
        common = (
            [max(a, b) for a, b in zip(first, low, strict=True)],
            [min(a, b) for a, b in zip(last, high, strict=True)],
        )
        first, last = common if all(a < b for a, b in zip(*common, strict=True)) else (low, high)
    return first, last


def _share(images: Images, content: Box) -> float:
    """Part of what counts in the images that lies between the first and last indices."""
    counts = (images.fixed > 1e-3).any(0).float()
    if images.mask is not None:
        counts = counts * images.mask
    return max(1e-3, float(counts[slices_of(*content)].sum()) / max(1.0, float(counts.sum())))


def refine(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    *,
    spacing_mm: float,
    initial: torch.Tensor | None = None,
    initial_grid: Grid | None = None,
    mask: torch.Tensor | None = None,
    schedule: RefinementSchedule = DEFAULT,
    itk_jacobian: torch.Tensor | None = None,
    landmarks: Landmarks | None = None,
    region: Region | None = None,
    known: Known | None = None,
    fade_mm: float = FADE_MM,
    maps: FeatureMaps | None = None,
    listener: Listener = silent,
) -> OptimisedField:
    """Optimise a displacement field for one pair, starting from `initial`; never returns a worse one.

    Args:
        fixed: [D, H, W] float32 in [0, 1] on an isotropic working frame (identity direction); or [C, D, H, W],
            channels whose mean local correlation counts (see `contrast.Comparison`).
        moving: the same shape, already resampled through the affine on the same frame.
        spacing_mm: of that frame.
        initial: [3, D, H, W] mm, components (x, y, z), fixed -> moving; None for zero.
        initial_grid: where `initial` lives when it is not the frame of the images.
        mask: [D, H, W], weight of each voxel of the fixed image.
        itk_jacobian: from `as_itk_sees`; the field then has no folds in ITK's reading of its Jacobian either.
        landmarks: bring these points together first, then refine what is within reach of those that were apart, and
            nothing else. What is maximised is the similarity less the penalty of all: images may agree less where
            landmarks agree more.
        region: outside of it the field stays as it is.
        known: where the images are known, as they lie on the frame; the part of the moving image moves with it. Without
            landmarks the field goes on smoothly where they are not. None: everywhere.
        fade_mm: over which it falls to a third outside the field of view.
        maps: compared beside the images, with the weight that each level gives them (`Level.maps`). What is maximised,
            and judged at the end, is then both together.
        listener: called every iteration; what it raises ends the run.

    Raises:
        InputError: shapes do not agree or values are not finite.
    """
    if fixed.ndim not in (3, 4) or min(fixed.shape[-3:]) < 16 or not fixed.numel():
        raise InputError(f"fixed: shape {list(fixed.shape)} cannot be refined; give [D, H, W] with at least 16 voxels")
    frame = Grid((fixed.shape[-3], fixed.shape[-2], fixed.shape[-1]), spacing_mm)
    source = initial_grid or frame
    for name, tensor, shape in (
        ("fixed", fixed, fixed.shape),
        ("moving", moving, fixed.shape),
        ("mask", mask, frame.shape),
        ("initial", initial, (3, *source.shape)),
    ):
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            raise InputError(f"{name}: shape {list(tensor.shape)} does not fit; resample it to {list(shape)}")
        if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name}: contains NaN or infinite values; replace them")
    if fixed.ndim == 3:
        fixed, moving = fixed[None], moving[None]
    with torch.no_grad():
        area: Region | Neighbourhood | None = region
        if landmarks is not None:
            zero = fixed.new_zeros(3, *source.shape)
            unmet = landmarks.unmet(zero if initial is None else initial, source)
            apart = landmarks.fixed[unmet] if bool(unmet.any()) else landmarks.fixed
            area = Neighbourhood(apart, landmarks.reach_mm, frame, region)
        images = Images(fixed, moving, mask, known)
        return _refine(images, frame, initial, source, schedule, itk_jacobian, landmarks, area, fade_mm, maps, listener)


def _refine(
    images: Images, frame: Grid, initial: torch.Tensor | None,
    initial_grid: Grid, schedule: RefinementSchedule, linear: torch.Tensor | None, landmarks: Landmarks | None,
    area: Region | Neighbourhood | None, fade_mm: float, maps: FeatureMaps | None, listener: Listener,
) -> OptimisedField:  # fmt: skip
    levels = [level.on(frame) for level in schedule.levels if level.iterations]
    content = _content(images.fixed, area)
    if landmarks is not None:
        # The similarity is measured around the landmarks alone, their weight is for the whole image.
        landmarks = replace(landmarks, weight=landmarks.weight / _share(images, content))
    at_spacing: dict[float, LevelImages] = {}

    def images_at(spacing_mm: float) -> LevelImages:
        if spacing_mm not in at_spacing:
            weight = schedule.maps_weight(spacing_mm)
            at_spacing[spacing_mm] = LevelImages(images, frame, spacing_mm, content, schedule.window, maps, weight)
        return at_spacing[spacing_mm]

    judge = images_at(max(_JUDGE_SPACING_MM, frame.spacing_mm))
    finest_mm = min((level.field_mm for level in levels), default=2 * frame.spacing_mm)
    if initial is not None:
        finest_mm = max(frame.spacing_mm, min(finest_mm, initial_grid.spacing_mm))
    finest = frame.coarser(finest_mm)
    start = images.fixed.new_zeros(3, *finest.shape)
    if initial is not None:
        start = hold_border(finest.to_voxels(resample(initial, initial_grid, finest)))

    def objective(field: torch.Tensor) -> float:
        loss = 0.0 if landmarks is None else landmarks.penalty(finest.to_mm(field), finest)
        return judge.objective(field, finest) - loss

    before = judge.similarity(start, finest)
    alone = landmarks is None and maps is None  # the images are all that counts
    least = before if alone else objective(start)
    start, _ = remove_folds(start, linear=linear)

    # While the levels are coarser than a given start, they look for what is left to do: a field that comes first and
    # is composed with the start, whose details a coarse grid would lose.
    base = None if initial is None else start
    if landmarks is not None and area is not None:
        base = _settled(start, finest, landmarks, area.weight_on(finest), objective, listener)
        base, _ = remove_folds(hold_border(base), linear=linear)
    grid = finest
    field = torch.zeros_like(start)
    total = sum(level.iterations for level in levels)
    iterations: list[int] = []
    for level in levels:
        target = frame.coarser(level.field_mm)
        field = resample_voxels(field, grid, target)
        grid = target
        if base is not None and grid == finest:
            field, base = compose(field[None], base[None])[0], None
        level_images = images_at(level.spacing_mm)
        level_images.move_through(base, finest)
        done = sum(iterations)
        heard = part_of_stage(listener, done / max(1, total), (done + level.iterations) / max(1, total))
        weight = None if area is None else area.weight_on(grid)
        pull = None
        if landmarks is not None:
            pull = Pull(landmarks, grid, weight, after=None if base is None else (base, finest))
        field, count = climb(level_images, level, field, grid, schedule.momentum, heard, weight=weight, pull=pull)
        iterations.append(count)
        if landmarks is None:
            field = level_images.continued(field, grid, fade_mm=fade_mm)
        level_images.move_through(None, finest)
    field = resample_voxels(field, grid, finest)
    if base is not None:
        field = compose(field[None], base[None])[0]
    if landmarks is not None and area is not None and levels:
        field = _settled(field, finest, landmarks, area.weight_on(finest), objective, listener)
    if landmarks is None and levels:
        field = judge.continued(field, finest, fade_mm=fade_mm)
    field, folded = remove_folds(hold_border(field), linear=linear)
    inside = None if area is None else area.inside_on(finest)
    if inside is not None:
        field = changed_only_inside(inside, field, start, linear)
    after = judge.similarity(field, finest)
    accepted = (after if alone else objective(field)) > least
    if not accepted:
        field, after = start, judge.similarity(start, finest)
    return OptimisedField(
        field=finest.to_mm(field),
        grid=finest,
        frame_grid=frame,
        similarity_before=before,
        similarity_after=after,
        iterations=tuple(iterations),
        accepted=accepted,
        folded_before_guard=folded,
    )


def _settled(
    field: torch.Tensor, grid: Grid, landmarks: Landmarks, weight: torch.Tensor,
    objective: Callable[[torch.Tensor], float], listener: Listener,
) -> torch.Tensor:  # fmt: skip
    """`field` (voxels of `grid`) with the landmarks brought together, as far as that is worth what the images lose."""
    start = objective(field)
    reached = landmarks.fixed + grid.to_mm(displacement_at(field, grid, landmarks.fixed))
    for share in _SHARES:
        goals = replace(landmarks, moving=torch.lerp(reached, landmarks.moving, share))
        candidate = Pull(goals, grid, weight).settle(field, part_of_stage(listener, 1.0, 1.0))
        if objective(candidate) > start:
            return candidate
    return field
