"""What changed between two images of one person: a velocity found from both at once, which favours neither.

Both images are seen half way: the earlier one through the flow of minus half the velocity, the later one through that
of half of it. A Gauss-Newton step with the mean of both gradients lowers the squared difference (as the symmetric
forces of Vercauteren et al. 2009) and the squared first derivatives of the velocity; exchanging the images changes its
sign, and nothing else. A smooth field of gains is taken out on the way (the differential bias of Lewis and Fox 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import on_frame
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import exponential
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import Grid, resample_voxels
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, compose

# Differences beyond so many of their usual size count less (Huber).
_HUBER = 2.0
_EMPTY = 0.02
# A step is solved once so small a share of its residual is left, in the norm of the preconditioner, squared.
_SOLVED = 1e-6


@dataclass(frozen=True)
class ChangeLevel:
    """One level, from coarse to fine.

    Attributes:
        spacing_mm: of images and velocity.
        steps: of Gauss and Newton.
        solves: iterations of the linear solver in each.
        stiffness: weight of the squared derivatives against squared differences in units of their noise, in mm^2.
    """

    spacing_mm: float
    steps: int
    solves: int
    stiffness: float


@dataclass(frozen=True)
class ChangeSettings:
    """How a change is found.

    Attributes:
        levels: from coarse to fine.
        bias_mm: standard deviation of the Gaussian beyond which gains differ smoothly.
    """

    levels: tuple[ChangeLevel, ...] = (
        ChangeLevel(4.0, 4, 40, 20.0), ChangeLevel(2.0, 3, 40, 8.0), ChangeLevel(1.0, 3, 30, 3.0),
    )  # fmt: skip
    bias_mm: float = 12.0


Sampler = Callable[[Frame, Transform | None], torch.Tensor]


def sampler(image: Volume, rigid: Transform) -> Sampler:
    """Sees an image on a frame of the mid-space, interpolated once: through a map of that space, and then `rigid`."""

    def sample(frame: Frame, first: Transform | None) -> torch.Tensor:
        return on_frame(image, frame, rigid if first is None else compose(first, rigid))

    return sample


def change_between(
    first: Sampler, later: Sampler, frame: Frame, settings: ChangeSettings, listener: Listener
) -> tuple[torch.Tensor, Grid]:
    """The velocity of what changed, on the finest level's grid.

    Args:
        first, later: both images, in [0, 1], as seen from the mid-space.
        frame: of the mid-space, isotropic with the axes of the patient.
        settings: its levels.
        listener: hears the progress as step "refine"; raises Cancelled to stop.

    Returns:
        [3, d, h, w] mm: points of the mid-space are at minus half its flow in the first image, and at half its flow in
        the later one; and its grid, which starts at the first voxel of `frame`.
    """
    whole = Grid(frame.shape, frame.spacing[0])
    velocity: torch.Tensor | None = None
    grid = whole
    done, total = 0, sum(level.steps for level in settings.levels)
    for level in settings.levels:
        target = whole.coarser(max(level.spacing_mm, whole.spacing_mm))
        if velocity is None:
            velocity = torch.zeros(3, *target.shape)
        else:
            velocity = resample_voxels(velocity, grid, target)
        grid = target
        for _ in range(level.steps):
            listener(Progress("refine", done / total, f"{grid.spacing_mm:g} mm"))
            at = _frame_of(frame, grid)
            seen = [sample(at, halfway(velocity, sign, grid, at)) for sample, sign in ((first, -1.0), (later, 1.0))]
            velocity = _step(
                seen[0], seen[1], velocity, grid.spacing_mm, level, settings.bias_mm, listener, done / total
            )
            done += 1
    assert velocity is not None  # there is a level at least
    return grid.to_mm(velocity), grid


def halfway(velocity: torch.Tensor, sign: float, grid: Grid, frame: Frame) -> DisplacementTransform:
    """Half the flow of a velocity [3, d, h, w] in voxels of its grid: mid-space to the later image, with sign -1 to the
    first."""
    return DisplacementTransform(grid.to_mm(exponential(hold_border(sign * velocity / 2)[None])[0]), frame)


def _frame_of(frame: Frame, grid: Grid) -> Frame:
    return Frame(grid.shape, frame.origin, (grid.spacing_mm,) * 3, frame.direction)


def _step(
    first: torch.Tensor, later: torch.Tensor, velocity: torch.Tensor, spacing_mm: float, level: ChangeLevel,
    bias_mm: float, listener: Listener, done: float,
) -> torch.Tensor:  # fmt: skip
    """The velocity, in voxels, after one step."""
    anatomy = ((first + later) / 2 > _EMPTY).float()
    first, later = _of_one_gain(first, later, anatomy, bias_mm / spacing_mm)
    difference = later - first
    mean = (first + later) / 2
    slope = torch.stack(torch.gradient(mean)[::-1])
    inside = difference[anatomy > 0]
    noise = float(1.4826 * inside.abs().median()) if len(inside) else 0.0
    noise = max(noise, 1e-4)
    # Around the anatomy nothing differs and nothing counts; its rim does.
    weight = (_HUBER * noise / difference.abs().clamp_min(1e-9)).clamp(max=1) / noise**2
    stiffness = level.stiffness / spacing_mm**2

    def product(values: torch.Tensor) -> torch.Tensor:
        out = _minus_laplacian(values).mul_(stiffness)
        along = (slope[0] * values[0]).addcmul_(slope[1], values[1]).addcmul_(slope[2], values[2]).mul_(weight)
        for component in range(3):
            out[component].addcmul_(slope[component], along)
        return out

    def tick() -> None:
        listener(Progress("refine", done, f"{spacing_mm:g} mm"))

    right = _minus_laplacian(velocity).mul_(-stiffness)
    pull = weight * difference
    for component in range(3):
        right[component].addcmul_(slope[component], pull, value=-1)
    inverse = (slope.square().mul_(weight)).add_(6 * stiffness).reciprocal_()
    return hold_border(velocity + _solved(product, right, inverse, level.solves, tick))


def _of_one_gain(
    first: torch.Tensor, later: torch.Tensor, anatomy: torch.Tensor, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images after the smooth ratio of their intensities was shared between them."""
    ratio = torch.log((later + _EMPTY) / (first + _EMPTY)).clamp_(-1, 1) * anatomy
    smooth = gaussian(ratio, sigma) / gaussian(anatomy, sigma).clamp_min(1e-3)
    half = torch.exp(smooth / 2)
    return first * half, later / half


