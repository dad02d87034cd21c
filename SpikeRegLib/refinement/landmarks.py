"""Pairs of landmarks as a force on a displacement field: a smooth velocity that carries each point to its partner.

The velocity is an interpolation with a kernel of compact support (Wendland's, of class C2; Fornefett, Rohr and Stiehl,
2001): it has the wanted value at every landmark, and is exactly zero further away than its reach. Composed with the
field in steps too small to fold, like every other update, it brings the points together without tearing the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.space.displacement import sample
from SpikeRegLib.space.fields import taper, values_at
from SpikeRegLib.space.grids import Grid

# At brain scale: an isolated landmark carries what is 9 mm away half as far, and nothing beyond 30 mm.
REACH_MM = 30.0
# Added to the diagonal of the interpolation: close landmarks are averaged a little instead of torn apart at once.
_RIDGE = 0.02
# Largest change of a velocity between neighbouring nodes, in their distance: with three axes it cannot fold.
_STEEPEST = 0.3
# Over so much of the border of the grid the velocity fades: outside it, a field is zero.
_BORDER_MM = 6.0
# Landmarks closer than this have met: what is left is no reason to refuse a step that aligns the images better.
_MET_MM = 0.05
_SETTLING_STEPS, _SETTLED_MM, _STALLED = 60, 0.02, 0.99


@dataclass(frozen=True)
class Landmarks:
    """Points that should meet.

    Attributes:
        fixed: [N, 3] float64, (x, y, z) mm from the first voxel of the working frame.
        moving: [N, 3] where the displacement should take them, in the same coordinates.
        weight: what 1 mm of mean distance counts, in units of similarity.
        reach_mm: distance beyond which a landmark moves nothing.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: float
    reach_mm: float = REACH_MM

    def distances_mm(self, field: torch.Tensor, grid: Grid) -> torch.Tensor:
        """[N] how far `field` (mm, on `grid`) takes each point from its partner, measured in the working frame."""
        reached = self.fixed + displacement_at(field, grid, self.fixed)
        return (self.moving - reached).norm(dim=1)

    def penalty(self, field: torch.Tensor, grid: Grid) -> float:
        """What the similarity has to make up for: the weighted mean distance."""
        return self.cost(self.distances_mm(field, grid))

    def unmet(self, field: torch.Tensor, grid: Grid) -> torch.Tensor:
        """[N] bool, which of them `field` (mm, on `grid`) does not bring together."""
        return self.distances_mm(field, grid) > _MET_MM

    def cost(self, distances_mm: torch.Tensor) -> float:
        """Of [N] distances, in units of similarity."""
        return self.weight * float((distances_mm - _MET_MM).clamp(min=0).mean())


def displacement_at(field: torch.Tensor, grid: Grid, points: torch.Tensor) -> torch.Tensor:
    """[N, 3] float64 values (x, y, z) of `field` [3, d, h, w] at `points` [N, 3] mm."""
    return values_at(field, grid.to_index(points.double())).double()


def preimage(
    forward: Callable[[torch.Tensor], torch.Tensor], wanted: torch.Tensor, start: torch.Tensor, *, step_mm: float,
    iterations: int = 30, tolerance_mm: float = 1e-3,
) -> torch.Tensor:  # fmt: skip
    """The points that `forward` takes to `wanted`, by Newton's method with differences over `step_mm`.

    Args:
        forward: of [N, 3] float64 mm.
        wanted, start: [N, 3].

    Returns:
        [N, 3]; where the map reaches no nearer, the best point found.
    """
    x, damping = start.clone(), torch.ones(len(start), 1, dtype=torch.float64)
    left = wanted - forward(x)
    for _ in range(iterations):
        length = left.norm(dim=1, keepdim=True)
        if not len(x) or float(length.max()) < tolerance_mm:
            break
        offsets = step_mm * torch.eye(3, dtype=torch.float64)
        slopes = torch.stack([(forward(x + o) - forward(x - o)) / (2 * step_mm) for o in offsets], -1)
        usable = torch.linalg.det(slopes) > 0.05
        slopes = torch.where(usable[:, None, None], slopes, torch.eye(3, dtype=torch.float64))
        trial = x + damping * torch.linalg.solve(slopes, left)
        missed = wanted - forward(trial)
        better = missed.norm(dim=1, keepdim=True) < length
        x, left = torch.where(better, trial, x), torch.where(better, missed, left)
        damping = torch.where(better, torch.ones_like(damping), damping / 2)
    return x


def _kernel(distance: torch.Tensor) -> torch.Tensor:
    """Wendland's function of a distance in units of the reach: 1 at 0, 0 from 1 on, positive definite in 3-D."""
    return (1 - distance).clamp(min=0).pow(4) * (4 * distance + 1)


