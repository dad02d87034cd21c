"""The factor on the smoothing of refinement: more of it, and fields are smoother; out of range, and it is said."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.options.options import Options
from SpikeRegLib.pipeline.assemble import asked_of_refinement
from SpikeRegLib.presets.preset import load_preset


def test_every_level_is_smoothed_by_the_factor_and_nothing_else_changes():
    preset = load_preset("brain-t1")
    for plain, stiff in zip(preset.schedule().levels, preset.schedule(regularisation=2.0).levels, strict=True):
        assert stiff.velocity_sigma_mm == 2 * plain.velocity_sigma_mm
        assert stiff.field_sigma_mm == 2 * plain.field_sigma_mm
        assert (stiff.spacing_mm, stiff.field_mm, stiff.step) == (plain.spacing_mm, plain.field_mm, plain.step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(regularisation=0.2), "--regularisation: must be between 0.25 and 4"),
        (dict(regularisation=float("nan")), "--regularisation: must be between"),
        (dict(landmark_weight=-1.0), "--landmark-weight: must be between 0 and "),
        (dict(landmark_weight=float("inf")), "--landmark-weight: must be between 0 and "),
        (dict(landmark_weight=1.0), "--landmark-weight: needs landmarks; give --fixed-points"),
    ],
)
def test_options_that_cannot_be_used_are_refused_by_name(options, message):
    with pytest.raises(InputError) as caught:
        Options.of(**options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_the_result_names_what_was_asked_for():
    from SpikeRegLib.images.frames import Frame
    from SpikeRegLib.images.volumes import Volume

    region = Volume(torch.ones(2, 2, 2), Frame((2, 2, 2)), "roi.nii.gz")
    asked = asked_of_refinement(landmark_weight=0.5, regularisation=2.0, region=region)
    assert asked == {"landmark_weight": 0.5, "regularisation": 2.0, "region": "roi.nii.gz"}
    assert asked_of_refinement(0.0, 1.0, None) == {"landmark_weight": 0.0, "regularisation": 1.0, "region": None}