def _minus_laplacian(values: torch.Tensor) -> torch.Tensor:
    """Minus the sum of second differences of [3, d, h, w]; 0 on the outermost layer, where the velocity is held."""
    out = torch.zeros_like(values)
    inner = (slice(None), *[slice(1, -1)] * 3)
    out[inner] = 6 * values[inner]
    for axis in (1, 2, 3):
        for shift in (0, 2):
            part = [slice(None), *[slice(1, -1)] * 3]
            part[axis] = slice(shift, values.shape[axis] - 2 + shift)
            out[inner] -= values[tuple(part)]
    return out


def _solved(
    product: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor, inverse: torch.Tensor, count: int,
    tick: Callable[[], None],
) -> torch.Tensor:  # fmt: skip
    """Conjugate gradients with the inverse of the diagonal as preconditioner; `right` is used up."""
    residual = hold_border(right)
    solution = torch.zeros_like(residual)
    towards = residual * inverse
    power = begin = _dot(residual, towards)
    for _ in range(count):
        tick()
        if power <= _SOLVED * begin or not math.isfinite(power):
            break
        image = hold_border(product(towards))
        length = power / max(_dot(towards, image), 1e-30)
        solution.add_(towards, alpha=length)
        residual.sub_(image, alpha=length)
        torch.mul(residual, inverse, out=image)
        last, power = power, _dot(residual, image)
        towards.mul_(power / last).add_(image)
    return solution


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(float(torch.dot(one.flatten(), other.flatten())) for one, other in zip(a, b, strict=True))
