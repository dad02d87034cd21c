"""Where the images of a pair are known, and a field where they are not.

An image is not known where a mask leaves it out (a lesion, say) and beyond its field of view, where that cuts through
the anatomy. There it counts nowhere: not in a correlation, and not in the smoothing that precedes sub-sampling. The
field goes on through what is left out as a membrane does that is held around it; beyond the field of view it fades.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import avg_pool3d, interpolate, pad

from SpikeRegLib.images.boxes import bounding_box, slices_of
from SpikeRegLib.space.displacement import sample
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import Grid, resample

# Beyond the field of view a displacement falls to a third over so many mm at brain scale.
FADE_MM = 20.0
# A mean over less known weight than this is taken from elsewhere.
_LEAST = 1e-3
# A voxel of which less than this share is known was mixed with what is not, and does not count; up to 1 it begins to.
_FROM, _TO = 0.9, 1.0
_SWEEPS, _MOST_SWEEPS = 12, 100  # on the finest grid, and on any


@dataclass(frozen=True)
class Known:
    """Where both images of a pair are known, on the grid of the pair.

    Attributes:
        fixed, moving: [2, D, H, W] in [0, 1]; first what counts, then what lies in the field of view.
    """

    fixed: torch.Tensor
    moving: torch.Tensor

    def to(self, device: str) -> Known:
        """The same on another device."""
        return Known(self.fixed.to(device), self.moving.to(device))

    @property
    def counts(self) -> torch.Tensor:
        """[D, H, W] in [0, 1], how far a voxel counts in comparisons of the pair."""
        return counting(self.fixed[0] * self.moving[0])

    def resampled(self, source: Grid, target: Grid, *, sigma_mm: float = 0.0) -> Known:
        """The same on another grid."""
        return Known(*(resample(part, source, target, sigma_mm=sigma_mm) for part in (self.fixed, self.moving)))

    def continued(self, field: torch.Tensor, spacing_mm: float, *, fade_mm: float = FADE_MM) -> torch.Tensor:
        """`field` [3, D, H, W] on the grid of the pair where both images are known, and its continuation elsewhere."""
        within = self.fixed[1] * self.moving[1] > 0.5
        return continued(field, self.fixed[0] * self.moving[0] > 0.5, within, fade=fade_mm / spacing_mm)

    def seen_through(self, displacement: torch.Tensor) -> Known:
        """The same with the moving image seen through a displacement [3, D, H, W] in voxels of this grid."""
        return replace(self, moving=sample(self.moving, displacement))


def counting(share: torch.Tensor) -> torch.Tensor:
    """How far voxels count of which a share is known."""
    return ((share - _FROM) / (_TO - _FROM)).clamp(0, 1)


def resample_known(
    image: torch.Tensor, known: torch.Tensor, source: Grid, target: Grid, *, sigma_mm: float = 0.0
) -> torch.Tensor:
    """`resample`, but of what is known alone; next to it the values go on, and far from it they are those of `image`.

    Args:
        image: [C, D, H, W] on `source`.
        known: [D, H, W] in [0, 1].
    """
    share = resample(known, source, target, sigma_mm=sigma_mm)
    plain = resample(image, source, target, sigma_mm=sigma_mm)
    mean = resample(image * known, source, target, sigma_mm=sigma_mm) / share.clamp(min=_LEAST)
    return torch.where(share > _LEAST, mean, plain)


def extrapolated(image: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """[D, H, W] with the values of the known voxels gone on into the next ones, so that what lies between is sound."""
    share = gaussian(known, 1.0)
    mean = gaussian(image * known, 1.0) / share.clamp(min=_LEAST)
    return torch.where((known < 0.99) & (share > _LEAST), mean, image)


def continued(
    field: torch.Tensor, known: torch.Tensor, within: torch.Tensor, *, fade: float, sweeps: int = _SWEEPS
) -> torch.Tensor:
    """A field that is kept where it is known and goes on smoothly where it is not.

    The continuation solves Laplace's equation; outside the field of view with a term that draws it to zero. It is found
    from coarse grids to fine ones.

    Args:
        field: [C, D, H, W].
        known: [D, H, W] bool, where it is kept.
        within: [D, H, W] bool, the field of view.
        fade: distance in voxels over which the field falls to a third outside of it.
        sweeps: of the relaxation on each grid.
    """
    if bool(known.all()):
        return field
    if not bool(known.any()):
        return torch.zeros_like(field)
    kept = known.to(field.dtype)
    guess: torch.Tensor | None = None
    if min(known.shape) >= 8:
        share = _halved(kept)
        mean = _halved(field * kept) / share.clamp(min=_LEAST)
        coarse = continued(
            mean,
            share > 0.1,
            _halved(within.to(field.dtype)) > 0.5,
            fade=fade / 2,
            sweeps=min(2 * sweeps, _MOST_SWEEPS),
        )
        size = [2 * n for n in coarse.shape[1:]]
        guess = interpolate(coarse[None], size=size, mode="trilinear", align_corners=False)[0]
        guess = guess[:, : known.shape[0], : known.shape[1], : known.shape[2]]
    else:
        guess = (field * kept).sum((1, 2, 3), keepdim=True) / kept.sum() * torch.ones_like(field)
        sweeps = 4 * max(known.shape)
    result = torch.where(known, field, guess)
    z, y, x = _around(~known)
    inner, fixed = result[:, z, y, x], known[z, y, x]
    drawn = torch.where(within[z, y, x], 0.0, 1 / fade**2)
    for _ in range(sweeps):
        around = pad(inner[None], (1,) * 6, mode="replicate")[0]
        total = sum(
            around.narrow(axis, at, inner.shape[axis])
            .narrow(other, 1, inner.shape[other])
            .narrow(third, 1, inner.shape[third])
            for axis, other, third in ((1, 2, 3), (2, 1, 3), (3, 1, 2))
            for at in (0, 2)
        )
        inner = torch.where(fixed, inner, total / (6 + drawn))
    result[:, z, y, x] = inner
    return result


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Means over blocks of two voxels along each axis; the last one of an odd axis is taken twice."""
    odd = [n % 2 for n in x.shape[-3:]]
    volume = pad(x.reshape(1, -1, *x.shape[-3:]), (0, odd[2], 0, odd[1], 0, odd[0]), mode="replicate")
    return avg_pool3d(volume, 2).reshape(*x.shape[:-3], *(n // 2 for n in volume.shape[-3:]))


def _around(where: torch.Tensor) -> tuple[slice, slice, slice]:
    """The box of the true voxels and one voxel around it."""
    box = bounding_box(where)
    assert box is not None
    return slices_of([max(0, index - 1) for index in box[0]], [index + 1 for index in box[1]])
