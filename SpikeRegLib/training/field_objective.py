"""What a neural deformation field is trained for: alike images and labels at random points, in both directions, and
maps that are inverses of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.consistency import inverse_consistency
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.similarity.losses import lncc_map, soft_dice
from SpikeRegLib.space.fields import values_at
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.spiking.activity import OperationCount
from SpikeRegLib.spiking.unet import SpikingUNet
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.subjects import SPACING_MM
from SpikeRegLib.training.synthetic import SyntheticPair

# Points decoded together while training.
POINTS_AT_ONCE = 8192


@dataclass(frozen=True)
class FieldWeights:
    """Weights of the terms and how points are drawn; similarity has weight one.

    Points are drawn as small cubes of voxels, so that a local correlation can be measured among them, exactly as on a
    whole image but for the cubes' faces.

    Attributes:
        cubes: drawn in each direction, their centres in the head.
        cube: edge of one, in voxels.
        window: edge of the LNCC window in voxels.
        dice: of the soft label overlap.
        consistency: of the gradient inverse consistency, see `neural_field.consistency`.
        consistency_points: where it is measured.
        smoothness: of the mean squared forward differences of the displacement, mm per mm.
        code: of the mean square of the codes.
        operations, operations_target: see `ObjectiveWeights`.
    """

    cubes: int = 12
    cube: int = 16
    window: int = 9
    dice: float = 0.5
    consistency: float = 10.0
    consistency_points: int = 500
    smoothness: float = 0.0
    code: float = 0.01
    operations: float = 0.0
    operations_target: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class _Cubes:
    """Points of a grid in B cubes: `first` [B, 3] is the index (z, y, x) of each one's first voxel."""

    first: torch.Tensor
    edge: int

    def position(self) -> torch.Tensor:
        """[B * edge^3, 3] positions (x, y, z) in voxels."""
        steps = torch.arange(self.edge, device=self.first.device)
        z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
        inside = torch.stack((x, y, z), -1).reshape(1, -1, 3)
        return (self.first.flip(1)[:, None] + inside).reshape(-1, 3).float()

    def volume(self, values: torch.Tensor) -> torch.Tensor:
        """[N, C] values as [B, C, edge, edge, edge]."""
        return values.reshape(len(self.first), self.edge, self.edge, self.edge, -1).movedim(-1, 1)


def _draw(head: torch.Tensor, weights: FieldWeights, random: torch.Generator) -> _Cubes:
    """Cubes whose centres lie in `head` [D, H, W] bool."""
    shape = torch.tensor(head.shape)
    edge = min(weights.cube, int(shape.min()))
    inside = head.nonzero()
    chosen = inside[torch.randint(max(1, len(inside)), (weights.cubes,), generator=random)]
    return _Cubes((chosen - edge // 2).clamp_min(0).minimum(shape - edge), edge)


def field_objective(
    network: FieldNetwork, pair: SyntheticPair, weights: FieldWeights, *, precision: Precision, seed: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one pair and its terms for the log.

    Args:
        network: trained.
        pair: see `SyntheticPair`; both contrasts alike.
        precision: of the encoder's convolutions; the decoders compute in float32.
        seed: of the points.
    """
    image = torch.cat((pair.fixed, pair.moving), 1)
    depth, height, width = image.shape[2:]
    counter = None
    if weights.operations > 0 and isinstance(network.encoder, SpikingUNet):
        counter = OperationCount(network.encoder.spec, (depth, height, width))
    with precision.autocast():
        codes = network.encode(image, spacing_mm=SPACING_MM, recorder=counter)
    codes = Codes(codes.overall.float(), codes.local.float(), codes.grid, codes.centre_mm)
    random = torch.Generator().manual_seed(seed)
    sides = ((pair.fixed, pair.moving, pair.fixed_shares, pair.moving_shares),
             (pair.moving, pair.fixed, pair.moving_shares, pair.fixed_shares))  # fmt: skip
    terms: dict[str, torch.Tensor] = {}
    parts = [_one_way(network, codes, weights, *sides[number], inverse=number == 1, random=random) for number in (0, 1)]
    for name in parts[0]:
        terms[name] = (parts[0][name] + parts[1][name]) / 2
    loss = weights.dice * (1 - terms["dice"]) + weights.smoothness * terms["diffusion"] - terms["lncc"]
    if weights.consistency > 0:
        head = (pair.fixed[0, 0] > FOREGROUND).nonzero()
        chosen = head[torch.randint(max(1, len(head)), (weights.consistency_points,), generator=random)]
        position = (chosen.flip(1) + torch.rand(len(chosen), 3, generator=random) - 0.5) * SPACING_MM
        terms["consistency"] = inverse_consistency(
            lambda x: x + network.decoders.displacement(codes, x),
            lambda x: x + network.decoders.displacement(codes, x, inverse=True),
            position,
        )
        loss = loss + weights.consistency * terms["consistency"]
    terms["code"] = (codes.local.square().mean() + codes.overall.square().mean()) / 2
    loss = loss + weights.code * terms["code"]
    if counter is not None:
        terms["operations_share"] = counter.share_of_dense()
        loss = loss + weights.operations * (terms["operations_share"] - weights.operations_target).clamp_min(0)
    terms["loss"] = loss
    return loss, {name: round(float(value.detach()), 5) for name, value in terms.items()}


def _displacement(network: FieldNetwork, codes: Codes, position: torch.Tensor, *, inverse: bool) -> torch.Tensor:
    """[N, 3] mm, decoded again in the backward pass: what a few points need is all the memory the decoders take."""
    parts = [
        checkpoint(network.decoders.displacement, codes, part, inverse=inverse, use_reentrant=False)
        for part in position.split(POINTS_AT_ONCE)
    ]
    return torch.cat(parts)


def _one_way(
    network: FieldNetwork, codes: Codes, weights: FieldWeights, fixed: torch.Tensor, moving: torch.Tensor,
    fixed_shares: torch.Tensor, moving_shares: torch.Tensor, *, inverse: bool, random: torch.Generator,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Similarity, overlap and diffusion of one direction, at cubes of points of its fixed image."""
    cubes = _draw(fixed[0, 0] > FOREGROUND, weights, random)
    position = cubes.position()
    moved = _displacement(network, codes, position * SPACING_MM, inverse=inverse)
    target = position + moved / SPACING_MM
    seen = cubes.volume(values_at(fixed[0], position))
    found = cubes.volume(values_at(moving[0], target))
    similarity = lncc_map(seen, found, window=weights.window)
    # Windows that reach over a face see zeros there, in both images alike: they would count faces as agreement.
    reach = min(weights.window // 2, cubes.edge // 2 - 1)
    core = (..., *(slice(reach, cubes.edge - reach),) * 3)
    mask = (seen > FOREGROUND)[core]
    every_other = (..., *(slice(None, None, 2),) * 3)
    half = [cubes.volume(p)[every_other].movedim(1, -1).reshape(-1, 3) for p in (position, target)]
    # Shares lie on pairs of voxels: their voxel n is at 2 n + 1/2.
    labels = [values_at(s[0], (p - 0.5) / 2) for s, p in zip((fixed_shares, moving_shares), half, strict=True)]
    field = cubes.volume(moved)
    return {
        "lncc": (similarity[core] * mask).sum() / mask.sum().clamp_min(1),
        "dice": soft_dice(*(values.t()[None, :, None, None] for values in labels)),
        "diffusion": sum(torch.diff(field, dim=axis).square().mean() for axis in (2, 3, 4)) / SPACING_MM**2,  # type: ignore[dict-item]
    }
