"""The factor on the smoothing of refinement: more of it, and fields are smoother; out of range, and it is said."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.refinement.guidance import RefinementOptions


def test_every_level_is_smoothed_by_the_factor_and_nothing_else_changes():
    preset = load_preset("brain-t1")
    for plain, stiff in zip(preset.schedule().levels, preset.schedule(regularisation=2.0).levels, strict=True):
        assert stiff.velocity_sigma_mm == 2 * plain.velocity_sigma_mm
        assert stiff.field_sigma_mm == 2 * plain.field_sigma_mm
        assert (stiff.spacing_mm, stiff.field_mm, stiff.step) == (plain.spacing_mm, plain.field_mm, plain.step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RefinementOptions(regularisation=0.2), "--regularisation: must be between 0.25 and 4"),
        (RefinementOptions(regularisation=float("nan")), "--regularisation: must be between"),
        (RefinementOptions(landmark_weight=-1.0), "--landmark-weight: must be between 0 and "),
        (RefinementOptions(landmark_weight=float("inf")), "--landmark-weight: must be between 0 and "),
        (RefinementOptions(landmark_weight=1.0), "--landmark-weight: needs landmarks; give --fixed-points"),
    ],
)
def test_options_that_cannot_be_used_are_refused_by_name(options, message):
    with pytest.raises(InputError) as caught:
        options.check(points_given=False)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_the_result_names_what_was_asked_for():
    from SpikeRegLib.images.frames import Frame
    from SpikeRegLib.images.volumes import Volume

    region = Volume(torch.ones(2, 2, 2), Frame((2, 2, 2)), "roi.nii.gz")
    options = RefinementOptions(landmark_weight=0.5, regularisation=2.0, region=region)
    assert options.as_result() == {"landmark_weight": 0.5, "regularisation": 2.0, "region": "roi.nii.gz"}
    assert options.guided and not RefinementOptions().guided
