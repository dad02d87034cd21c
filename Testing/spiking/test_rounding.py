"""Rounded weights: close to the given ones, and drives that no arithmetic can get wrong."""

from __future__ import annotations

import platform

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from SpikeRegLib.networks import integer_convolution
from SpikeRegLib.networks.integer_convolution import IntegerConvolution
from SpikeRegLib.networks.rounding import NotRepresentable, RoundedWeights, round_weights


def random_parts(seed: int, size: float) -> tuple[list[torch.Tensor], torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    parts = [torch.randn(5, variants, 9, 3, 3, 3, generator=random) * size for variants in (1, 8)]
    parts[0][1], parts[1][1] = 0, 0  # a channel that reads nothing
    return parts, torch.randn(5, generator=random) * size * 10


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 6), timesteps=st.sampled_from([1, 4, 8, 100]))
def test_units_make_every_drive_exact_and_keep_it_off_ties(seed: int, exponent: int, timesteps: int) -> None:
    """Scales are even and biases odd multiples of a power of two, and nothing reaches 2^24 of them."""
    parts, bias = random_parts(seed, 2.0**exponent)
    rounded, biases = round_weights(parts, bias, largest_inputs=[timesteps, timesteps])
    for channel in range(5):
        unit = 2.0**20
        while float(biases[channel]) / unit % 1:
            unit /= 2
        assert unit <= 0.25 and float(biases[channel]) / unit % 2 == 1
        reach = abs(float(biases[channel])) / unit
        for part in rounded:
            multiples = part.scale[channel].double() / unit
            assert bool((multiples % 2 == 0).all())
            reach += float((multiples * part.weight[channel].double().abs().flatten(1).sum(1)).max()) * timesteps
        assert reach < 2**24


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 3))
def test_weights_and_the_sums_of_kernels_are_near_on_almost_all_of_the_range(seed: int, exponent: int) -> None:
    parts, bias = random_parts(seed, 2.0**exponent)
    rounded, biases = round_weights(parts, bias, largest_inputs=[4, 4])
    for given_weight, part in zip(parts, rounded, strict=True):
        scale = part.scale.view(*part.scale.shape, 1, 1, 1, 1)
        errors = (part.weight * scale - given_weight) / scale
        assert float(errors.abs().max()) < 1 and float(errors.abs().mean()) < 0.3
        assert float(errors.sum((-3, -2, -1)).abs().max()) <= 0.5 + 1e-3
        live = given_weight.abs().flatten(2).amax(2) > 0
        largest = part.weight.abs().flatten(2).amax(2)[live]
        assert int(largest.min()) >= 100 and int(part.weight.abs().max()) <= 127
    assert float(((biases - bias).abs() / rounded[0].scale[:, 0]).max()) < 1 / 4


def test_weights_beyond_exact_sums_are_refused() -> None:
    with pytest.raises(NotRepresentable, match="1 channels"):
        round_weights([torch.tensor([1.0, 1e9]).view(2, 1, 1)], torch.zeros(2), largest_inputs=[4])


def test_a_large_bias_and_unlike_variants_cost_bits_but_are_held() -> None:
    weights = torch.tensor([[1.0], [1e-4]]).view(1, 2, 1)
    (rounded,), bias = round_weights([weights], torch.tensor([3e4]), largest_inputs=[4])
    assert float(bias[0]) == pytest.approx(3e4, abs=0.01)
    errors = (rounded.weight * rounded.scale[..., None] - weights).abs()
    assert float(errors.max()) < 0.01


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.skipif(not integer_convolution.available(), reason="this torch lacks the integer convolution")
def test_onednn_is_exact(stride: int) -> None:
    """Against sums in double precision: the drive to the last bit, the counts to the last spike."""
    random = torch.Generator().manual_seed(stride)
    weights, bias = [torch.randn(20, 1, 24, 3, 3, 3, generator=random)], torch.randn(20, generator=random)
    (rounded,), biases = round_weights(weights, bias, largest_inputs=[127])
    counts = torch.randint(0, 128, (2, 24, 9, 10, 11), dtype=torch.uint8, generator=random)
    kernel = rounded.weight[:, 0].double() * rounded.scale.double().view(-1, 1, 1, 1, 1)
    drive = torch.nn.functional.conv3d(counts.double(), kernel, biases.double(), stride, 1)
    for native in (True, False):
        convolution = IntegerConvolution(rounded, stride=stride, padding=(1, 1, 1), native=native)
        assert torch.equal(convolution(counts, biases, torch.float32).double(), drive)
        assert torch.equal(convolution(counts, biases, torch.uint8).double(), (drive + 0.5).floor().clamp(0, 255))


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64")
    or not hasattr(torch.ops.onednn, "qconv3d_pointwise")
    or not torch.backends.mkldnn.is_available()
    or tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13),  # where it was seen to be exact
    reason="this torch, or this processor, lacks the integer convolution",
)
def test_integers_are_available_wherever_their_operator_is() -> None:
    """Else a mistake in how it is called would only make every run slower, and skip the tests of it."""
    assert integer_convolution.available()


def test_an_operator_that_is_missing_or_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in the private namespace, the answer is that the integers are not available."""
    real = IntegerConvolution.__call__

    def wrong(self: IntegerConvolution, counts: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        result = real(self, counts, bias, dtype)
        return result + 1 if self.native else result

    def missing(*arguments: object) -> None:
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qconv_prepack'")

    try:
        for broken in (wrong, missing):
            monkeypatch.setattr(IntegerConvolution, "__call__", broken)
            integer_convolution.available.cache_clear()
            assert not integer_convolution.available()
            monkeypatch.undo()
    finally:
        integer_convolution.available.cache_clear()


def test_variants_become_channels_one_variant_after_the_other() -> None:
    weight = torch.arange(6, dtype=torch.int8).view(2, 3, 1, 1, 1, 1)  # [out, variants, in, 1, 1, 1]
    convolution = IntegerConvolution(RoundedWeights(weight, torch.ones(2, 3)), native=False)
    result = convolution(torch.ones(1, 1, 1, 1, 1, dtype=torch.uint8), torch.zeros(6), torch.float32)
    assert result.flatten().tolist() == [0, 3, 1, 4, 2, 5]
