"""What the instance optimisation of a neural field asks the images, and how it fits a stage to the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.neural_field.codes import Codes, positions_on
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.fit import Target, fit_codes
from SpikeRegLib.neural_field.learn import Lesson, learn_decoder
from SpikeRegLib.neural_field.sampled import WIDE_MM, near_content, sampled
from SpikeRegLib.progress import Listener, Progress, Tick
from SpikeRegLib.refinement.climb import climb
from SpikeRegLib.refinement.landmarks import displacement_at
from SpikeRegLib.refinement.level_images import Images, LevelImages, content_of
from SpikeRegLib.refinement.schedule import Level
from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.grids import Grid, resample_voxels

# Spacing of the images on which fields are compared, and of the nodes at which stages are sampled for that.
_JUDGE_MM, _SAMPLED_MM = 2.0, 3.0
_MOMENTUM = 0.5
# Codes are fitted up to so far outside the content of the fixed image; beyond, at `WIDE_MM` only.
_REACH_MM = 4.0
_LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class OptimisationOptions:
    """How much is done, and to what.

    Attributes:
        stages_mm: distances of the codes, from coarse to fine. Of a given field the finest stage is optimised, and
            the stages finer than that are added; without a field all are new.
        iterations: of the images at the coarsest level; every finer one has half as many, at least five.
        seconds: of this computer's time after which the search ends, 0 for no limit.
        decoder: fit the decoder, too; always without a given field.
        code_weight: of the mean squared norm of the codes, against the mean squared error in mm of what they shall do.
        fit_mm: distance of the points at which codes are fitted, at least half of that of the codes.
        rounds: linearisations of each fit.
        learning_steps: of the decoder, where that is fitted.
        inverse_weight: of the inverse map's error in the fit, relative to that of the map; 0 leaves the inverse to
            the decoder as it was trained.
        window: edge of the correlation window in voxels of each level, odd.
        regularisation: factor on the smoothing lengths of every level.
    """

    stages_mm: tuple[float, ...] = (8.0, 4.0)
    iterations: int = 20
    seconds: float = 0.0
    decoder: bool = False
    code_weight: float = 0.002
    fit_mm: float = 3.0
    rounds: int = 2
    learning_steps: int = 60
    inverse_weight: float = 0.0
    window: int = 5
    regularisation: float = 1.0

    def __post_init__(self) -> None:
        if not self.stages_mm or any(b >= a for a, b in zip(self.stages_mm, self.stages_mm[1:], strict=False)):
            raise ValueError(f"stages_mm: give distances from coarse to fine, got {self.stages_mm}")
        for name in ("iterations", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Goal:
    """What a stage shall do: `displacement` [3, d, h, w] in mm on `grid`."""

    displacement: torch.Tensor
    grid: Grid

    def at(self, position: torch.Tensor) -> torch.Tensor:
        """[N, 3] mm at [N, 3] mm."""
        return displacement_at(self.displacement, self.grid, position).float()

    def inverse_at(self, position: torch.Tensor, *, iterations: int = 12) -> torch.Tensor:
        """[N, 3] mm: the displacement of the inverse map, by fixed-point iteration."""
        back = torch.zeros_like(position)
        for _ in range(iterations):
            back = -self.at(position + back)
        return back


class OutOfTime(Exception):
    pass


class _Watched(LevelImages):
    """Images of one level that remember the best field they were asked about, for when time is up in between."""

    best: tuple[float, torch.Tensor | None] = (float("-inf"), None)
    asked = 0

    def objective_and_velocity(
        self, field: torch.Tensor, grid: Grid, sigma_mm: float, tick: Tick
    ) -> tuple[float, torch.Tensor]:
        value, velocity = super().objective_and_velocity(field, grid, sigma_mm, tick)
        self.asked += 1
        if value > self.best[0]:
            self.best = (value, field)
        return value, velocity


class Search:
    """The images of one pair, and the budget."""

    def __init__(
        self, images: Images, frame: Grid, options: OptimisationOptions, seed: int, listener: Listener
    ) -> None:
        self.images, self.frame, self.options, self.listener = images, frame, options, listener
        self.random = torch.Generator().manual_seed(seed)
        self.start, self.iterations, self.fraction, self.message = time.monotonic(), 0, 0.0, "similarity"
        self._content = content_of(images.fixed)
        self._judge = self.images_at(max(_JUDGE_MM, frame.spacing_mm))
        self.grid = frame.coarser(max(_SAMPLED_MM, frame.spacing_mm))
        self._near: dict[Grid, torch.Tensor] = {}

    def images_at(self, spacing_mm: float) -> _Watched:
        return _Watched(self.images, self.frame, spacing_mm, self._content, self.options.window)

    def tick(self, _: float = 0.0) -> None:
        self.listener(Progress("refine", min(1.0, self.fraction), self.message))

    def hurry(self, _: float = 0.0) -> None:
        """`tick`, and end the search when its time is up."""
        self.tick()
        if 0 < self.options.seconds <= time.monotonic() - self.start:
            raise OutOfTime

    def hear(self, progress: Progress) -> None:
        """Tell what a part of the search says, and `hurry`."""
        self.message = progress.message
        self.hurry()

    def near(self, grid: Grid) -> torch.Tensor:
        if grid not in self._near:
            self._near[grid] = near_content(self.images.fixed, self.frame, grid, _REACH_MM)
        return self._near[grid]

    def composed(self, decoders: Decoders, codes: Codes, base: torch.Tensor | None) -> torch.Tensor:
        """[3, d, h, w] displacement in voxels of `grid`: a stage, and after it `base`, the same of the coarser ones."""
        field = NeuralField(decoders, [codes])
        own = self.grid.to_voxels(sampled(field, self.grid, self.near(self.grid), self.tick))
        return own if base is None else self.together(own, base)

    def kept(self, decoders: Decoders, codes: Codes) -> Goal:
        """The goal of a stage that is to stay as it is."""
        return Goal(self.grid.to_mm(self.composed(decoders, codes, None)), self.grid)

    def together(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The displacement, in voxels of `grid`, of `first` and then `second`."""
        return compose(first[None], second[None])[0]

    def similarity(self, field: torch.Tensor | None) -> float:
        """Of a displacement in voxels of `grid`, None for the identity."""
        self.tick()
        return self._judge.similarity(
            self.images.fixed.new_zeros(3, *self.grid.shape) if field is None else field, self.grid
        )

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
            level = replace(
                level,
                velocity_sigma_mm=level.velocity_sigma_mm * self.options.regularisation,
                field_sigma_mm=level.field_sigma_mm * self.options.regularisation,
            )
            levels.append(level.on(self.frame))
        return levels

    def climbed(self, levels: list[Level], own: torch.Tensor | None, base: torch.Tensor | None) -> tuple[Goal, bool]:
        """What the images want of a stage, and whether time was up.

        Args:
            own: the stage as it is, in voxels of `grid`; None for the identity.
            base: the same of the coarser stages, which come after it.
        """
        grid = self.grid
        field = torch.zeros(3, *grid.shape) if own is None else own
        for level in levels:
            target = self.frame.coarser(level.field_mm)
            field = resample_voxels(field, grid, target)
            grid = target
            images = self.images_at(level.spacing_mm)
            self.tick()
            if base is not None:
                images.move_through(base, self.grid)
                self.tick()
            try:
                field, _ = climb(images, level, field, grid, _MOMENTUM, self.hear, weight=None, pull=None)
            except OutOfTime:
                best = images.continued(field if images.best[1] is None else images.best[1], grid)
                return Goal(grid.to_mm(best), grid), True
            finally:
                self.iterations += images.asked
            field = images.continued(field, grid)
        return Goal(grid.to_mm(field), grid), False

    def points(self, codes: Codes) -> torch.Tensor:
        """[N, 3] mm: one random point in every cell near the content, and a wide lattice."""
        fine = self.frame.coarser(max(self.options.fit_mm, codes.grid.spacing_mm / 2, self.frame.spacing_mm))
        inside = positions_on(fine)[self.near(fine).flatten()]
        shift = (torch.rand(inside.shape, generator=self.random) - 0.5) * fine.spacing_mm
        wide = self.frame.coarser(WIDE_MM)
        return torch.cat((inside + shift, positions_on(wide)[~self.near(wide).flatten()]))

    def fitted(self, decoders: Decoders, codes: Codes, goal: Goal) -> Codes:
        """Codes that follow a goal; the decoders rest."""
        position = self.points(codes)
        targets = [Target(decoders.forward_map, goal.at(position))]
        if self.options.inverse_weight > 0:
            targets.append(Target(decoders.inverse_map, goal.inverse_at(position), self.options.inverse_weight))
        codes, errors = fit_codes(
            codes, position, targets, code_weight=self.options.code_weight, rounds=self.options.rounds, tick=self.tick
        )
        self.message = f"codes {codes.grid.spacing_mm:g} mm apart: {errors[-1]:.2f} mm from the goal"
        return codes

    def learned(self, decoders: Decoders, stages: list[Codes], goals: list[Goal], *, turns: int) -> list[Codes]:
        """Codes of all stages and the decoder of the map, fitted to the goals in turn; the inverse's decoder rests."""
        for _ in range(turns):
            in_time = self._learn(decoders.forward_map, stages, goals, inverse=False)
            stages = [self.fitted(decoders, codes, goal) for codes, goal in zip(stages, goals, strict=True)]
            if not in_time:
                break
        return stages

    def learn_inverse(self, decoders: Decoders, stages: list[Codes], goals: list[Goal]) -> None:
        """Fit the decoder of the inverse map to the inverses of the goals; the codes rest."""
        for _ in range(2):
            self._learn(decoders.inverse_map, stages, goals, inverse=True)

    def _learn(self, decoder: Decoder, stages: list[Codes], goals: list[Goal], *, inverse: bool) -> bool:
        """Whether there was time for all of it."""
        lessons = []
        for codes, goal in zip(stages, goals, strict=True):
            position = self.points(codes)
            lessons.append(Lesson(codes, position, (goal.inverse_at if inverse else goal.at)(position)))
        steps = self.options.learning_steps
        try:
            learn_decoder(
                decoder, lessons, steps=steps, learning_rate=_LEARNING_RATE, random=self.random, tick=self.hurry
            )
        except OutOfTime:
            return False
        return True
