"""What a registration network is trained for: alike images and labels, a smooth field, few synaptic operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.fields import compose, warp
from SpikeRegLib.losses import diffusion, lncc, soft_dice
from SpikeRegLib.precision import Precision
from SpikeRegLib.spiking.activity import OperationCount
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.training.synthetic import SyntheticPair


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the terms; similarity has weight one.

    Attributes:
        window: edge of the LNCC window in voxels.
        smoothness: of the diffusion of the head's field, in mm per mm.
        dice: of the soft label overlap. The paper reports that a teacher trained with labels did not survive its
            conversion; with the function-preserving conversion here it does (see the model card).
        operations: of the synaptic operations as a share of the dense multiply-accumulates (spiking networks only).
        operations_target: share below which operations cost nothing.
    """

    window: int = 9
    smoothness: float = 1.0
    dice: float = 0.5
    operations: float = 0.0
    operations_target: float = 0.0


def first_pass(network: RegistrationUNet, pair: SyntheticPair, precision: Precision) -> torch.Tensor:
    """The displacement of an earlier pass of the iterative policy, without gradient, in voxels."""
    training = network.training
    network.eval()
    with torch.no_grad(), precision.autocast():
        displacement = network.displacement(torch.cat((pair.fixed, pair.moving), 1))
    network.train(training)
    return displacement


def objective(
    network: RegistrationUNet,
    pair: SyntheticPair,
    weights: ObjectiveWeights,
    *,
    precision: Precision,
    earlier: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one pair and its terms for the log.

    Args:
        network: trained; predicts in voxels of the pair's grid.
        pair: see `SyntheticPair`.
        precision: of the convolutions.
        earlier: displacement [1, 3, D, H, W] in voxels that an earlier pass found: the network sees the moving image
            warped by it and predicts the rest, which is composed with it, never added.
    """
    depth, height, width = pair.fixed.shape[2:]
    shape = (depth, height, width)
    moving = pair.moving if earlier is None else warp(pair.moving, earlier)
    counter = OperationCount(network.spec, shape) if weights.operations > 0 else None
    with precision.autocast():
        output = network(torch.cat((pair.fixed, moving), 1), recorder=counter)
    displacement = network.integrate(output, shape)
    total = displacement if earlier is None else compose(displacement, earlier)
    mask = pair.fixed > 0.02
    compared = pair.moving if pair.reference is None else pair.reference
    similarity = lncc(pair.fixed, warp(compared, total), window=weights.window, mask=mask)
    smoothness = diffusion(output, 1.0)
    loss = weights.smoothness * smoothness - similarity
    terms = {"lncc": similarity, "diffusion": smoothness}
    if weights.dice > 0:
        half = functional.avg_pool3d(total, 2) / 2
        terms["dice"] = soft_dice(pair.fixed_shares, warp(pair.moving_shares, half))
        loss = loss + weights.dice * (1 - terms["dice"])
    if counter is not None:
        share = counter.share_of_dense()
        terms["operations_share"] = share
        loss = loss + weights.operations * (share - weights.operations_target).clamp_min(0)
    terms["loss"] = loss
    return loss, {name: round(float(value.detach()), 5) for name, value in terms.items()}
