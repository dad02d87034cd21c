"""One convolution of unsigned 8-bit counts with signed 8-bit weights, by oneDNN where this torch offers it.

The operators live in a private namespace of torch and may change or vanish: `available` tries them once.
"""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from SpikeRegLib.networks.rounding import RoundedWeights


class IntegerConvolution:
    """y = scale * sum(weight * count) + bias, rounded to unsigned 8 bit or as it is.

    Args:
        rounded: with kernels of three axes. The variants of all channels become output channels, variant by variant.
        stride, padding: of the convolution.
        native: use oneDNN; otherwise the same sums are made in float32, which holds them exactly.
    """

    def __init__(
        self, rounded: RoundedWeights, *, stride: int = 1, padding: tuple[int, int, int] = (0, 0, 0), native: bool
    ) -> None:
        weight = rounded.weight.transpose(0, 1).flatten(0, 1).contiguous()
        self.scale = rounded.scale.T.flatten().contiguous()
        self.stride, self.padding, self.native = [stride] * 3, list(padding), native
        if native:
            self.weight = torch.ops.onednn.qconv_prepack(
                weight, self.scale, 1.0, 0, self.stride, self.padding, [1] * 3, 1, None
            )
            self.zero_point = torch.zeros(len(self.scale), dtype=torch.int32)
        else:
            self.weight = weight.float()

    def __call__(self, counts: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Convolve.

        Args:
            counts: [B, C, D, H, W] uint8, best in channels-last order, which the result has.
            bias: [variants x out] float32.
            dtype: torch.float32, or torch.uint8 for round(y) between 0 and 255.
        """
        if self.native:
            return torch.ops.onednn.qconv3d_pointwise(
                counts, 1.0, 0, self.weight, self.scale, self.zero_point, bias, self.stride, self.padding, [1] * 3, 1,
                1.0, 0, dtype, "none", [], "",
            )  # fmt: skip
        sums = functional.conv3d(counts.float(), self.weight, None, self.stride, self.padding)
        shape = (1, -1, 1, 1, 1)
        drive = sums.mul_(self.scale.view(shape)).add_(bias.view(shape))
        return drive if dtype == torch.float32 else drive.round_().clamp_(0, 255).to(dtype)


@functools.lru_cache(maxsize=1)
@torch.inference_mode()
def available() -> bool:
    """Whether this torch has the operators and they are exact on the largest values, tried once a process.

    Processors without 8-bit dot products add pairs of products in 16 bits, which saturate; inputs up to 127 fit.
    """
    random = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (8, 1, 40, 3, 3, 3), dtype=torch.int8, generator=random)
    weight[:4] = 127
    counts = torch.randint(0, 128, (1, 40, 5, 6, 7), dtype=torch.uint8, generator=random)
    counts[..., 3:] = 127
    rounded = RoundedWeights(weight, torch.full((8, 1), 3.0 / 2**16))
    bias = torch.linspace(-2.0, 2.0, 8)
    try:
        for stride in (1, 2):
            native, exact = (
                IntegerConvolution(rounded, stride=stride, padding=(1, 1, 1), native=choice) for choice in (True, False)
            )
            for dtype in (torch.float32, torch.uint8):
                if not torch.equal(native(counts, bias, dtype), exact(counts, bias, dtype)):
                    return False
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return True
