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
from dataclasses import dataclass
from statistics import fmean

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.fields import compose
from SpikeRegLib.filters import gaussian
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.refinement.diffeomorphic import remove_folds
from SpikeRegLib.refinement.displacement import hold_border, sample
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.refinement.lncc_gradient import LocalCorrelation
from SpikeRegLib.refinement.schedule import DEFAULT, THOROUGH, Level, RefinementSchedule

__all__ = ["DEFAULT", "THOROUGH", "Level", "Refinement", "RefinementSchedule", "refine"]

# The images are smoothed by this fraction of a level's spacing before they are sub-sampled to it.
_ANTI_ALIAS = 0.35
# Spacing of the images on which the final field is compared with the one it started from.
_JUDGE_SPACING_MM = 2.0
# A level ends when so many iterations together gained less than this.
_PATIENCE, _SMALLEST_GAIN = 4, 5e-4
_BACKTRACKS = 3


@dataclass(frozen=True)
class Refinement:
    """What `refine` found.

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


class _Pair:
    """Both images at one level, the fixed one cropped to its content, and the similarity of fields on them."""

    def __init__(
        self, images: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], frame: Grid, spacing_mm: float,
        content: tuple[list[int], list[int]], window: int,
    ) -> None:  # fmt: skip
        fixed, moving, mask = images
        ratio = spacing_mm / frame.spacing_mm
        self._whole = whole = frame.coarser(spacing_mm)
        sigma = _ANTI_ALIAS * spacing_mm if ratio > 1 else 0.0
        lower = [max(0, int(a / ratio) - window // 2) for a in content[0]]
        upper = [min(n, int(b / ratio) + 2 + window // 2) for b, n in zip(content[1], whole.shape, strict=True)]
        self.grid = whole.cropped((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
        self._start = (float(lower[0]), float(lower[1]), float(lower[2]))
        self._moving = self._original = resample(moving, frame, whole, sigma_mm=sigma)
        self._positions: torch.Tensor | None = None
        weight = None if mask is None else resample(mask.to(fixed.dtype), frame, self.grid, sigma_mm=sigma)
        self._correlations = [
            LocalCorrelation(channel, window=window, weight=weight)
            for channel in resample(fixed, frame, self.grid, sigma_mm=sigma)
        ]

    def move_through(self, field: torch.Tensor | None, grid: Grid) -> None:
        """From now on `field` (voxels of `grid`) comes after every other: the moving image is warped with it, once."""
        self._moving = self._original
        if field is not None:
            fine = [resample(component, grid, self._whole) for component in field]
            self._moving = sample(self._original, fine, scale=grid.spacing_mm / self._whole.spacing_mm)

    def similarity(self, field: torch.Tensor, grid: Grid) -> float:
        """Mean local correlation when the moving image is seen through `field` (voxels of `grid`)."""
        warped = self._warped(field, grid)
        return fmean(at.value(channel) for at, channel in zip(self._correlations, warped, strict=True))

    def _warped(self, field: torch.Tensor, grid: Grid) -> torch.Tensor:
        # One component at a time, and one buffer for all iterations: the system hands out larger pieces of memory page
        # by page, cleared, which took a third of an iteration at 1 mm.
        fine = (resample(component, grid, self.grid) for component in field)
        scale = grid.spacing_mm / self.grid.spacing_mm
        if self._positions is None:
            self._positions = field.new_empty(*self.grid.shape, 3)
        return sample(self._moving, list(fine), start=self._start, scale=scale, buffer=self._positions)

    def similarity_and_velocity(
        self, field: torch.Tensor, grid: Grid, sigma_mm: float, tick: Callable[[], None]
    ) -> tuple[float, torch.Tensor]:
        """Similarity of `field`, and the smoothed direction [3, d, h, w] on `grid` that increases it.

        `tick` is called between the longer steps.
        """
        values, velocity = [], field.new_zeros(3, *grid.shape)
        slope = field.new_zeros(self.grid.shape)
        warped_channels = self._warped(field, grid)
        for at, warped in zip(self._correlations, warped_channels, strict=True):
            tick()
            value, gradient = at.value_and_gradient(warped)
            tick()
            values.append(value)
            for component, axis in enumerate((2, 1, 0)):
                ahead, behind = (warped.narrow(axis, at, warped.shape[axis] - 2) for at in (2, 0))
                torch.sub(ahead, behind, out=slope.narrow(axis, 1, warped.shape[axis] - 2))
                for face in (0, warped.shape[axis] - 1):
                    slope.select(axis, face).zero_()
                velocity[component] += resample(slope.mul_(gradient), self.grid, grid, sigma_mm=sigma_mm)
            tick()
        return fmean(values), velocity


def _content(fixed: torch.Tensor) -> tuple[list[int], list[int]]:
    """First and last index along each axis at which the fixed image is not empty; the whole array when it is."""
    there = (fixed > 1e-3).any(0).nonzero()
    if not len(there):
        return [0, 0, 0], [n - 1 for n in fixed.shape[1:]]
    return there.amin(0).tolist(), there.amax(0).tolist()


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
    listener: Listener = silent,
) -> Refinement:
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
        return _refine((fixed, moving, mask), frame, initial, source, schedule, itk_jacobian, listener)


def _refine(
    images: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], frame: Grid, initial: torch.Tensor | None,
    initial_grid: Grid, schedule: RefinementSchedule, linear: torch.Tensor | None, listener: Listener,
) -> Refinement:  # fmt: skip
    levels = [level.on(frame) for level in schedule.levels if level.iterations]
    content = _content(images[0])
    pairs: dict[float, _Pair] = {}

    def pair_at(spacing_mm: float) -> _Pair:
        if spacing_mm not in pairs:
            pairs[spacing_mm] = _Pair(images, frame, spacing_mm, content, schedule.window)
        return pairs[spacing_mm]

    judge = pair_at(max(_JUDGE_SPACING_MM, frame.spacing_mm))
    finest_mm = min((level.field_mm for level in levels), default=2 * frame.spacing_mm)
    if initial is not None:
        finest_mm = max(frame.spacing_mm, min(finest_mm, initial_grid.spacing_mm))
    finest = frame.coarser(finest_mm)
    start = images[0].new_zeros(3, *finest.shape)
    if initial is not None:
        start = hold_border(resample(initial, initial_grid, finest) / finest.spacing_mm)
    before = judge.similarity(start, finest)
    start, _ = remove_folds(start, linear=linear)

    # While the levels are coarser than a given start, they look for what is left to do: a field that comes first and
    # is composed with the start, whose details a coarse grid would lose.
    base = None if initial is None else start
    grid = finest
    field = torch.zeros_like(start)
    total = sum(level.iterations for level in levels)
    iterations: list[int] = []
    for level in levels:
        target = frame.coarser(level.field_mm)
        field = resample(field, grid, target) * (grid.spacing_mm / target.spacing_mm)
        grid = target
        if base is not None and grid == finest:
            field, base = compose(field[None], base[None])[0], None
        pair = pair_at(level.spacing_mm)
        pair.move_through(base, finest)
        done = sum(iterations)

        def report(count: int, value: float, *, offset: int = done, spacing_mm: float = level.spacing_mm) -> None:
            message = f"{spacing_mm:g} mm: similarity {value:.4f}"
            listener(Progress("refine", min(1.0, (offset + count) / max(1, total)), message))

        field, count = _climb(pair, level, field, grid, schedule.momentum, report)
        iterations.append(count)
        pair.move_through(None, finest)
    field = resample(field, grid, finest) * (grid.spacing_mm / finest.spacing_mm)
    if base is not None:
        field = compose(field[None], base[None])[0]
    field, folded = remove_folds(hold_border(field), linear=linear)
    after = judge.similarity(field, finest)
    accepted = after > before
    if not accepted:
        field, after = start, judge.similarity(start, finest)
    return Refinement(
        field=field * finest.spacing_mm,
        grid=finest,
        frame_grid=frame,
        similarity_before=before,
        similarity_after=after,
        iterations=tuple(iterations),
        accepted=accepted,
        folded_before_guard=folded,
    )


def _climb(
    pair: _Pair, level: Level, field: torch.Tensor, grid: Grid, momentum: float, report: Callable[[int, float], None]
) -> tuple[torch.Tensor, int]:
    """Up to `level.iterations` updates of `field` (voxels of `grid`), and how many were made."""
    best, best_velocity, values = field, field, [-1.0]
    previous: torch.Tensor | None = None
    step, backtracks = level.step, 0
    for count in range(level.iterations):
        value, velocity = pair.similarity_and_velocity(
            field, grid, level.velocity_sigma_mm, functools.partial(report, count, max(0.0, values[-1]))
        )
        report(count, value)
        if value >= values[-1]:
            values.append(value)
            if len(values) > _PATIENCE + 1 and value - values[-1 - _PATIENCE] < _SMALLEST_GAIN:
                return field, count
            if previous is not None:
                velocity.add_(previous, alpha=momentum)
            best, best_velocity = field, velocity
        elif backtracks == _BACKTRACKS:
            return best, count
        else:
            # Too far: back to the best field, and half as far along the same direction.
            backtracks += 1
            step /= 2
            velocity = best_velocity
        previous = velocity
        largest = float(velocity.square().sum(0).max()) ** 0.5
        if largest == 0:
            return best, count
        update = velocity * (step / largest)
        field = hold_border(gaussian(compose(update[None], best[None])[0], level.field_sigma_mm / grid.spacing_mm))
    return field, level.iterations
