"""Instance optimisation of a neural field: its codes, for the one pair at hand, from coarse to fine.

Variable splitting: a few iterations of the library's compositional refinement (`refine`) find, on a voxel grid, where
the images want the points to go from where the field brings them; then the codes are fitted to that by Gauss-Newton
(`fit`). The images are looked at as rarely as in the voxel refinement, and what the decoder costs does not multiply
with the number of voxels. What is returned is the field itself, judged by its own samples.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.codes import Codes, positions_on
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.fit import Target, fit_codes
from SpikeRegLib.neural_field.learn import learn_decoder, loosen
from SpikeRegLib.neural_field.options import FieldOptions
from SpikeRegLib.neural_field.sampled import WIDE_MM, near_content, sampled
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.refinement.climb import climb
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.refinement.image_pair import ImagePair
from SpikeRegLib.refinement.landmarks import displacement_at
from SpikeRegLib.refinement.schedule import Level


@dataclass(frozen=True)
class OptimisationOptions:
    """How much is done, and to what.

    Attributes:
        stages_mm: distances of the codes, from coarse to fine. Of a given field the finest stage is optimised, and
            the stages finer than that are added; without a field all are new.
        iterations: of the images at the coarsest level; every finer one has half as many, at least five.
        seconds: of this computer's time after which the search ends, 0 for no limit.
        decoder: fit the decoder, too; always without a given field.
        code_weight: of the squared norm of the codes against squared millimetres.
        fit_mm: distance of the points at which codes are fitted.
        rounds: linearisations of each fit.
        learning_steps: of the decoder, where that is fitted.
        inverse_weight: of the inverse map's error in the fit, relative to that of the map; 0 leaves the inverse to
            the decoder as it was trained.
        window: edge of the correlation window in voxels of each level, odd.
    """

    stages_mm: tuple[float, ...] = (8.0, 4.0)
    iterations: int = 20
    seconds: float = 0.0
    decoder: bool = False
    code_weight: float = 0.01
    fit_mm: float = 4.0
    rounds: int = 2
    learning_steps: int = 60
    inverse_weight: float = 0.0
    window: int = 5

    def __post_init__(self) -> None:
        if not self.stages_mm or any(b >= a for a, b in zip(self.stages_mm, self.stages_mm[1:], strict=False)):
            raise ValueError(f"stages_mm: give distances from coarse to fine, got {self.stages_mm}")
        for name in ("iterations", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Optimised:
    """What `optimise` found.

    Attributes:
        field: the optimised field, or the given one where that is no worse.
        similarity_before: mean local correlation on images of 2 mm at the start (the identity without a field).
        similarity_after: that of `field`.
        iterations: of the images, at all levels together.
        seconds: of this computer's time.
        accepted: whether `field` is the optimised one.
        reason: why it ended, in a few words.
    """

    field: NeuralField
    similarity_before: float
    similarity_after: float
    iterations: int
    seconds: float
    accepted: bool
    reason: str


_JUDGE_MM = 2.0
_MOMENTUM = 0.5
# Codes are fitted up to so far outside the content of the fixed image; beyond, at `WIDE_MM` only.
_REACH_MM = 4.0


def new_codes(frame: Grid, options: FieldOptions, spacing_mm: float, overall: torch.Tensor | None = None) -> Codes:
    """Codes of zero all over a frame; the global one is zero, too, unless given."""
    grid = frame.coarser(spacing_mm)
    x, y, z = ((n - 1) * frame.spacing_mm / 2 for n in reversed(frame.shape))
    overall = torch.zeros(options.global_size) if overall is None else overall
    return Codes(overall, torch.zeros(options.local_size, *grid.shape), grid, (x, y, z))


class _OutOfTime(Exception):
    pass


class _Watched(ImagePair):
    """An image pair that remembers the best field it was asked about, for when time is up in between."""

    best: tuple[float, torch.Tensor | None] = (float("-inf"), None)
    asked = 0

    def similarity_and_velocity(
        self, field: torch.Tensor, grid: Grid, sigma_mm: float, tick: Callable[[], None]
    ) -> tuple[float, torch.Tensor]:
        value, velocity = super().similarity_and_velocity(field, grid, sigma_mm, tick)
        self.asked += 1
        if value > self.best[0]:
            self.best = (value, field)
        return value, velocity


class _Search:
    """The images of one pair, and the budget."""

    def __init__(
        self, images: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], frame: Grid,
        options: OptimisationOptions, seed: int, listener: Listener,
    ) -> None:  # fmt: skip
        self.images, self.frame, self.options, self.listener = images, frame, options, listener
        self.random = torch.Generator().manual_seed(seed)
        self.start, self.iterations, self.fraction, self.message = time.monotonic(), 0, 0.0, "similarity"
        there = (images[0] > 1e-3).any(0).nonzero()
        first, last = [0, 0, 0], [n - 1 for n in frame.shape]
        if len(there):
            first, last = there.amin(0).tolist(), there.amax(0).tolist()
        self._content = (first, last)
        self.judge_grid = frame.coarser(max(_JUDGE_MM, frame.spacing_mm))
        self._judge = self.pair(self.judge_grid.spacing_mm)
        self._near: dict[Grid, torch.Tensor] = {}

    def pair(self, spacing_mm: float) -> _Watched:
        return _Watched(self.images, self.frame, spacing_mm, self._content, self.options.window)

    def tick(self) -> None:
        self.listener(Progress("refine", min(1.0, self.fraction), self.message))

    def hurry(self) -> None:
        """`tick`, and end the search when its time is up."""
        self.tick()
        if 0 < self.options.seconds <= time.monotonic() - self.start:
            raise _OutOfTime

    def near(self, grid: Grid) -> torch.Tensor:
        if grid not in self._near:
            self._near[grid] = near_content(self.images[0], self.frame, grid, _REACH_MM)
        return self._near[grid]

    def on(self, field: NeuralField, grid: Grid) -> torch.Tensor:
        """[3, d, h, w] mm."""
        return sampled(field, grid, self.near(grid), self.tick)

    def similarity(self, displacement: torch.Tensor | None) -> float:
        """Of a displacement in mm on the judge's grid."""
        grid = self.judge_grid
        field = torch.zeros(3, *grid.shape) if displacement is None else displacement / grid.spacing_mm
        self.tick()
        return self._judge.similarity(field, grid)

    def levels(self, spacing_mm: float, *, last: bool) -> list[Level]:
        """Images at half the distance of the codes, and those of the last stage at a quarter, too."""
        spacings = [spacing_mm / 2, spacing_mm / 4] if last else [spacing_mm / 2]
        coarsest = self.options.stages_mm[0] / 2
        levels = []
        for mm in dict.fromkeys(max(mm, self.frame.spacing_mm) for mm in spacings):
            iterations = max(5, round(self.options.iterations * mm / coarsest))
            level = Level.usual(mm, iterations)
            if mm <= self.frame.spacing_mm:
                level = replace(level, field_sigma_mm=0.8 * mm)
            levels.append(level.on(self.frame))
        return levels

    def climbed(
        self, levels: list[Level], own: NeuralField | None, base: torch.Tensor | None
    ) -> tuple[torch.Tensor, Grid, bool]:
        """Displacement in mm that the images want of a stage, its grid, and whether time was up.

        Args:
            own: the stage as it is, None for the identity.
            base: [3, d, h, w] mm on the judge's grid, of the coarser stages, which come after it.
        """
        grid = self.frame.coarser(levels[0].field_mm)
        field = torch.zeros(3, *grid.shape)
        if own is not None:
            field = self.on(own, grid) / grid.spacing_mm
        for level in levels:
            target = self.frame.coarser(level.field_mm)
            field = resample(field, grid, target) * (grid.spacing_mm / target.spacing_mm)
            grid = target
            pair = self.pair(level.spacing_mm)
            if base is not None:
                pair.move_through(base / self.judge_grid.spacing_mm, self.judge_grid)

            def report(count: int, value: float, *, spacing_mm: float = level.spacing_mm) -> None:
                self.message = f"{spacing_mm:g} mm: similarity {value:.4f}"
                self.hurry()

            try:
                field, _ = climb(pair, level, field, grid, _MOMENTUM, report, weight=None, pull=None)
            except _OutOfTime:
                best = pair.best[1]
                return (field if best is None else best) * grid.spacing_mm, grid, True
            finally:
                self.iterations += pair.asked
        return field * grid.spacing_mm, grid, False

    def points(self) -> torch.Tensor:
        """[N, 3] mm: one random point in every cell near the content, and a wide lattice."""
        fine = self.frame.coarser(self.options.fit_mm)
        inside = positions_on(fine)[self.near(fine).flatten()]
        shift = (torch.rand(inside.shape, generator=self.random) - 0.5) * fine.spacing_mm
        wide = self.frame.coarser(WIDE_MM)
        return torch.cat((inside + shift, positions_on(wide)[~self.near(wide).flatten()]))

    def fitted(
        self, decoders: Decoders, codes: Codes, wanted: torch.Tensor, grid: Grid, *, learn: int, rounds: int
    ) -> Codes:
        """Codes that follow `wanted` [3, d, h, w] mm on `grid`; `learn` times the decoders are fitted in between."""
        for turn in range(learn + 1):
            position = self.points()
            there = displacement_at(wanted, grid, position).float()
            targets = [Target(decoders.forward_map, there)]
            if self.options.inverse_weight > 0 or learn:
                back = inverse_at(wanted, grid, position)
                targets.append(Target(decoders.inverse_map, back, max(self.options.inverse_weight, 1e-9)))
            used = [t for t in targets if t.weight > 1e-6]
            codes, errors = fit_codes(
                codes, position, used, code_weight=self.options.code_weight, rounds=rounds, tick=self.tick
            )
            self.message = f"{codes.grid.spacing_mm:g} mm codes: {errors[-1]:.2f} mm from the target"
            if turn < learn:
                for target in targets:
                    steps = self.options.learning_steps
                    learn_decoder(
                        target, codes, position, steps=steps, learning_rate=4e-3, random=self.random, tick=self.tick
                    )
        return codes


