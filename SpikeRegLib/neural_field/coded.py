"""A deformation that is kept as codes: everything that rebuilds the same displacement, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.fields import taper
from SpikeRegLib.frames import Frame
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.refinement.grids import Grid
from SpikeRegLib.transforms import AffineTransform, DisplacementTransform, Transform, compose
from SpikeRegLib.working import settled


def rounded(codes: Codes) -> Codes:
    """The codes as a file keeps them, in half precision: a run decodes these, so that its file loses nothing."""
    with torch.no_grad():
        overall, local = (value.detach().cpu().half().float() for value in (codes.overall, codes.local))
    return replace(codes, overall=overall, local=local)


@dataclass(frozen=True)
class ModelIdentity:
    """The model whose decoders read the codes.

    Attributes:
        name: of its file, without suffix.
        sha256: of its file.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class CodedDeformation:
    """Codes, their decoders, and how a displacement field is made of them.

    Attributes:
        decoders: of all stages.
        stages: rounded codes, coarse to fine; none for the identity.
        frame: where the field is sampled: isotropic, the axes of the patient; positions count from its first voxel.
        taper_mm: width of the margin of `frame` over which the displacement falls to zero.
        base: fixed -> moving before the deformation; it follows it.
        itk_jacobian: see `working.settled`.
        model: where the decoders come from; None where they are kept with the codes.
    """

    decoders: Decoders
    stages: tuple[Codes, ...]
    frame: Frame
    taper_mm: float
    base: AffineTransform
    itk_jacobian: torch.Tensor | None = None
    model: ModelIdentity | None = None

    @property
    def grid(self) -> Grid:
        """Of `frame`, in mm from its first voxel."""
        return Grid(self.frame.shape, self.frame.spacing[0])

    def displacement(self, grid: Grid | None = None, *, tick: Callable[[float], None] = lambda _: None) -> torch.Tensor:
        """[3, D, H, W] mm, fixed -> aligned moving, sampled from the continuous field and tapered.

        Args:
            grid: begins at the first voxel of `frame`; its own if not given.
            tick: called with the finished fraction, at least every 65,536 points.
        """
        grid = grid or self.grid
        if not self.stages:
            return torch.zeros(3, *grid.shape)
        field = NeuralField(self.decoders, self.stages)
        found = field.displacement_on(grid, tick=tick)
        return taper(found, max(1, round(self.taper_mm / grid.spacing_mm)))

    def deformation(self, spacing_mm: float | None = None) -> DisplacementTransform:
        """The field as `register` writes it, fixed -> aligned moving.

        Args:
            spacing_mm: of the grid on which it is sampled; its own if not given, which is the one of the run.
        """
        grid = self.grid if spacing_mm is None else self.grid.coarser(spacing_mm)
        frame = replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)
        return settled(DisplacementTransform(self.displacement(grid), frame), self.itk_jacobian)

    def transform(self, spacing_mm: float | None = None) -> Transform:
        """The whole map, fixed -> moving: the deformation, then the base."""
        return compose(self.deformation(spacing_mm), self.base)


def scaled(coded: CodedDeformation, share: float) -> CodedDeformation:
    """The deformation with a share of every stage's displacement: 0 is the identity, 1 the deformation itself.

    The last layer of a decoder is linear, so that its weights times the share give just that.
    """
    decoders = copy.deepcopy(coded.decoders)
    with torch.no_grad():
        for decoder in (decoders.forward_map, decoders.inverse_map):
            decoder.last.weight.mul_(share)
            decoder.last.bias.mul_(share)
    return replace(coded, decoders=decoders, model=None)


def between(first: CodedDeformation, second: CodedDeformation, share: float) -> CodedDeformation:
    """The deformation whose codes are (1 - share) those of `first` and share those of `second`; not rounded.

    Args:
        first, second: with the same decoders and stages.
        share: 0 for `first`, 1 for `second`, each to the bit.
    """
    stages = tuple(
        replace(a, overall=(1 - share) * a.overall + share * b.overall, local=(1 - share) * a.local + share * b.local)
        for a, b in zip(first.stages, second.stages, strict=True)
    )
    return replace(first, stages=stages)
