"""Gradient inverse consistency (Tian et al. 2023, used by NePhi): the map there and back should have the Jacobian of
the identity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Map = Callable[[torch.Tensor], torch.Tensor]


def jacobians(map_: Map, position: torch.Tensor, *, create_graph: bool = False) -> torch.Tensor:
    """[N, 3, 3] exact Jacobians d map_(x)_i / d x_j at [N, 3] positions.

    Args:
        map_: [N, 3] positions -> [N, 3] positions, every point on its own.
        position: where.
        create_graph: to differentiate the Jacobians again, in training.
    """
    at = position.detach().requires_grad_(True)
    with torch.enable_grad():
        mapped = map_(at)
        rows = [
            torch.autograd.grad(mapped[:, i].sum(), at, create_graph=create_graph, retain_graph=True)[0]
            for i in range(3)
        ]
    return torch.stack(rows, 1)


def inverse_consistency(there: Map, back: Map, position: torch.Tensor, *, create_graph: bool = True) -> torch.Tensor:
    """R = E || d/dx (back(there(x)) - x) ||^2 over [N, 3] positions: zero where `back` is the inverse of `there` up to
    a constant.

    Args:
        there, back: maps of positions; the gradient reaches the parameters of both.
        position: [N, 3] where it is measured.
    """
    identity = torch.eye(3, dtype=position.dtype, device=position.device)
    found = jacobians(lambda x: back(there(x)), position, create_graph=create_graph)
    return (found - identity).square().sum((1, 2)).mean()