def inverse_at(displacement: torch.Tensor, grid: Grid, position: torch.Tensor, *, iterations: int = 12) -> torch.Tensor:
    """[N, 3] mm: the displacement of the inverse map at points, by fixed-point iteration."""
    back = torch.zeros_like(position)
    for _ in range(iterations):
        back = -displacement_at(displacement, grid, position + back).float()
    return back


def optimise(
    fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor | None, frame: Grid, field: NeuralField | None, *,
    options: OptimisationOptions | None = None, field_options: FieldOptions | None = None, seed: int = 0,
    listener: Listener = silent,
) -> Optimised:  # fmt: skip
    """Improve a neural field for one pair; never returns a worse one than was given.

    Args:
        fixed: [D, H, W] or [C, D, H, W] float32 in [0, 1] on `frame`, as for `refine.refine`.
        moving: the same shape, already resampled through the affine.
        mask: [D, H, W] weight of each voxel of the fixed image, or None.
        frame: the working frame's grid.
        field: where to start; None to begin with the identity and a decoder without weights.
        field_options: sizes of the field that is made without a given one.
        seed: of the random points, and of a new decoder's last layer.
        listener: called at least every 0.2 s of work; what it raises ends the run.

    Raises:
        InputError: shapes do not agree.
    """
    options, field_options = options or OptimisationOptions(), field_options or FieldOptions()
    if fixed.shape != moving.shape or tuple(fixed.shape[-3:]) != tuple(frame.shape):
        raise InputError(
            f"fixed {list(fixed.shape)} and moving {list(moving.shape)} do not fit the frame {frame.shape};"
            " resample both to it"
        )
    if fixed.ndim == 3:
        fixed, moving = fixed[None], moving[None]
    with torch.no_grad():
        search = _Search((fixed, moving, mask), frame, options, seed, listener)
        return _optimise(search, field, field_options, seed)


