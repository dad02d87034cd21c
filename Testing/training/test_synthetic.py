"""Synthetic pairs: a function of (seed, step) alone, in range, symmetric, with labels that move with the image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_heads import SHAPE, head

from SpikeRegLib.anatomy.structures import CSF, LABELS, MIRRORED
from SpikeRegLib.similarity.losses import lncc, soft_dice
from SpikeRegLib.training.appearance import SyntheticOptions, contrast, other_contrast
from SpikeRegLib.training.stream import Stream
from SpikeRegLib.training.subjects import SPACING_MM, _signed_distance
from SpikeRegLib.training.synthetic import DICE_LABELS, PairGenerator, SyntheticPair, fluid_share

STILL = SyntheticOptions(
    random_contrast=0.0, same_head=0.0, rotation_degrees=0.0, scale=0.0, shear=0.0, translation_mm=0.0,
    elastic_mm=0.0, ventricle_mm=0.0, bias=0.0, texture=0.0, noise=0.01, thick_slices=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def heads() -> list:
    return [head("one"), head("two", size=0.9), head("three", size=1.05)]


def equal(one: SyntheticPair, two: SyntheticPair) -> bool:
    fields = [(getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(SyntheticPair)]
    return all(torch.equal(a, b) if a is not None else b is None for a, b in fields)


def test_a_pair_depends_on_seed_and_step_alone(heads: list) -> None:
    generator = PairGenerator(heads, seed=4)
    in_order = [generator.pair(step) for step in range(3)]
    torch.manual_seed(99)
    other = PairGenerator(heads, seed=4)
    for step in (2, 0, 1):
        torch.rand(7)
        assert equal(other.pair(step), in_order[step])
    assert not equal(in_order[0], in_order[1])
    assert not equal(PairGenerator(heads, seed=5).pair(0), in_order[0])


def test_drawing_leaves_the_global_stream_alone(heads: list) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    PairGenerator(heads, seed=4).pair(0)
    assert torch.equal(torch.rand(4), expected)


def test_images_are_in_range_and_labels_are_shares(heads: list) -> None:
    generator = PairGenerator(heads, seed=1, options=SyntheticOptions(random_contrast=0.5, thick_slices=0.5))
    for step in range(6):
        pair = generator.pair(step)
        for image in (pair.fixed, pair.moving):
            assert image.shape == (1, 1, *SHAPE)
            assert image.isfinite().all() and image.min() == 0 and image.max() == 1
            assert 0.05 < (image > 0.02).float().mean() < 0.8
        for share in (pair.fixed_shares, pair.moving_shares):
            assert share.shape == (1, len(DICE_LABELS), *(n // 2 for n in SHAPE))
            assert share.min() >= 0 and share.sum(1).max() <= 1 + 1e-5


def test_the_two_images_of_a_pair_share_their_contrast_but_not_their_anatomy(heads: list) -> None:
    generator = PairGenerator(heads, seed=2, options=dataclasses.replace(STILL, random_contrast=1.0))
    pair = generator.pair(0)
    values = []
    for image, share in ((pair.fixed, pair.fixed_shares), (pair.moving, pair.moving_shares)):
        pure = share[0] * (share[0] > 0.7)
        coarse = torch.nn.functional.avg_pool3d(image, 2)[0, 0]
        values.append((coarse * pure).sum((1, 2, 3)) / pure.sum((1, 2, 3)))
    present = values[0].isfinite() & values[1].isfinite()
    assert present.sum() > 20
    assert torch.corrcoef(torch.stack(values)[:, present])[0, 1] > 0.9
    assert soft_dice(pair.fixed_shares, pair.moving_shares) < 0.95


@pytest.mark.parametrize("random_contrast", [0.0, 1.0])
def test_contrast_is_the_same_left_and_right(random_contrast: float, heads: list) -> None:
    generator = PairGenerator(heads, seed=6, options=dataclasses.replace(STILL, random_contrast=random_contrast))
    stream = Stream(1)
    for _ in range(5):
        means = dict(zip(LABELS, contrast(stream, random_contrast).tolist(), strict=True))
        assert all(means[left] == means[right] for left, right in MIRRORED.items())
        assert len({means[left] for left in MIRRORED}) > 10
    # In the image too, up to the 2 % by which every structure of every head varies.
    image, half = generator.pair(3).fixed[0, 0], SHAPE[2] // 2
    sides = image[..., :half], image[..., half:].flip(-1)
    both = (sides[0] > 0.05) & (sides[1] > 0.05)
    assert float((sides[0] - sides[1])[both].abs().median()) < 0.05
    assert float(sides[0][both].std()) > 0.05


def test_a_head_paired_with_itself_and_not_deformed_is_aligned(heads: list) -> None:
    """Both images go through the same means and different noise; with two heads they do not agree."""
    same = PairGenerator(heads, seed=3, options=dataclasses.replace(STILL, same_head=1.0)).pair(1)
    assert soft_dice(same.fixed_shares, same.moving_shares) == pytest.approx(1, abs=1e-5)
    # The CSF left on by skull stripping differs; inside the brain the images agree.
    brain = same.fixed_shares.sum(1, keepdim=True) > 0.99
    inside = brain.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    two = PairGenerator(heads, seed=3, options=STILL).pair(1)
    assert float(lncc(same.fixed, same.moving, window=5, mask=inside)) > 0.8
    assert float(lncc(two.fixed, two.moving, window=5, mask=inside)) < 0.6


def test_labels_move_with_the_image(heads: list) -> None:
    """White matter is brighter than cortex in every deformed T1-like image, where its deformed label says it is."""
    options = SyntheticOptions(random_contrast=0.0, elastic_mm=3.0, translation_mm=4.0)
    generator = PairGenerator(heads, seed=8, options=options)
    kept = [LABELS[index] for index in DICE_LABELS]
    for step in range(3):
        pair = generator.pair(step)
        image = torch.nn.functional.avg_pool3d(pair.moving, 2)[0, 0]
        white, grey = (
            image[(pair.moving_shares[0, kept.index(a)] + pair.moving_shares[0, kept.index(b)]) > 0.9].mean()
            for a, b in ((2, 41), (3, 42))
        )
        assert white > 1.2 * grey


def test_amplitudes_do_what_they_are_named(heads: list) -> None:
    def dice(**change: float) -> float:
        options = dataclasses.replace(STILL, same_head=1.0, **change)
        generator = PairGenerator(heads, seed=9, options=options)
        pairs = [generator.pair(step) for step in range(3)]
        return sum(float(soft_dice(p.fixed_shares, p.moving_shares)) for p in pairs) / 3

    for name, amplitudes in {
        "rotation_degrees": (1.0, 8.0), "scale": (0.01, 0.1), "shear": (0.01, 0.1), "translation_mm": (0.5, 4.0),
        "elastic_mm": (0.5, 4.0), "ventricle_mm": (1.0, 8.0),
    }.items():  # fmt: skip
        little, much = (dice(**{name: amplitude}) for amplitude in amplitudes)
        assert 1 > little > much, name


def test_csf_has_no_dice_label() -> None:
    assert LABELS.index(CSF) not in DICE_LABELS and len(DICE_LABELS) == len(LABELS) - 1


def test_one_head_makes_no_pair(heads: list) -> None:
    with pytest.raises(ValueError, match="at least two label maps are needed to make pairs, got 1"):
        PairGenerator(heads[:1])


def test_rare_events_leave_the_rest_of_the_stream_alone(heads: list) -> None:
    plain = PairGenerator(heads, seed=5).pair(2)
    for name in ("lesions", "stripping_errors", "cut"):
        pair = PairGenerator(heads, seed=5, options=SyntheticOptions(**{name: 1.0})).pair(2)
        assert torch.equal(pair.fixed_shares, plain.fixed_shares) and torch.equal(
            pair.moving_shares, plain.moving_shares
        )
        changed = ((pair.fixed - plain.fixed).abs() > 0.1).float().mean()
        assert 1e-4 < changed < 0.2, name


def test_atrophy_replaces_the_surface_by_fluid(heads: list) -> None:
    generator = PairGenerator(heads, seed=5, options=dataclasses.replace(STILL, atrophy_mm=8.0))
    drawn = max((h for step in range(4) for h in generator.heads(step)[0]), key=lambda head: head.atrophy_mm)
    assert drawn.atrophy_mm > 2
    distance = generator.distance[drawn.head].float()
    shell = (distance <= 0) & (distance >= SPACING_MM - drawn.atrophy_mm)
    image = generator._clean(drawn, drawn.means)
    fluid = float(drawn.means[LABELS.index(CSF)])
    assert shell.any() and float((image[shell] - fluid).abs().max()) < 0.01


def test_a_little_atrophy_leaves_the_cortex() -> None:
    """Most voxels of a cortex lie at the surface: 0.5 mm of fluid are a quarter of one at 2 mm, half of one at 1."""
    brain = np.zeros((8, 8, 16), bool)
    brain[:, :, :6] = True
    distance = torch.from_numpy(_signed_distance(brain))[4, 4]
    assert fluid_share(distance, 0.5, SPACING_MM).tolist() == [0.0] * 5 + [0.25] + [1.0] * 10
    assert fluid_share(distance, 3.0, SPACING_MM).tolist() == [0.0] * 4 + [0.5] + [1.0] * 11
    surface = 0.5 * float(distance[5] + distance[6])
    fine = surface + torch.tensor([0.5, -0.25, -0.5, -1.0])  # where the centres of 1 mm voxels lie
    assert fluid_share(fine, 0.5, 1.0).tolist() == [1.0, 0.75, 0.5, 0.0]


def test_of_two_contrasts_one_is_shown_in_the_other_one_and_so_is_the_reference(heads: list) -> None:
    options = dataclasses.replace(STILL, same_head=1.0, cross_contrast=1.0)
    generator = PairGenerator(heads, seed=3, options=options)
    views, better = set(), 0.0
    for step in range(6):
        (fixed, moving), _, cross = generator.heads(step)
        pair = generator.pair(step)
        assert cross and pair.reference is not None
        view = generator.shown(step, fixed, moving, cross).view
        views.add(view)
        # One of the two is as it was drawn.
        drawn, left_alone = (moving.image, pair.moving) if view else (fixed.image, pair.fixed)
        assert torch.allclose(left_alone.sum(), drawn.sum())
        inside = pair.fixed_shares.sum(1, keepdim=True) > 0.99
        inside = inside.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        other = pair.moving if view else pair.fixed
        assert float(torch.corrcoef(torch.stack((other[inside], pair.reference[inside])))[0, 1]) > 0.95
        apart, shown = (
            float(torch.corrcoef(torch.stack((first[inside], second[inside])))[0, 1])
            for first, second in (
                (fixed.image[None, None], moving.image[None, None]),
                (pair.fixed, pair.moving),
            )
        )
        assert shown > 0.5 and shown > abs(apart) - 0.1
        better += shown - abs(apart)
    assert views == {0, 1} and better / 6 > 0.2


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_other_contrasts_are_what_they_are_called(kind: int) -> None:
    """T2: fluid brighter than grey, grey than white; FLAIR: fluid darkest, grey brighter than white; or inverted."""
    found = []
    for seed in range(40):
        stream = Stream(seed)
        if Stream(seed).integer(3) == kind:
            found.append(dict(zip(LABELS, other_contrast(contrast(Stream(9), 0.0), stream).tolist(), strict=True)))
    assert found
    for means in found:
        assert means[3] > means[2]
        assert (means[CSF] < means[2]) if kind == 1 else (means[CSF] > means[3])
