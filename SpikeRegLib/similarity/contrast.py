"""What images of one or two contrasts are compared by: themselves, and each as it would look in the other's contrast.

Squared local correlation ignores inverted contrast, but not one that is no straight line: T1 and T2 agree in the order
background, cortex and disagree in the order white matter, fluid. So each image is also shown in the other's contrast,
by the mean intensity that the other one has where this one has a given intensity (the regression behind the correlation
ratio of Roche et al., 1998). Both directions are used: of two tissues that look alike in one image, the other still
tells them apart. The curves need the pair to be aligned roughly; an affine alignment is enough for one brain. Between
two it leaves them blurred, so the images are compared as they are as well: the mean of three correlations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.space.filters import FOREGROUND

MEASURES = {"lncc": "lncc", "multicontrast": "contrast-matched lncc"}
# Knots of an intensity curve over [0, 1], and the Gaussian that smooths it, in knots: enough for bends between tissues,
# too few to follow noise.
_KNOTS, _SMOOTHING = 48, 1.5
# Scaled intensity below which the curves fade to 0, so background remains background.
_FADE = 0.05


@dataclass(frozen=True)
class Comparison:
    """How a pair is compared.

    Attributes:
        measure: name of the similarity, as in the result: "lncc", or "contrast-matched lncc".
        fixed_as_moving: [knots] intensity curve that gives the fixed image the contrast of the moving one; None: leave.
        moving_as_fixed: [knots] the other way round.
    """

    measure: str = MEASURES["lncc"]
    fixed_as_moving: torch.Tensor | None = None
    moving_as_fixed: torch.Tensor | None = None

    @property
    def views(self) -> int:
        """How many pairs `in_one_contrast` gives."""
        return 1 if self.fixed_as_moving is None else 2

    def to(self, device: str) -> Comparison:
        """The same with the curves on another device."""
        if self.fixed_as_moving is None or self.moving_as_fixed is None:
            return self
        return replace(
            self, fixed_as_moving=self.fixed_as_moving.to(device), moving_as_fixed=self.moving_as_fixed.to(device)
        )

    def of_fixed(self, image: torch.Tensor) -> torch.Tensor:
        """[C, D, H, W] of the fixed image [D, H, W]: as it is, and if contrasts differ also in the moving one's."""
        if self.fixed_as_moving is None:
            return image[None]
        return torch.stack((image, _show(image, self.fixed_as_moving), image))

    def of_moving(self, image: torch.Tensor) -> torch.Tensor:
        """[C, D, H, W] of the moving image, channels to be compared with those of `of_fixed`, one by one."""
        if self.moving_as_fixed is None:
            return image[None]
        return torch.stack((_show(image, self.moving_as_fixed), image, image))

    def in_one_contrast(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The pairs (fixed, moving) that a network can read, [D, H, W] each: the pair as it is, or if contrasts differ
        both images in the contrast of the fixed one, and both in that of the moving one."""
        if self.fixed_as_moving is None or self.moving_as_fixed is None:
            return [(fixed, moving)]
        return [(fixed, _show(moving, self.moving_as_fixed)), (_show(fixed, self.fixed_as_moving), moving)]


def compare_by(similarity: str, fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor) -> Comparison:
    """The comparison a preset asks for, fitted to a pair that is roughly aligned.

    Args:
        similarity: "lncc" (one contrast) or "multicontrast".
        fixed, moving: [D, H, W] in [0, 1] on one grid, background 0.
        mask: [D, H, W] bool, the voxels to learn from.

    Raises:
        InputError: another `similarity`.
    """
    if similarity not in MEASURES:
        raise InputError(f"similarity: unknown {similarity!r}; choose one of {', '.join(MEASURES)}")
    there = mask & (fixed > FOREGROUND) & (moving > FOREGROUND)
    if similarity == "lncc" or not bool(there.any()):
        return Comparison(MEASURES[similarity])
    f, m = fixed[there], moving[there]
    return Comparison(MEASURES[similarity], _curve(f, m), _curve(m, f))


def _curve(seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[knots] mean of `wanted` where `seen` has the intensity of the knot; both [N] in [0, 1]."""
    knot = (seen * _KNOTS).long().clamp(0, _KNOTS - 1)
    index = torch.arange(_KNOTS, dtype=torch.float64, device=seen.device)
    smooth = torch.exp(-0.5 * ((index[:, None] - index) / _SMOOTHING) ** 2)
    # A trace of far knots fills intensities that do not occur.
    smooth = smooth + 1e-9 / (1 + (index[:, None] - index).abs())
    count = torch.bincount(knot, minlength=_KNOTS).double()
    total = torch.bincount(knot, weights=wanted.double(), minlength=_KNOTS)
    return ((smooth @ total) / (smooth @ count)).float()


def _show(image: torch.Tensor, curve: torch.Tensor) -> torch.Tensor:
    """`image` with its intensities replaced by those of `curve`, linearly between the knots."""
    position = (image * _KNOTS - 0.5).clamp(0, _KNOTS - 1.001)
    below = position.long()
    value = torch.lerp(curve[below], curve[below + 1], position - below)
    return value * (image / _FADE).clamp(0, 1)
