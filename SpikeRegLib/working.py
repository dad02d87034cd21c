"""The pair on the grid on which everything after alignment happens, and deformations of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch

from SpikeRegLib.fields import warp
from SpikeRegLib.frames import Frame
from SpikeRegLib.losses import lncc
from SpikeRegLib.refinement.contrast import Comparison
from SpikeRegLib.refinement.diffeomorphic import as_itk_sees, remove_folds
from SpikeRegLib.refinement.displacement import hold_border
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.transforms import AffineTransform, DisplacementTransform, Transform

# ITK's reading of the undeformed Jacobian below which keeping it positive would forbid ordinary deformations.
LEAST_ITK_JACOBIAN = 0.25


@dataclass(frozen=True)
class Working:
    """The pair on a world-aligned isotropic grid, moving aligned; images in [0, 1], mask bool, all [D, H, W].

    `comparison` says what of the two images is compared.
    """

    frame: Frame
    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor
    comparison: Comparison

    @property
    def grid(self) -> Grid:
        return Grid(self.frame.shape, self.frame.spacing[0])

    def frame_of(self, grid: Grid) -> Frame:
        """Where a grid that starts at the first voxel of this one lies in the patient."""
        return replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)

    def to(self, device: str) -> Working:
        """The same pair on another device."""
        return replace(
            self,
            fixed=self.fixed.to(device),
            moving=self.moving.to(device),
            mask=self.mask.to(device),
            comparison=self.comparison.to(device),
        )

    def coarser(self, spacing_mm: float) -> Working:
        """The same pair at a larger voxel size, smoothed as far as the larger voxels need."""
        if spacing_mm <= self.frame.spacing[0]:
            return self
        grid = self.grid.coarser(spacing_mm)
        fixed, moving, mask = (
            resample(image, self.grid, grid, sigma_mm=0.35 * spacing_mm)
            for image in (self.fixed, self.moving, self.mask.float())
        )
        return Working(self.frame_of(grid), fixed, moving, mask > 0.5, self.comparison)

    def similarity(self, displacement: torch.Tensor | None = None, *, moving: torch.Tensor | None = None) -> float:
        """Mean local correlation inside the mask, of what is compared.

        Args:
            displacement: [3, D, H, W] mm on this grid, for the moving image.
            moving: [D, H, W] another moving image on this grid.
        """
        fixed = self.comparison.of_fixed(self.fixed)
        seen = self.comparison.of_moving(self.moving if moving is None else moving)
        if displacement is not None:
            seen = warp(seen[None], displacement[None] / self.frame.spacing[0])[0]
        return fmean(float(lncc(f, m, mask=self.mask)) for f, m in zip(fixed, seen, strict=True))


@dataclass(frozen=True)
class Deformation:
    """A displacement field [3, D, H, W] in mm on a grid that starts at the first voxel of the working frame."""

    field: torch.Tensor
    grid: Grid
    iterations: tuple[int, ...] = ()

    def similarity(self, pair: Working) -> float:
        """Of the pair, with the moving image seen through this deformation."""
        return pair.similarity(resample(self.field, self.grid, pair.grid))


def itk_reading(fixed: Frame, base: Transform) -> torch.Tensor | None:
    """What ITK's Jacobian filter makes of an axis-flipped or oblique fixed grid, so that it reports no folds either.

    None where that reading says nothing: it calls the alignment alone a fold, or nearly one (a grid turned by 60
    degrees, and the moving head by as much).
    """
    if not isinstance(base, AffineTransform):
        return None
    direction, affine = np.reshape(fixed.direction, (3, 3)), base.matrix[:3, :3]
    reading = as_itk_sees(direction, affine)
    undeformed = float(np.linalg.det(reading.numpy()))
    sound = abs(undeformed) > LEAST_ITK_JACOBIAN and undeformed * np.linalg.det(affine) * np.linalg.det(direction) > 0
    return reading if sound else None


def settled(deformation: DisplacementTransform, itk_jacobian: torch.Tensor | None) -> DisplacementTransform:
    """A deformation as it is written: zero at the border of its grid, beyond which it is zero, too, and without folds.

    Args:
        deformation: on an isotropic grid with the axes of the patient.
        itk_jacobian: second reading of the Jacobian that may not fold either, see `itk_reading`.
    """
    spacing_mm = deformation.frame.spacing[0]
    field, _ = remove_folds(hold_border(deformation.field / spacing_mm), linear=itk_jacobian)
    return DisplacementTransform(field * spacing_mm, deformation.frame)
