"""Instance optimisation of a neural field: its codes, for the one pair at hand, from coarse to fine.

Variable splitting: a few iterations of the library's compositional refinement (`refine`) find, on a voxel grid, where
the images want the points to go from where the field brings them; then the codes are fitted to that by Gauss-Newton
(`fit`). The images are looked at as rarely as in the voxel refinement, and what the decoder costs does not multiply
with the number of voxels. What is returned is the field itself, judged by its own samples.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.learn import loosen
from SpikeRegLib.neural_field.search import Goal, OptimisationOptions, Search
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.progress import Listener, silent
from SpikeRegLib.refinement.level_images import Images
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.known import Known

__all__ = ["Optimised", "OptimisationOptions", "new_codes", "optimise"]


@dataclass(frozen=True)
class Optimised:
    """What `optimise` found.

    Attributes:
        field: the optimised field, or the given one where that is no worse. Its inverse decoder follows as far as
            `inverse_weight` asks it to (1 to 2 mm without); for an exact inverse, invert samples of the map.
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


# How often the decoder and the codes are fitted in turn at the first stage, and at each finer one.
_TURNS, _MORE_TURNS = 3, 2


def new_codes(frame: Grid, options: FieldSizes, spacing_mm: float, overall: torch.Tensor | None = None) -> Codes:
    """Codes of zero all over a frame; the global one is zero, too, unless given."""
    grid = frame.coarser(spacing_mm)
    x, y, z = ((n - 1) * frame.spacing_mm / 2 for n in reversed(frame.shape))
    overall = torch.zeros(options.global_size) if overall is None else overall
    return Codes(overall, torch.zeros(options.local_size, *grid.shape), grid, (x, y, z))


def optimise(
    fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor | None, frame: Grid, field: NeuralField | None, *,
    options: OptimisationOptions | None = None, field_options: FieldSizes | None = None, seed: int = 0,
    known: Known | None = None, listener: Listener = silent,
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
        known: where the images are known, see `refine.refine`.
        listener: called at least every 0.2 s of work; what it raises ends the run.

    Raises:
        InputError: shapes do not agree.
    """
    options, field_options = options or OptimisationOptions(), field_options or FieldSizes()
    if fixed.shape != moving.shape or tuple(fixed.shape[-3:]) != tuple(frame.shape):
        raise InputError(
            f"fixed {list(fixed.shape)} and moving {list(moving.shape)} do not fit the frame {frame.shape};"
            " resample both to it"
        )
    if fixed.ndim == 3:
        fixed, moving = fixed[None], moving[None]
    with torch.no_grad():
        search = Search(Images(fixed, moving, mask, known), frame, options, seed, listener)
        return _optimise(search, field, field_options, seed)


def _optimise(search: Search, given: NeuralField | None, field_options: FieldSizes, seed: int) -> Optimised:
    options = search.options
    learn = options.decoder or given is None
    start = given or NeuralField(
        Decoders(field_options), [new_codes(search.frame, field_options, options.stages_mm[0])]
    )
    decoders, stages = start.decoders, list(start.stages[:-1])
    # Stages coarser than the finest given one stay; `base` is their displacement, `own` that of the stage at hand.
    base, own = None, None
    goals: list[Goal] = []
    for codes in stages:
        base = search.composed(decoders, codes, base)
        goals.append(search.kept(decoders, codes))
    whole = None
    if given is not None:
        own = search.composed(decoders, start.stages[-1], None)
        whole = own if base is None else search.together(own, base)
    before = search.similarity(whole)
    if learn:
        decoders = copy.deepcopy(decoders)
        for number, decoder in enumerate((decoders.forward_map, decoders.inverse_map)):
            loosen(decoder, seed=seed + number)
    codes = start.stages[-1]
    finer = [mm for mm in options.stages_mm if mm < 0.9 * codes.grid.spacing_mm]
    out_of_time = False
    for number, spacing_mm in enumerate([codes.grid.spacing_mm, *finer]):
        if number:
            codes, own = new_codes(search.frame, decoders.options, spacing_mm, codes.overall), None
        search.fraction = number / (1 + len(finer))
        goal, out_of_time = search.climbed(search.levels(spacing_mm, last=number == len(finer)), own, base)
        codes = search.fitted(decoders, codes, goal)
        stages, goals = [*stages, codes], [*goals, goal]
        if learn:
            stages = search.learned(decoders, stages, goals, turns=_TURNS if number == 0 else _MORE_TURNS)
            base = None
            for codes in stages[:-1]:
                base = search.composed(decoders, codes, base)
        codes = stages[-1]
        base = search.composed(decoders, codes, base)
        if out_of_time:
            break
    if learn:
        search.learn_inverse(decoders, stages, goals)
    after = search.similarity(base)
    accepted = after > before
    reason = "time is up" if out_of_time else "all iterations done" if accepted else "no gain over the start"
    return Optimised(
        field=NeuralField(decoders, stages) if accepted else start,
        similarity_before=before,
        similarity_after=after if accepted else before,
        iterations=search.iterations,
        seconds=time.monotonic() - search.start,
        accepted=accepted,
        reason=reason,
    )
