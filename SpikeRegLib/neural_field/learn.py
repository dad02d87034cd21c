"""The decoder of a neural field fitted to a displacement while its codes rest: what a field without weights needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.fixed_points import Sampling
from SpikeRegLib.progress import Tick, unheard

_POINTS_A_STEP = 4096
# Points of each step at which a code of zero should leave the point where it is: a stage that starts does so there.
_IDLE_POINTS = 512


def loosen(decoder: Decoder, *, seed: int, scale: float = 0.3) -> None:
    """Give a decoder that knows nothing a random last layer; with a zero one no code could move a point."""
    if not bool(decoder.last.weight.any()):
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            decoder.last.weight.normal_(0, scale, generator=random)


@dataclass(frozen=True)
class Lesson:
    """One stage for a decoder to learn: [N, 3] displacement in mm wanted at [N, 3] positions in mm with these codes."""

    codes: Codes
    position: torch.Tensor
    displacement: torch.Tensor


def learn_decoder(
    decoder: Decoder,
    lessons: Sequence[Lesson],
    *,
    steps: int,
    learning_rate: float,
    random: torch.Generator,
    tick: Tick = unheard,
) -> None:
    """Adam (Kingma and Ba 2015) on the weights of a decoder: mean squared error in units of the code spacing.

    Args:
        decoder: changed.
        lessons: all stages that it is for; their codes rest.
        steps: of `_POINTS_A_STEP` random points each.
        learning_rate: at the start; falls to nothing as a cosine.
        random: chooses the points.
    """
    columns: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for lesson in lessons:
        codes, position = lesson.codes, lesson.position
        sampling = Sampling(codes, position)
        local = sampling.at_points(codes.local.flatten(1).t()[sampling.nodes].contiguous())
        code = torch.cat((local, codes.overall.expand(len(local), -1)), 1)
        wanted = codes.grid.to_voxels(lesson.displacement)
        columns.append((code, codes.relative(position), codes.cells(position), wanted))
    code, relative, cells, wanted = (torch.cat(parts) for parts in zip(*columns, strict=True))
    idle = torch.zeros(_IDLE_POINTS, code.shape[1])
    idle[:, lessons[0].codes.local.shape[0] :] = lessons[0].codes.overall
    optimiser = torch.optim.Adam(decoder.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    with torch.enable_grad():
        for step in range(steps):
            tick(step / steps)
            chosen = torch.randint(len(code), (_POINTS_A_STEP,), generator=random)
            still = torch.randint(len(code), (_IDLE_POINTS,), generator=random)
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
