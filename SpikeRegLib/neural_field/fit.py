"""Codes that make a stage of a neural field follow a given displacement: damped Gauss-Newton.

The decoder is linearised around the present codes, u(x; z + dz) = u(x) + A(x) dz(x) with dz(x) interpolated between
the nodes, and the linear least-squares problem is solved by conjugate gradients without a matrix (Nocedal and Wright
2006, algorithm 7.1 with Levenberg's damping). That costs little beside the image terms, and needs no step size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.fixed_points import FixedPoints, Sampling
from SpikeRegLib.progress import Tick, unheard


@dataclass(frozen=True)
class Target:
    """Where one decoder shall bring the points.

    Attributes:
        decoder: of the map, or of its inverse.
        displacement: [N, 3] mm (x, y, z).
        weight: of its squared error.
    """

    decoder: Decoder
    displacement: torch.Tensor
    weight: float = 1.0


@torch.no_grad()
def fit_codes(
    codes: Codes,
    position: torch.Tensor,
    targets: Sequence[Target],
    *,
    code_weight: float,
    rounds: int = 3,
    iterations: int = 10,
    damping: float = 0.003,
    tick: Tick = unheard,
) -> tuple[Codes, list[float]]:
    """Codes with local ones changed so that mean |u - target|^2 + code_weight * mean |z|^2 is small.

    The first mean is over points, in square millimetres, the second over the nodes near them: the prior is as strong
    where codes are dense as where they are sparse.

    Args:
        codes: the start; nodes without a point nearby keep theirs.
        position: [N, 3] mm (x, y, z) of the points.
        targets: at the same points, of one decoder each.
        code_weight: of the mean squared norm of the codes, the prior.
        rounds: linearisations.
        iterations: of the conjugate gradients, each round.
        damping: of the first round's changes, as `code_weight` for what is changed.
        tick: called at least every few thousand points, with the part of the rounds that is done.

    Returns:
        The codes, and the root mean square error in mm before each round and at the end.
    """
    sampling = Sampling(codes, position)
    flat = codes.local.flatten(1).t().contiguous()
    z = flat[sampling.nodes]
    code_weight = code_weight * len(position) / len(z)
    terms = [(FixedPoints(t.decoder, codes, position), t.displacement, t.weight) for t in targets]
    errors: list[float] = []

    def cost_of(found: list[torch.Tensor], at: torch.Tensor) -> float:
        misfit = sum(w * float((t - u).square().sum()) for u, (_, t, w) in zip(found, terms, strict=True))
        errors.append((misfit / len(position)) ** 0.5)
        return misfit + code_weight * float(at.square().sum())

    best, previous = z, float("inf")
    done = 0.0

    def beat(_: float) -> None:
        tick(done)

    for number in range(rounds):
        done = number / rounds
        local = sampling.at_points(z)
        both = [points.linearised(local, beat) for points, _, _ in terms]
        cost = cost_of([u for u, _ in both], z)
        if cost > previous:
            break
        best, previous = z, cost

        def normal(
            change: torch.Tensor, both: list[tuple[torch.Tensor, torch.Tensor]] = both, done: float = done
        ) -> torch.Tensor:
            at = sampling.at_points(change)
            out = torch.zeros_like(at)
            for (_, slope), (_, _, weight) in zip(both, terms, strict=True):
                tick(done)
                along = torch.bmm(slope, at[:, :, None])
                out += weight * torch.bmm(along.transpose(1, 2), slope)[:, 0]
            return sampling.at_nodes(out) + (code_weight + damping) * change

        pull = torch.zeros_like(local)
        for (u, slope), (_, target, weight) in zip(both, terms, strict=True):
            pull += weight * torch.bmm((target - u)[:, None], slope)[:, 0]
        z = z + _conjugate_gradients(normal, sampling.at_nodes(pull) - code_weight * z, iterations)
    else:
        local = sampling.at_points(z)
        if cost_of([points.displacement(local, beat) for points, _, _ in terms], z) <= previous:
            best = z
    flat = flat.clone()
    flat[sampling.nodes] = best
    return replace(codes, local=flat.t().reshape(codes.local.shape).contiguous()), errors


def _conjugate_gradients(
    normal: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor, iterations: int
) -> torch.Tensor:
    """x with normal(x) = right, nearly; `normal` is linear, symmetric and positive."""
    x, residual = torch.zeros_like(right), right.clone()
    direction, square = right.clone(), float(right.square().sum())
    start = square
    for _ in range(iterations):
        if square <= 1e-6 * start or square == 0:
            break
        image = normal(direction)
        step = square / float((direction * image).sum())
        x.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        square, last = float(residual.square().sum()), square
        direction.mul_(square / last).add_(residual)
    return x
