"""The preset of a run that names none, and that it ignores no option: each does something, or is refused or said."""

from __future__ import annotations

import pytest

from SpikeRegLib.errors import InputError
from SpikeRegLib.options.options import OPTIONS, Options
from SpikeRegLib.pipeline import engine, register

ABSENT = ("missing.nii.gz", "missing.nii.gz")
OF_THE_NETWORK = {"model": "brain-t1", "timesteps": 2, "tile": 64}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("brain", "optimize")),
        ({"structures": "start"}, ("brain", "optimize")),
        ({"spike_maps": True, "device": "cpu"}, ("brain", "optimize")),
        *(({name: value}, ("brain-t1", "spikereg")) for name, value in OF_THE_NETWORK.items()),
        ({"method": "ann", "tile": 64}, ("brain-t1", "ann")),
        ({"method": "optimize"}, ("any-anatomy", "optimize")),
        ({"preset": "brain", "method": "spikereg", "timesteps": 2}, ("brain", "spikereg")),
    ],
)
def test_preset_and_method_follow_from_what_is_asked(given, expected):
    values = engine.choices(Options.of(**given))
    assert (values["preset.name"], values["method"]) == expected
    assert (values["network_file"] is None) == (expected[1] == "optimize")


@pytest.mark.parametrize("option", OF_THE_NETWORK)
@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"preset": "brain"}, "preset brain"),
        ({"preset": "any-anatomy"}, "preset any-anatomy"),
        ({"method": "optimize"}, "method optimize"),
        ({"preset": "brain-t1", "method": "optimize"}, "method optimize"),
    ],
)
def test_what_concerns_the_registration_network_is_refused_where_none_runs(option, given, where):
    message = f"--{option}: no registration network runs with {where}; leave it out, or choose"
    with pytest.raises(InputError, match=message) as caught:
        register(*ABSENT, **given, **{option: OF_THE_NETWORK[option]})
    assert "\n" not in str(caught.value)


def test_time_steps_of_a_field_without_an_encoder_are_refused():
    with pytest.raises(InputError, match="--timesteps: no registration network runs with preset nephi-any-anatomy"):
        register(*ABSENT, preset="nephi-any-anatomy", timesteps=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"structures": "start", "skip_affine": True}, "--structures start: --skip-affine"),
        ({"structures": "verdict,start", "initial_transform": "a.h5"}, "--structures start: --initial-transform"),
        ({"structures": "refinement", "refine_iterations": 0}, "--structures refinement: --refine-iterations 0"),
        ({"structures": "mask", "fixed_mask": "f.nii", "moving_mask": "m.nii"}, "--structures mask: --fixed-mask"),
        ({"field_iterations": 3}, "--field-iterations: method optimize has no neural field"),
        ({"field_seconds": 3.0}, "--field-seconds: method optimize has no neural field"),
        ({"field_decoder": True}, "--field-decoder: method optimize has no neural field"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=message):
        register(*ABSENT, **given)


def test_uses_that_nobody_named_give_way_without_a_word():
    for asked in (None, "all"):
        given = {"skip_affine": True, "refine_iterations": 0, "structures": asked}
        assert engine.choices(Options.of(**given))["structures_for"] == ("start", "mask", "refinement", "verdict")


def test_a_device_that_nothing_runs_on_is_not_in_the_result(known, quick, monkeypatch):
    """A machine with a card, and a run without a network."""
    monkeypatch.setattr(engine, "choose_device", lambda wanted: "cuda" if wanted == "auto" else wanted)
    how = {"preset": quick, "skip_affine": True, "refine_iterations": 0, "threads": 1}
    for device, said in (("auto", []), ("cpu", []), ("cuda", ["--device cuda: no registration network runs"])):
        result = register(known.fixed, known.moving, **how, device=device).result
        assert result["device"] == "cpu"
        assert [line[: len("--device cuda: no registration network runs")] for line in result["warnings"]] == said


def test_spike_maps_that_nothing_can_fill_are_said_to_be_missing(known, quick):
    how = {"preset": quick, "skip_affine": True, "refine_iterations": 0, "threads": 1}
    for asked, said in ((True, ["--spike-maps: no spiking network runs here; there are no maps"]), (False, [])):
        found = register(known.fixed, known.moving, **how, spike_maps=asked)
        assert found.spike_maps == {} and found.result["warnings"] == said


def test_every_option_is_looked_at_here_or_means_the_same_for_every_preset():
    """A new option has to be thought of."""
    refused = {*OF_THE_NETWORK, "field_iterations", "field_seconds", "field_decoder"}
    said = {"structures", "device", "spike_maps"}
    same = {
        "method", "transform_type", "preset", "initial_transform", "align", "skip_affine", "fixed_mask", "moving_mask",
        "fixed_leave_out", "moving_leave_out", "fixed_labels", "moving_labels", "fixed_points", "moving_points",
        "landmark_weight", "region", "regularisation", "refine_iterations", "allow_nonfinite", "allow_few_values",
        "background", "verdict_bounds", "threads", "seed",
    }  # fmt: skip
    assert refused | said | same == set(OPTIONS)
