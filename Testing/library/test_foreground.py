"""The threshold of the foreground, 0.02 of the scaled range: what lies at or below it takes no part anywhere."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.align import make_pair
from SpikeRegLib.pipeline.inputs import load_side
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.progress import silent
from SpikeRegLib.similarity.contrast import compare_by
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import Transform
from SpikeRegLib.spiking.intensity import standardise
from SpikeRegLib.training.objective import importance

# Written out: a test that reads the constant could not see it change.
AT = 0.02
BELOW, ABOVE = 0.0195, 0.0205


def test_standardising_counts_what_lies_above_and_leaves_the_rest_at_zero():
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., :4] = BELOW
    image[..., 4:6] = torch.tensor(AT)
    image[..., 6:11] = ABOVE
    image[..., 11:] = 0.7
    found = standardise(image)
    assert (found[..., :6] == 0).all()
    inside = image[..., 6:].double()
    mean, spread = inside.mean(), inside.std(correction=0)
    wanted = (0.5 + 0.2 * (inside - mean) / spread).clamp(0, 1).float()
    assert (wanted > 0.05).all(), "none of them is clipped"
    torch.testing.assert_close(found[..., 6:], wanted, rtol=0, atol=1e-4)


def textured(seed: int) -> torch.Tensor:
    noise = gaussian(torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(seed)), 1.0)[0]
    return 0.1 + 0.8 * (noise - noise.min()) / (noise.max() - noise.min())


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize(("value", "counts"), [(BELOW, False), (AT, False), (ABOVE, True)])
def test_curves_of_two_contrasts_are_learned_from_what_lies_above_in_both(side, value, counts):
    images = {"fixed": textured(1), "moving": (1 - textured(1)) ** 2}
    mask = torch.ones(24, 24, 24, dtype=torch.bool)
    curves = []
    for other in (0.15, 0.95):  # what the other image shows where this one is dim
        changed = {name: image.clone() for name, image in images.items()}
        changed[side][:8] = torch.tensor(value)
        changed["moving" if side == "fixed" else "fixed"][:8] = other
        comparison = compare_by("multicontrast", changed["fixed"], changed["moving"], mask)
        curves.append(torch.stack((comparison.fixed_as_moving, comparison.moving_as_fixed)))
    assert torch.equal(*curves) != counts


def test_the_mask_of_a_registration_without_one_is_what_lies_above():
    ramp = torch.linspace(0, 0.06, 40)[None, None, :] * torch.ones(40, 40, 1)
    ramp[10:30, 10:30, 10:30] = 1.0
    ramp[:2], ramp[-2:], ramp[:, :2], ramp[:, -2:], ramp[:, :, :2], ramp[:, :, -2:] = 0, 0, 0, 0, 0, 0
    volume = Volume(ramp, Frame((40, 40, 40), spacing=(2.0, 2.0, 2.0)))
    side = load_side(volume)
    preset = load_preset("fast-preview")
    pair = make_pair(
        side, side, Transform.identity(), spacing_mm=preset.working_spacing_mm, voxels=preset.working_voxels,
        similarity=preset.similarity, listener=silent,
    )  # fmt: skip
    fixed, mask = pair.working.fixed, pair.working.mask
    assert torch.equal(mask, fixed > AT)
    near = ((fixed > 0.015) & (fixed < 0.025)).sum()
    assert near > 100 and 0 < int(mask.sum()) < mask.numel(), "another threshold would be seen"


def test_the_head_of_a_training_pair_is_what_lies_above():
    images = torch.zeros(1, 2, 32, 32, 32)
    shares = {}
    for value in (BELOW, AT, ABOVE):
        images[0, 0, 10:14, 10:14, 10:14] = torch.tensor(value)
        shares[value] = importance(images, 0.5)
    # Without a head, its share is the smallest allowed.
    assert (shares[BELOW] == shares[AT]).all() and shares[BELOW].unique().numel() == 1
    assert shares[ABOVE].unique().numel() == 2
