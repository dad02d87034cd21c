"""Crops for the fine pass: the same heads as at 2 mm, in the right place, brought together by the coarse pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_synthetic import STILL
from tiny_heads import head
from torch import nn

from SpikeRegLib.anatomy.structures import LABELS
from SpikeRegLib.similarity.losses import lncc, soft_dice
from SpikeRegLib.spiking.intensity import standardise
from SpikeRegLib.training.appearance import SyntheticOptions
from SpikeRegLib.training.crops import CropGenerator
from SpikeRegLib.training.synthetic import DICE_LABELS

SHAPE = (32, 40, 32)


class Shift(nn.Module):
    """A coarse pass that finds the same displacement everywhere, in 2 mm voxels (x, y, z)."""

    def __init__(self, *voxels: float) -> None:
        super().__init__()
        self.voxels = voxels

    def displacement(self, image: torch.Tensor) -> torch.Tensor:
        field = torch.zeros(1, 3, *image.shape[2:])
        return field + torch.tensor(self.voxels).view(1, 3, 1, 1, 1)


@pytest.fixture(scope="module")
def heads() -> list:
    return [head("one"), head("two", size=0.9)]


def crops(
    heads: list, options: SyntheticOptions = STILL, shift: tuple[float, float, float] = (0, 0, 0), **more
) -> CropGenerator:
    return CropGenerator(heads, Shift(*shift), options=options, seed=7, shape=SHAPE, **more)  # type: ignore[arg-type]


def test_a_pair_depends_on_seed_and_step_alone(heads: list) -> None:
    options = SyntheticOptions(lesions=0.5, cut=0.5, atrophy_mm=2.0, cross_contrast=0.5)
    in_order = [crops(heads, options).pair(step) for step in range(4)]
    other = crops(heads, options)
    for step in (3, 0, 2, 1):
        pair = other.pair(step)
        for name in ("fixed", "moving", "fixed_shares", "moving_shares", "reference"):
            first, second = getattr(pair, name), getattr(in_order[step], name)
            assert (first is None and second is None) or torch.equal(first, second)


def test_undeformed_labels_are_those_of_the_whole_head(heads: list) -> None:
    generator = crops(heads)
    found = generator._found(0)
    for corner in ((0, 0, 0), (9, 5, 12)):
        _, labels = generator._intensity(found.fixed, found.fixed.displacement, found.fixed.means, corner)
        fine = heads[found.fixed.head].fine_labels
        d, h, w = (2 * c for c in corner)
        assert torch.equal(labels, fine[d : d + SHAPE[0], h : h + SHAPE[1], w : w + SHAPE[2]])


def test_soft_labels_are_the_shares_of_the_whole_head(heads: list) -> None:
    generator = crops(heads)
    found = generator._found(0)
    if found.mirrored:
        pytest.fail("choose a step that is not mirrored")
    shares = generator.pair(0).fixed_shares[0]
    whole = heads[found.fixed.head].shares[list(DICE_LABELS)].float() / 8
    best = min(
        float((whole[:, d : d + 16, h : h + 20, w : w + 16] - shares).abs().max())
        for d in range(whole.shape[1] - 15)
        for h in range(whole.shape[2] - 19)
        for w in range(whole.shape[3] - 15)
    )
    assert best == 0


def test_the_coarse_pass_is_applied_from_fixed_to_moving(heads: list) -> None:
    """Where the coarse pass says u, the crop shows the moving head at x + u."""
    still, moved = crops(heads), crops(heads, shift=(2.0, 0.0, -1.0))
    corner = (4, 4, 4)
    images = []
    for generator, place in ((still, (3, 4, 6)), (moved, corner)):
        found = generator._found(0)
        images.append(generator._intensity(found.moving, found.to_moving, found.moving.means, place)[0])
    assert float((images[0] - images[1]).abs().max()) < 1e-4


def test_a_head_with_itself_is_aligned_and_with_another_is_not(heads: list) -> None:
    same = crops(heads, dataclasses.replace(STILL, same_head=1.0)).pair(0)
    two = crops(heads).pair(0)
    assert float(soft_dice(same.fixed_shares, same.moving_shares)) == pytest.approx(1, abs=1e-5)
    assert float(soft_dice(two.fixed_shares, two.moving_shares)) < 0.95
    inside = same.fixed > 0.3
    assert float(lncc(same.fixed, same.moving, window=5, mask=inside)) > float(
        lncc(two.fixed, two.moving, window=5, mask=inside)
    )


def test_intensities_are_those_of_the_standardised_whole_image(heads: list) -> None:
    options = dataclasses.replace(STILL, bias=0.0, texture=0.0, noise=0.01, thick_slices=0.0)
    generator = CropGenerator(heads, Shift(0, 0, 0), options=options, seed=7, shape=(64, 72, 64), crops_per_pair=1)  # type: ignore[arg-type]
    crop = generator.pair(0).fixed
    whole = standardise(generator._found(0).fixed.image[None, None])
    values = [x[x > 0.02] for x in (crop, whole)]
    assert float(values[0].median()) == pytest.approx(float(values[1].median()), abs=0.03)
    assert len(LABELS) > 0 and crop.shape[2:] == (64, 72, 64)


def test_two_crops_share_their_heads_and_not_their_place(heads: list) -> None:
    generator = crops(heads)
    first, second, third = (generator.pair(step) for step in range(3))
    assert not torch.equal(first.fixed, second.fixed)
    assert generator._last is not None and generator._last[0] == 1
    assert not torch.equal(second.fixed, third.fixed)