class Pull:
    """The velocity of landmarks on one grid.

    Args:
        landmarks: that pull.
        grid: of the field they act on.
        weight: [d, h, w] on `grid`, where they may change the field (1) and where not (0); None for everywhere.
        after: field in voxels and its grid; a displacement that follows the one to be changed.
    """

    def __init__(
        self, landmarks: Landmarks, grid: Grid, weight: torch.Tensor | None = None,
        after: tuple[torch.Tensor, Grid] | None = None,
    ) -> None:  # fmt: skip
        self.landmarks, self._grid = landmarks, grid
        border = taper(torch.ones(grid.shape), max(1, round(_BORDER_MM / grid.spacing_mm)))
        self._allowed = border if weight is None else border * weight
        self._after = after
        self._goals = landmarks.moving
        if after is not None:
            self._goals = preimage(self._through_after, landmarks.moving, landmarks.fixed, step_mm=after[1].spacing_mm)
        gaps = torch.cdist(landmarks.fixed, landmarks.fixed) / landmarks.reach_mm
        self._matrix = _kernel(gaps) + _RIDGE * torch.eye(len(gaps), dtype=torch.float64)

    def _through_after(self, points: torch.Tensor) -> torch.Tensor:
        if self._after is None:
            return points
        field, grid = self._after
        return points + grid.to_mm(displacement_at(field, grid, points))

    def _at(self, field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """mm, of `field` in voxels of the grid."""
        return self._grid.to_mm(displacement_at(field, self._grid, points))

    def distances_mm(self, field: torch.Tensor) -> torch.Tensor:
        """[N] between the partners, with `field` in voxels of the grid."""
        fixed = self.landmarks.fixed
        return (self.landmarks.moving - self._through_after(fixed + self._at(field, fixed))).norm(dim=1)

    def penalty(self, field: torch.Tensor) -> float:
        """The weighted mean distance that is left, with `field` in voxels of the grid."""
        return self.landmarks.cost(self.distances_mm(field))

    def step(
        self, field: torch.Tensor, *, update: torch.Tensor | None = None, longest_mm: float = float("inf"),
        share: float = 1.0,
    ) -> tuple[torch.Tensor, tuple[int, int, int]]:  # fmt: skip
        """The velocity that carries the landmarks on, where it is not zero.

        It is a proximal step of the weighted mean distance: what `update` leaves of each distance shrinks by at most
        `longest_mm`, not beyond zero.

        Args:
            field: [3, d, h, w] in voxels of the grid, so far.
            update: [3, d, h, w] that will be composed with it at the same time.
            longest_mm: the most a landmark is carried.
            share: of all this.

        Returns:
            [3, d', h', w'] in voxels of the grid, and the index of its first voxel in it.
        """
        fixed = self.landmarks.fixed
        # What the field takes to the goal is where the velocity has to bring the landmark.
        came_from = preimage(lambda x: x + self._at(field, x), self._goals, fixed, step_mm=0.5 * self._grid.spacing_mm)
        wanted = came_from - fixed
        if update is not None:
            wanted = wanted - self._at(update, fixed)
        length = wanted.norm(dim=1, keepdim=True).clamp(min=1e-9)
        wanted = wanted * (share * (longest_mm / length).clamp(max=1.0))
        return self._spread(torch.linalg.solve(self._matrix, wanted))

    def _spread(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """The kernels times [N, 3] mm, on the part of the grid that they reach, kept from folding."""
        spacing, reach = self._grid.spacing_mm, self.landmarks.reach_mm / self._grid.spacing_mm
        centres = self.landmarks.fixed.flip(1) / spacing  # (D, H, W)
        last = torch.tensor(self._grid.shape) - 1
        low = torch.minimum((centres - reach).ceil().long().clamp(min=0), last)
        high = torch.minimum((centres + reach).floor().long().clamp(min=0), last)
        first, size = low.amin(0), high.amax(0) - low.amin(0) + 1
        velocity = torch.zeros(3, *size.tolist())
        for centre, a, b, coefficient in zip(centres, low - first, high - first + 1, coefficients, strict=True):
            z, y, x = (
                (torch.arange(int(m), int(n)) + f - c).square() / reach**2
                for m, n, f, c in zip(a, b, first, centre, strict=True)
            )
            bump = _kernel((z[:, None, None] + y[:, None] + x).sqrt()).float()
            part = velocity[:, a[0] : b[0], a[1] : b[1], a[2] : b[2]]
            part += (coefficient.float() / spacing)[:, None, None, None] * bump
        start = (int(first[0]), int(first[1]), int(first[2]))
        velocity *= _box(self._allowed, velocity, start)
        steepest = max(
            float(velocity.diff(dim=axis).square().sum(0).max()) if velocity.shape[axis] > 1 else 0.0
            for axis in (1, 2, 3)
        )
        return velocity * min(1.0, _STEEPEST / max(steepest**0.5, 1e-9)), start

    def carry(self, field: torch.Tensor, *, longest_mm: float = float("inf"), share: float = 1.0) -> torch.Tensor:
        """`field` (voxels of the grid) after one step of the landmarks alone; arguments as of `step`."""
        velocity, start = self.step(field, longest_mm=longest_mm, share=share)
        carried = field.clone()
        _box(carried, velocity, start).copy_(velocity + sample(field, velocity, start=start))
        return carried

    def settle(self, field: torch.Tensor, listener: Listener = silent) -> torch.Tensor:
        """`field` (voxels of the grid) with the landmarks brought together as far as they go; images have no say.

        Args:
            listener: hears the largest distance before every step.
        """
        distance = self.distances_mm(field)
        for number in range(_SETTLING_STEPS):
            message = f"landmarks: {float(distance.max()):.1f} mm apart at most"
            listener(Progress("refine", number / _SETTLING_STEPS, message))
            if float(distance.max()) < _SETTLED_MM:
                break
            candidate = self.carry(field)
            reached = self.distances_mm(candidate)
            if float(reached.mean()) > _STALLED * float(distance.mean()):
                break
            field, distance = candidate, reached
        return field


def add_within(update: torch.Tensor, part: torch.Tensor, start: tuple[int, int, int]) -> torch.Tensor:
    """`update` plus `part`, whose first voxel is at `start`; in place."""
    _box(update, part, start).add_(part)
    return update


def _box(whole: torch.Tensor, part: torch.Tensor, start: tuple[int, int, int]) -> torch.Tensor:
    (a, b, c), (d, h, w) = start, part.shape[-3:]
    return whole[..., a : a + d, b : b + h, c : c + w]
