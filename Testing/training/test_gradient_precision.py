"""Gradients in bfloat16: used where they are right, and known to be wrong where they are not used."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.training import loop
from SpikeRegLib.training.loop import gradient_precision

FAST = Precision("cpu", True)


def weight_gradient_error(depth: int) -> float:
    """Of a 3^3 convolution of 16 channels in bfloat16, relative to the largest entry of the exact gradient."""
    random = torch.Generator().manual_seed(0)
    x = torch.rand(1, 16, depth, 4, 4, generator=random).bfloat16()
    weight = torch.randn(16, 16, 3, 3, 3, generator=random).bfloat16().requires_grad_()
    exact = weight.detach().double().requires_grad_()
    received = torch.randn(1, 16, depth, 4, 4, generator=random).bfloat16()
    functional.conv3d(x, weight, padding=1).backward(received)
    functional.conv3d(x.double(), exact, padding=1).backward(received.double())
    assert weight.grad is not None and exact.grad is not None
    error = (weight.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
    return float(error.nan_to_num(torch.inf))


@pytest.mark.skipif(not Precision.best("cpu").bfloat16, reason="this processor has no bfloat16")
def test_the_grids_that_keep_bfloat16_have_right_gradients() -> None:
    errors = {depth: weight_gradient_error(depth) for depth in (1, 3, 4, 5)}
    assert max(errors.values()) < 0.01, errors


@pytest.mark.parametrize(("shape", "fast"), [((32, 32, 32), False), ((32, 96, 80), False), ((48, 32, 32), True)])
def test_a_grid_two_voxels_deep_is_trained_in_float32(
    shape: tuple[int, int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Precision, "best", staticmethod(lambda device: FAST))
    gradient_precision.cache_clear()
    assert gradient_precision(velocity_unet(), shape, "cpu") == Precision("cpu", fast)
    assert gradient_precision(velocity_unet(), (80, 96, 80), "cpu") == FAST
    gradient_precision.cache_clear()


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_without_bfloat16_trains_in_float32(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *arguments: supported)
    assert Precision.best("cuda") == Precision.best("cuda:1") == Precision("cuda", supported)
