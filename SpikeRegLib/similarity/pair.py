"""The pair on the grid on which everything after alignment happens, and deformations of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.losses import lncc
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.folds import as_itk_sees, remove_folds
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.known import FADE_MM, Known, counting, extrapolated, resample_known
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform

# ITK's reading of the undeformed Jacobian below which keeping it positive would forbid ordinary deformations.
LEAST_ITK_JACOBIAN = 0.25


@dataclass(frozen=True)
class Pair:
    """The pair on a world-aligned isotropic grid, moving aligned; images in [0, 1], mask bool, all [D, H, W].

    `comparison` says what of the two images is compared, `known` where they are known (None: everywhere), `fade_mm`
    over how many mm a deformation fades outside of the field of view.
    """

    frame: Frame
    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor
    comparison: Comparison
    known: Known | None = None
    fade_mm: float = FADE_MM

    @property
    def grid(self) -> Grid:
        return Grid(self.frame.shape, self.frame.spacing[0])

    def frame_of(self, grid: Grid) -> Frame:
        """Where a grid that starts at the first voxel of this one lies in the patient."""
        return replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)

    def to(self, device: str) -> Pair:
        """The same pair on another device."""
        return replace(
            self,
            fixed=self.fixed.to(device),
            moving=self.moving.to(device),
            mask=self.mask.to(device),
            comparison=self.comparison.to(device),
            known=None if self.known is None else self.known.to(device),
        )

    def coarser(self, spacing_mm: float) -> Pair:
        """The same pair at a larger voxel size, smoothed as far as the larger voxels need."""
        if spacing_mm <= self.frame.spacing[0]:
            return self
        grid = self.grid.coarser(spacing_mm)
        fixed, moving, mask = (
            resample(image, self.grid, grid, sigma_mm=0.35 * spacing_mm)
            for image in (self.fixed, self.moving, self.mask.float())
        )
        coarse = Pair(self.frame_of(grid), fixed, moving, mask > 0.5, self.comparison, fade_mm=self.fade_mm)
        if self.known is None:
            return coarse
        known = self.known.resampled(self.grid, grid, sigma_mm=0.35 * spacing_mm)
        fixed, moving = (
            extrapolated(resample_known(image[None], part[0], self.grid, grid, sigma_mm=0.35 * spacing_mm)[0], share[0])
            for image, part, share in (
                (self.fixed, self.known.fixed, known.fixed),
                (self.moving, self.known.moving, known.moving),
            )
        )
        return replace(coarse, fixed=fixed, moving=moving, known=known)

    def seen_through(self, displacement: torch.Tensor) -> Pair:
        """The same pair with the moving image, and what is known of it, warped.

        Args:
            displacement: [3, D, H, W] in voxels of this grid.
        """
        moving = warp(self.moving[None, None], displacement[None])[0, 0]
        return replace(self, moving=moving, known=None if self.known is None else self.known.seen_through(displacement))

    def continued(self, displacement: torch.Tensor) -> torch.Tensor:
        """A displacement [3, D, H, W] in voxels of this grid; where the images are not known as it is around there."""
        if self.known is None:
            return displacement
        known = self.known.seen_through(displacement)
        return known.continued(displacement, self.frame.spacing[0], fade_mm=self.fade_mm)

    def filled(self, fixed: torch.Tensor, moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both images, each with the other one where it is not known: what a network finds nothing to align in.

        Args:
            fixed, moving: [D, H, W] of this pair, in one contrast.
        """
        if self.known is None:
            return fixed, moving
        shares = counting(self.known.fixed[0]), counting(self.known.moving[0])
        return torch.lerp(moving, fixed, shares[0]), torch.lerp(fixed, moving, shares[1])

    def similarity(self, displacement: torch.Tensor | None = None) -> float:
        """Mean local correlation inside the mask, of what is compared and known.

        Args:
            displacement: [3, D, H, W] mm on this grid, for the moving image.
        """
        fixed, seen = self.comparison.of_fixed(self.fixed), self.comparison.of_moving(self.moving)
        known = self.known
        if displacement is not None:
            voxels = self.grid.to_voxels(displacement)
            seen = warp(seen[None], voxels[None])[0]
            known = None if known is None else known.seen_through(voxels)
        counts = None if known is None else known.counts
        return fmean(float(lncc(f, m, mask=self.mask, known=counts)) for f, m in zip(fixed, seen, strict=True))

    def known_percent(self, displacement: torch.Tensor) -> float:
        """How much of the mask is known in both images, the moving one seen through a displacement [3, D, H, W] mm."""
        if self.known is None:
            return 100.0
        counts = self.known.seen_through(self.grid.to_voxels(displacement)).counts
        return 100 * float(counts[self.mask].mean())


@dataclass(frozen=True)
class Deformation:
    """A displacement field [3, D, H, W] in mm on a grid that starts at the first voxel of the working frame."""

    field: torch.Tensor
    grid: Grid
    iterations: tuple[int, ...] = ()

    def similarity(self, pair: Pair) -> float:
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
