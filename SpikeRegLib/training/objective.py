"""What a registration network is trained for: alike images and labels, a smooth field, few synaptic operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.similarity.losses import diffusion, lncc, soft_dice
from SpikeRegLib.space.fields import compose, exponential, warp
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.spiking.activity import OperationCount
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.synthetic import SyntheticPair

# Voxels along an axis by which `echo` shifts a pair, and pairs of voxels where its labels go along.
MOST_SHIFTED = 7
MOST_SHIFTED_PAIRS = 3


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
        head_share: share of a whole image's voxels in and around the head. Crops hold more of it, and a network that
            learns from them alone fires in the empty rest; with this, operations of the head and of the rest count in
            the proportion of a whole image. 0: as in the pair.
        teacher: of the distance to the velocity of the dense teacher, in voxels of the head's grid.
        echo_dice: of the label overlap where a pair is seen once more (see `echo`); for networks whose head lies on the
            grid of the labels, twice the spacing of the images.
    """

    window: int = 9
    smoothness: float = 1.0
    dice: float = 0.5
    operations: float = 0.0
    operations_target: float = 0.0
    head_share: float = 0.0
    teacher: float = 0.0
    echo_dice: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)


def first_pass(network: RegistrationUNet, pair: SyntheticPair, precision: Precision) -> torch.Tensor:
    """The displacement of an earlier pass of the iterative policy, without gradient, in voxels."""
    training = network.training
    network.eval()
    with torch.no_grad(), precision.autocast():
        displacement = network.displacement(torch.cat((pair.fixed, pair.moving), 1))
    network.train(training)
    return displacement


