"""Small parts that larger tests see too little of: cells that are mended, windows, labels that are there."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.affine import reduced
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.quality import metrics
from SpikeRegLib.space import folds
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.filters import gaussian


def test_only_the_cells_that_fold_are_mended():
    edges = torch.zeros(3, 8, 3, 3)
    edges[0, :, 0, 1] = -2.0  # in cell 1 the x axis runs backwards
    total, found = folds._correction(edges, [torch.eye(3)], 0.05)
    assert found.tolist() == [False, True, False]
    assert not total[..., [0, 2]].any() and float(total[..., 1].abs().max()) > 0


@pytest.mark.parametrize("voxels", [12.0, 40.0, 200.0])
def test_noise_is_smoothed_until_nothing_folds_and_no_further(voxels):
    """More and more where it folds, so that the field has not to be shrunk to nearly nothing in the end."""
    noise = hold_border(voxels * torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0)))
    found, bad = folds.remove_folds(noise)
    assert bad > 0.9 * 15**3 and float(folds.smallest_jacobian(found).min()) >= folds.SMALLEST_JACOBIAN
    assert float(found.std()) > 0.4 and torch.equal(found, hold_border(found.clone()))


def test_a_field_is_left_alone_far_from_what_folds():
    generator = torch.Generator().manual_seed(0)
    field = gaussian(torch.randn(3, 26, 26, 40, generator=generator), 3.0)
    field = hold_border(field / field.abs().max())
    torn = field.clone()
    torn[:, 8:17, 8:17, 4:13] += 12 * torch.randn(3, 9, 9, 9, generator=generator)
    found, bad = folds.remove_folds(torn)
    assert bad > 500 and float(folds.smallest_jacobian(found).min()) >= folds.SMALLEST_JACOBIAN
    assert torch.equal(found[..., 28:], field[..., 28:]) and float((found - field)[..., 4:13].abs().max()) > 0.5


def test_local_contrast_is_sound_beyond_the_window_around_what_is_not_known():
    known = torch.ones(41, 41, 41)
    known[20, 20, 20] = 0
    sound = reduced._eroded(known)
    reach = round(2.5 * reduced._LOCAL)
    assert not sound[20, 20, 20 : 20 + reach + 1].any() and not sound[20 - reach, 20, 20]
    assert (
        sound[20, 20, 20 + reach + 1] and sound[20 - reach - 1, 20, 20] and sound.sum() == 41**3 - (2 * reach + 1) ** 3
    )


def test_a_label_that_nobody_has_is_not_measured():
    frame = Frame((16, 16, 16))
    fixed, warped = (torch.zeros(16, 16, 16, dtype=torch.int16) for _ in range(2))
    fixed[2:8], warped[4:8], warped[9:12] = 3, 3, -2
    found = metrics.dice(Volume(fixed, frame), Volume(warped, frame))
    assert set(found) == {3} and abs(found[3] - 0.8) < 1e-6
