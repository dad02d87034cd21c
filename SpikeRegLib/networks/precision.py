"""Autocast for convolutions: bfloat16 where the processor computes it natively."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A device and whether its convolutions run in bfloat16 (spike counts are exact in it)."""

    device: str
    bfloat16: bool

    @staticmethod
    def best(device: str) -> Precision:
        """bfloat16 on GPUs and CPUs that have it (AVX512-BF16), float32 elsewhere."""
        if device.startswith("cuda"):
            return Precision("cuda", torch.cuda.is_bf16_supported())
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return Precision(device, device == "cpu" and bool(native()))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    @property
    def name(self) -> str:
        return "bfloat16" if self.bfloat16 else "float32"
