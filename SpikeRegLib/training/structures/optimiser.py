"""Momentum whose updates of convolution weights are orthogonal (Jordan et al. 2024, "Muon"), Adam for the rest.

Every direction of a weight matrix moves by the same amount, also those that few images ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Of the Newton-Schulz iteration: five steps bring all singular values near one.
_STEPS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with orthonormal rows or columns, of any [rows, columns]."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-8)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x if wide else x.T


class MuonAdam(torch.optim.Optimizer):
    """One optimiser whose groups say by `orthogonal` how they are updated.

    Args:
        groups: with "params" and "orthogonal"; "lr" is set by the loop.
        momentum: of the orthogonal updates.
        betas: of Adam.
        decay: of convolution weights, times the learning rate.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.98),
        decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(groups, {"lr": 1e-3, "momentum": momentum, "betas": betas, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients that are there."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._turn if group["orthogonal"] else self._adam)(parameter, parameter.grad, group)

    def _turn(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        mean.lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(mean, group["momentum"]).flatten(1))
        parameter.mul_(1 - group["lr"] * group["decay"])
        size = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * size)

    def _adam(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        square = state.setdefault("square", torch.zeros_like(parameter))
        count = state.setdefault("count", torch.zeros(()))
        count += 1
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient * gradient, 1 - second)
        unbiased = (square / (1 - second**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(mean / (1 - first**count), unbiased, value=-group["lr"])
