"""The decoder of a neural field fitted to a displacement while its codes rest: what a field without weights needs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.fit import Target
from SpikeRegLib.neural_field.fixed_points import Sampling

_POINTS_A_STEP = 4096
# Points of each step at which a code of zero should leave the point where it is: a stage that starts does so there.
_IDLE_POINTS = 512


def loosen(decoder: torch.nn.Module, *, seed: int, scale: float = 0.3) -> None:
    """Give a decoder that knows nothing a random last layer; with a zero one no code could move a point."""
    last = decoder.last
    assert isinstance(last, torch.nn.Linear)
    if not bool(last.weight.any()):
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            last.weight.normal_(0, scale, generator=random)


def learn_decoder(
    target: Target,
    codes: Codes,
    position: torch.Tensor,
    *,
    steps: int,
    learning_rate: float,
    random: torch.Generator,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Adam (Kingma and Ba 2015) on the weights of `target.decoder`: mean squared error in units of the code spacing.

    Args:
        target: displacement of the points; its decoder is changed.
        codes: rest.
        position: [N, 3] mm.
        steps: of `_POINTS_A_STEP` random points each.
        learning_rate: at the start; falls to nothing as a cosine.
        random: chooses the points.
    """
    decoder, spacing = target.decoder, codes.grid.spacing_mm
    sampling = Sampling(codes, position)
    local = sampling.at_points(codes.local.flatten(1).t()[sampling.nodes].contiguous())
    code = torch.cat((local, codes.overall.expand(len(local), -1)), 1).detach()
    relative, cells = codes.relative(position), codes.cells(position)
    wanted = target.displacement / spacing
    optimiser = torch.optim.Adam(decoder.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    idle = torch.zeros(_IDLE_POINTS, code.shape[1])
    idle[:, codes.local.shape[0] :] = codes.overall
    with torch.enable_grad():
        for _ in range(steps):
            tick()
            chosen = torch.randint(len(position), (_POINTS_A_STEP,), generator=random)
            still = torch.randint(len(position), (_IDLE_POINTS,), generator=random)
            found = decoder(
                torch.cat((code[chosen], idle)),
                torch.cat((relative[chosen], relative[still])),
                torch.cat((cells[chosen], cells[still])),
            )
            error = found[:_POINTS_A_STEP] - wanted[chosen]
            loss = (error.square().sum() + found[_POINTS_A_STEP:].square().sum()) / _POINTS_A_STEP
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