def importance(images: torch.Tensor, head_share: float) -> torch.Tensor | None:
    """[1, 1, D, H, W] factors that give the voxels in and around the head their share of a whole image."""
    if head_share == 0:
        return None
    # "Around" is what the first layers see of the head: eight voxels.
    head = (images > FOREGROUND).any(1, keepdim=True).float()
    for axis in range(3):  # the largest of a cube, axis by axis
        size = [9 if axis == other else 1 for other in range(3)]
        head = functional.max_pool3d(head, size, stride=1, padding=[n // 2 for n in size])
    here = head.mean().clamp(0.01, 0.99)
    return torch.where(head > 0, head_share / here, (1 - head_share) / (1 - here))


def objective(
    network: RegistrationUNet,
    pair: SyntheticPair,
    weights: ObjectiveWeights,
    *,
    precision: Precision,
    earlier: torch.Tensor | None = None,
    teacher: RegistrationUNet | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one pair and its terms for the log.

    Args:
        network: trained; predicts in voxels of the pair's grid.
        pair: see `SyntheticPair`.
        precision: of the convolutions.
        earlier: displacement [1, 3, D, H, W] in voxels that an earlier pass found: the network sees the moving image
            warped by it and predicts the rest, which is composed with it, never added.
        teacher: the dense network that `weights.teacher` asks for; its head's grid is the same.
    """
    depth, height, width = pair.fixed.shape[2:]
    shape = (depth, height, width)
    moving = pair.moving if earlier is None else warp(pair.moving, earlier)
    both = torch.cat((pair.fixed, moving), 1)
    counter = None
    if weights.operations > 0:
        counter = OperationCount(network.spec, shape, importance(both, weights.head_share))
    with precision.autocast():
        output = network(both, recorder=counter)
    displacement = network.integrate(output, shape)
    total = displacement if earlier is None else compose(displacement, earlier)
    mask = pair.fixed > FOREGROUND
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
    if teacher is not None and weights.teacher > 0:
        terms["teacher_distance"] = teacher_distance(teacher, both, output, precision)
        loss = loss + weights.teacher * terms["teacher_distance"]
    terms["loss"] = loss
    return loss, _rounded(terms)


def teacher_distance(
    teacher: RegistrationUNet, both: torch.Tensor, output: torch.Tensor, precision: Precision
) -> torch.Tensor:
    """Mean distance of `output` from what the dense teacher gives, inside the fixed head, in voxels of the output."""
    with torch.no_grad(), precision.autocast():
        wanted = teacher(both)
    depth, height, width = output.shape[2:]
    inside = functional.adaptive_avg_pool3d((both[:, :1] > FOREGROUND).float(), (depth, height, width))
    distance = ((output - wanted).square().sum(1, keepdim=True) + 1e-6).sqrt()
    return (distance * inside).sum() / inside.sum().clamp_min(1)


def echo(
    network: RegistrationUNet,
    pair: SyntheticPair,
    weights: ObjectiveWeights,
    *,
    precision: Precision,
    teacher: RegistrationUNet | None,
    seed: int,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a pair seen once more, by the distance to the teacher, the operations and at most the label overlap;
    without a teacher the smoothness counts in place of that distance.

    No pair is drawn and no image warped or compared, which is most of the cost of `objective`: the pair is exchanged,
    mirrored and shifted at random and both networks see it (data echoing, Choi et al. 2019).

    Args:
        network, pair, weights, precision, teacher: as for `objective`.
        seed: of the choice of what is done to the pair.
    """
    stream = Stream(seed, str(pair.fixed.device))
    labelled = weights.echo_dice > 0
    images, shares = [pair.fixed, pair.moving], [pair.fixed_shares, pair.moving_shares]
    if stream.happens(0.5):
        images.reverse()
        shares.reverse()
    mirrored = stream.happens(0.5)
    # Strides fall on other voxels: all places within a voxel of the coarsest grid, 16 of the image's, but one; with
    # labels, whose voxels are two of the image's, half of them.
    most, unit = (MOST_SHIFTED_PAIRS, 2) if labelled else (MOST_SHIFTED, 1)
    shifts = [stream.integer(2 * most + 1) - most for _ in range(3)]
    both = _moved(torch.cat(images, 1), mirrored, [unit * shift for shift in shifts])
    depth, height, width = both.shape[2:]
    counter = OperationCount(network.spec, (depth, height, width), importance(both, weights.head_share))
    with precision.autocast():
        output = network(both, recorder=counter)
    share = counter.share_of_dense()
    terms = {"operations_share": share}
    loss = weights.operations * (share - weights.operations_target).clamp_min(0)
    if teacher is not None:
        terms["teacher_distance"] = teacher_distance(teacher, both, output, precision)
        loss = loss + weights.teacher * terms["teacher_distance"]
    else:
        terms["diffusion"] = diffusion(output, 1.0)
        loss = loss + weights.smoothness * terms["diffusion"]
    if labelled:
        fixed, moving = (_moved(labels, mirrored, shifts) for labels in shares)
        step = at_labels(output)
        if network.spec.output == "velocity":
            step = exponential(step)
        terms["dice"] = soft_dice(fixed, warp(moving, step))
        loss = loss + weights.echo_dice * (1 - terms["dice"])
    return loss, _rounded({**terms, "loss": loss})


def _moved(volume: torch.Tensor, mirrored: bool, shifts: list[int]) -> torch.Tensor:
    """[1, C, D, H, W], mirrored along its last axis and shifted along (W, H, D), zeros moving in."""
    volume = volume.flip(-1) if mirrored else volume
    return functional.pad(volume, [part for shift in shifts for part in (shift, -shift)])


def at_labels(field: torch.Tensor) -> torch.Tensor:
    """[1, 3, d, h, w] at the voxels of the labels: these average two of the image's, the field lies on the first."""
    for axis in (2, 3, 4):
        after = torch.cat((field.narrow(axis, 1, field.shape[axis] - 1), field.narrow(axis, -1, 1)), axis)
        field = torch.lerp(field, after, 0.25)
    return field


def _rounded(terms: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: round(float(value.detach()), 5) for name, value in terms.items()}