def _optimise(search: _Search, given: NeuralField | None, field_options: FieldOptions, seed: int) -> Optimised:
    options, frame = search.options, search.frame
    learn = options.decoder or given is None
    if given is None:
        decoders, stages, finer = Decoders(field_options), [], list(options.stages_mm)
        before_field = None
    else:
        decoders, stages = given.decoders, list(given.stages)
        finest = stages[-1].grid.spacing_mm
        finer = [mm for mm in options.stages_mm if mm < 0.9 * finest]
        before_field = search.on(given, search.judge_grid)
    before = search.similarity(before_field)
    if learn:
        decoders = copy.deepcopy(decoders)
        for number, decoder in enumerate((decoders.forward_map, decoders.inverse_map)):
            loosen(decoder, seed=seed + number)
    todo: list[Codes | None] = [None] * len(finer) if given is None else [stages.pop(), *[None] * len(finer)]
    spacings = finer if given is None else [finest, *finer]
    out_of_time = False
    for number, (codes, spacing) in enumerate(zip(todo, spacings, strict=True)):
        search.fraction = number / len(todo)
        base = search.on(NeuralField(decoders, stages), search.judge_grid) if stages else None
        own = None if codes is None else NeuralField(decoders, [codes])
        levels = search.levels(spacing, last=number == len(todo) - 1)
        wanted, grid, out_of_time = search.climbed(levels, own, base)
        if codes is None:
            codes = new_codes(frame, decoders.options, spacing, stages[-1].overall if stages else None)
        turns = 3 if learn and number == 0 else 0
        stages.append(search.fitted(decoders, codes, wanted, grid, learn=turns, rounds=options.rounds))
        if out_of_time:
            break
    found = NeuralField(decoders, stages)
    after = search.similarity(search.on(found, search.judge_grid))
    accepted = after > before
    if not accepted:
        found, after = (
            given or NeuralField(Decoders(field_options), [new_codes(frame, field_options, spacings[0])]),
            before,
        )
    reason = "time is up" if out_of_time else "all iterations done" if accepted else "no gain over the start"
    return Optimised(found, before, after, search.iterations, time.monotonic() - search.start, accepted, reason)
