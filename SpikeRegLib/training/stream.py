"""A seeded stream of random numbers: what a pair looks like depends on it alone."""

from __future__ import annotations

import torch


class Stream:
    """Uniform, normal and integer draws from one generator.

    Args:
        seed: of the stream.
        device: where tensors are drawn.
    """

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self._generator, device=self.device))

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator, device=self.device)

    def integer(self, count: int) -> int:
        """One of 0 .. count - 1."""
        return int(torch.randint(count, (), generator=self._generator, device=self.device))

    def happens(self, share: float) -> bool:
        """True in `share` of the draws; takes a number from the stream either way."""
        return self.uniform() < share
