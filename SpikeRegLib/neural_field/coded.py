"""A deformation that is kept as codes: everything that rebuilds the same displacement, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.sampled import sampled
from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.similarity.pair import settled
from SpikeRegLib.space.fields import taper
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose

# Distance of the nodes that stand for everything far from the anatomy, in voxels of the grid of the field.
WIDE = 4
# Steps of a local code on either side of zero: eight bits.
LEVELS = 127


def wide_grid(grid: Grid) -> Grid:
    """Of the nodes between which the field is interpolated where nothing of the anatomy is near."""
    return grid.coarser(WIDE * grid.spacing_mm)


def steps_of(local: torch.Tensor) -> torch.Tensor:
    """[C] powers of two, the smallest with which every value of [C, d, h, w] is within +-127 steps; 1 for zeros."""
    largest = local.abs().amax((1, 2, 3)) / LEVELS
    mantissa, exponent = torch.frexp(largest)  # largest = mantissa 2^exponent with 0.5 <= mantissa < 1
    exponent = exponent - (mantissa == 0.5).to(exponent.dtype)
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), 1.0)


@torch.no_grad()
def rounded(codes: Codes) -> Codes:
    """The codes as a file keeps them: local ones as whole numbers of steps, the overall one in half precision.

    A run decodes these, so that its file loses nothing; rounding them again changes nothing. On a brain it moves points
    by 0.02 mm.
    """
    overall, local = codes.overall.detach().cpu().half().float(), codes.local.detach().cpu().float()
    step = steps_of(local)[:, None, None, None]
    return replace(codes, overall=overall, local=torch.round(local / step) * step)


def enlarged(field: NeuralField, scale: float) -> NeuralField:
    """The same field with every length, positions and displacements alike, `scale` times as long."""
    options = field.decoders.options
    decoders = Decoders(replace(options, extent_mm=options.extent_mm * scale))
    decoders.load_state_dict(field.decoders.state_dict())
    for decoder in (decoders.forward_map, decoders.inverse_map):
        decoder.features.frequencies /= scale
    stages = []
    for codes in field.stages:
        (z, y, x), centre = codes.grid.offset_mm, codes.centre_mm
        grid = replace(
            codes.grid, spacing_mm=codes.grid.spacing_mm * scale, offset_mm=(z * scale, y * scale, x * scale)
        )
        far = (centre[0] * scale, centre[1] * scale, centre[2] * scale)
        stages.append(replace(codes, grid=grid, centre_mm=far))
    return NeuralField(decoders, stages)


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
        near: [d, h, w] bool on the grid of `WIDE` voxels of `frame`: where the field is decoded node by node. Elsewhere
            it is interpolated between nodes of that grid. None decodes every node.
    """

    decoders: Decoders
    stages: tuple[Codes, ...]
    frame: Frame
    taper_mm: float
    base: AffineTransform
    itk_jacobian: torch.Tensor | None = None
    model: ModelIdentity | None = None
    near: torch.Tensor | None = None

    @property
    def grid(self) -> Grid:
        """Of `frame`, in mm from its first voxel."""
        return Grid(self.frame.shape, self.frame.spacing[0])

    def displacement(self, grid: Grid | None = None, *, tick: Tick = unheard) -> torch.Tensor:
        """[3, D, H, W] mm, fixed -> aligned moving, sampled from the continuous field and tapered.

        Args:
            grid: begins at the first voxel of `frame`; its own if not given.
            tick: called at least every 65,536 points.
        """
        grid = grid or self.grid
        if not self.stages:
            return torch.zeros(3, *grid.shape)
        field = NeuralField(self.decoders, self.stages)
        if self.near is None:
            found = field.displacement_on(grid, tick=tick)
        else:
            near = resample(self.near.float(), wide_grid(self.grid), grid) > 0.5
            found = sampled(field, grid, near, tick)
        return taper(found, max(1, round(self.taper_mm / grid.spacing_mm)))

    def frame_at(self, spacing_mm: float | None = None) -> Frame:
        """The frame at another spacing, from the same first voxel on; its own if None."""
        grid = self.grid if spacing_mm is None else self.grid.coarser(spacing_mm)
        return replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)

    def deformation(self, spacing_mm: float | None = None) -> DisplacementTransform:
        """The field as `register` writes it, fixed -> aligned moving.

        Args:
            spacing_mm: of the grid on which it is sampled; its own if not given, which is the one of the run.
        """
        frame = self.frame_at(spacing_mm)
        field = self.displacement(Grid(frame.shape, frame.spacing[0]))
        return settled(DisplacementTransform(field, frame), self.itk_jacobian)

    def transform(self, spacing_mm: float | None = None) -> Transform:
        """The whole map, fixed -> moving: the deformation, then the base."""
        return compose(self.deformation(spacing_mm), self.base)

    def same_decoders(self, other: CodedDeformation) -> bool:
        """Whether both read codes alike, to the bit."""
        mine, theirs = self.decoders.state_dict(), other.decoders.state_dict()
        return self.decoders.options == other.decoders.options and all(
            torch.equal(value, theirs[name]) for name, value in mine.items()
        )

    def spacings(self) -> str:
        """Distances of the codes of all stages, for messages."""
        return ", ".join(f"{codes.grid.spacing_mm:g} mm" for codes in self.stages) or "nothing"


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
