"""One level of a refinement: update after update, as long as they make the similarity larger."""

from __future__ import annotations

import math

import torch

from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.refinement.landmarks import Pull, add_within
from SpikeRegLib.refinement.level_images import LevelImages
from SpikeRegLib.refinement.schedule import Level
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import compose
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import Grid

# A level ends when so many iterations together gained less than this.
_PATIENCE, _SMALLEST_GAIN = 4, 5e-4
_BACKTRACKS = 3


def climb(
    images: LevelImages, level: Level, field: torch.Tensor, grid: Grid, momentum: float,
    listener: Listener, *, weight: torch.Tensor | None, pull: Pull | None,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Up to `level.iterations` updates of `field` (voxels of `grid`), and how many were made.

    Args:
        listener: hears the part of the iterations that is done, and the similarity.
        weight: [d, h, w] on `grid`, how far each node may move.
        pull: of landmarks, which take part in what is climbed.
    """
    best, best_velocity, values = field, field, [-math.inf]
    previous: torch.Tensor | None = None
    step, backtracks, similarity, count = level.step, 0, 0.0, 0

    def tick(done: float) -> None:
        message = f"{level.spacing_mm:g} mm: similarity {similarity:.4f}"
        listener(Progress("refine", (count + done) / level.iterations, message))

    for count in range(level.iterations):
        similarity, velocity = images.objective_and_velocity(field, grid, level.velocity_sigma_mm, tick)
        tick(1.0)
        if weight is not None:
            velocity *= weight
        value = similarity if pull is None else similarity - pull.penalty(field)
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
        if largest == 0 and pull is None:
            return best, count
        update = velocity * (step / largest) if largest else velocity.clone()
        if pull is not None:
            # A landmark counts in proportion to the image, as the gradient of what is climbed has it.
            force = pull.landmarks.weight / len(pull.landmarks.fixed) * images.unit_force(level.velocity_sigma_mm)
            longest_mm = force * step / largest * grid.spacing_mm if largest else math.inf
            share = step / level.step
            part, begin = pull.step(best, update=update, longest_mm=longest_mm, share=share)
            add_within(update, part, begin)
        composed = compose(update[None], best[None])[0]
        smoothed = gaussian(composed, level.field_sigma_mm / grid.spacing_mm)
        if weight is not None:
            smoothed = composed + weight * (smoothed - composed)
        field = hold_border(smoothed)
        if pull is not None:
            # What the smoothing moved; small, and undone at once, or it would count as the image's fault.
            field = pull.carry(field, longest_mm=longest_mm, share=share)
    return field, level.iterations
