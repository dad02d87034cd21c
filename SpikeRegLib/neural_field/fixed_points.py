"""A decoder at points that stay where they are while the codes change, without autograd.

Half of the decoder's work depends on the position alone and is done once; the derivative of the displacement with
respect to the code is written out, three backward passes for the three components.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import embedding_bag

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.progress import Tick, unheard

# Points computed together: what they need stays in the processor's cache.
_TOGETHER = 4096


class Sampling:
    """Codes at fixed points: trilinear interpolation between the nodes of a grid, and its transpose.

    Args:
        codes: their grid counts.
        position: [N, 3] mm (x, y, z).

    Attributes:
        nodes: [K] flat indices of the nodes that take part.
    """

    def __init__(self, codes: Codes, position: torch.Tensor) -> None:
        size = torch.tensor([n - 1 for n in reversed(codes.grid.shape)])
        cells = codes.cells(position).clamp_min(0).minimum(size)
        low = cells.floor().long().minimum((size - 1).clamp_min(0))
        part = cells - low
        _, height, width = codes.grid.shape
        index, weight = [], []
        for corner in range(8):
            side = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])
            node = (low + side).minimum(size)
            index.append((node[:, 2] * height + node[:, 1]) * width + node[:, 0])
            weight.append(torch.where(side.bool(), part, 1 - part).prod(1))
        self.nodes, self._node = torch.stack(index, 1).unique(return_inverse=True)
        self._weight = torch.stack(weight, 1)
        # The same from the side of the nodes: which points each one touches.
        node, order = self._node.flatten().sort()
        self._point, self._weight_there = order // 8, self._weight.flatten()[order]
        self._first = torch.searchsorted(node, torch.arange(len(self.nodes)))

    def at_points(self, nodes: torch.Tensor) -> torch.Tensor:
        """[N, C] of [K, C]."""
        return embedding_bag(self._node, nodes, mode="sum", per_sample_weights=self._weight)

    def at_nodes(self, points: torch.Tensor) -> torch.Tensor:
        """[K, C] of [N, C], the transpose of `at_points`."""
        return embedding_bag(self._point, points, self._first, mode="sum", per_sample_weights=self._weight_there)


class FixedPoints:
    """One decoder at N points; displacements in mm.

    Args:
        decoder: its weights must not change afterwards.
        codes: their grid, centre and global code count.
        position: [N, 3] mm (x, y, z).
    """

    @torch.no_grad()
    def __init__(self, decoder: Decoder, codes: Codes, position: torch.Tensor) -> None:
        options = decoder.options
        self._decoder, self._scale, self._local = decoder, codes.grid.spacing_mm, options.local_size
        features = decoder.features(codes.relative(position), codes.cells(position))
        self._first = torch.sin(decoder.omega(0) * decoder.sine(0)(features))
        self._gates: list[torch.Tensor] = []
        self._of_code: list[torch.Tensor] = []
        self._of_gate: list[torch.Tensor] = []
        for number in range(options.hidden_layers):
            gate = decoder.gate(number)
            code, rest = gate.weight[:, : options.code_size], gate.weight[:, options.code_size :]
            constant = gate.bias + code[:, self._local :] @ codes.overall
            self._gates.append(torch.addmm(constant, features, rest[:, : features.shape[1]].t()))
            self._of_code.append(code[:, : self._local])
            self._of_gate.append(rest[:, features.shape[1] :])

    def __len__(self) -> int:
        return len(self._first)

    def _parts(self) -> Iterator[slice]:
        for start in range(0, len(self), _TOGETHER):
            yield slice(start, min(len(self), start + _TOGETHER))

    @torch.no_grad()
    def displacement(self, local: torch.Tensor, tick: Tick = unheard) -> torch.Tensor:
        """[N, 3] mm for the [N, local_size] local codes of the points."""
        found = local.new_empty(len(self), 3)
        for part in self._parts():
            tick(part.start / len(self))
            found[part] = self._decoder.last(self._hidden(local[part], part)[0]) * self._scale
        return found

    @torch.no_grad()
    def linearised(self, local: torch.Tensor, tick: Tick = unheard) -> tuple[torch.Tensor, torch.Tensor]:
        """The displacement [N, 3] mm and its derivative [N, 3, local_size] with respect to the local code."""
        found, slope = local.new_empty(len(self), 3), local.new_empty(len(self), 3, self._local)
        for part in self._parts():
            tick(part.start / len(self))
            hidden, sines, gates, arguments = self._hidden(local[part], part)
            found[part] = self._decoder.last(hidden) * self._scale
            slope[part] = self._slope(sines, gates, arguments) * self._scale
        return found, slope

    def _hidden(
        self, local: torch.Tensor, part: slice
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Last hidden layer, and of every layer the sine, the gate, and omega times the argument of the sine."""
        hidden, sines = self._first[part], [self._first[part]]
        gates: list[torch.Tensor] = []
        arguments: list[torch.Tensor] = []
        for number, (constant, of_code) in enumerate(zip(self._gates, self._of_code, strict=True)):
            gate = torch.addmm(constant[part], local, of_code.t())
            if number:
                gate.addmm_(gates[-1], self._of_gate[number].t())
                arguments.append(self._decoder.omega(number) * self._decoder.sine(number)(hidden))
                sines.append(arguments[-1].sin())
            gates.append(gate.relu_())
            hidden = sines[-1] * gates[-1]
        return hidden, sines, gates, arguments

    def _slope(
        self, sines: list[torch.Tensor], gates: list[torch.Tensor], arguments: list[torch.Tensor]
    ) -> torch.Tensor:
        """[n, 3, local_size] in units of the code spacing: the chain rule, from the last layer to the first."""
        count, width = sines[0].shape
        of_hidden = self._decoder.last.weight[None].expand(count, 3, width)
        of_gate: torch.Tensor | None = None
        total: torch.Tensor | None = None
        for number in range(len(sines) - 1, -1, -1):
            push = of_hidden * sines[number][:, None]
            if of_gate is not None:
                push += of_gate
            push *= (gates[number] > 0)[:, None]
            flat = push.reshape(-1, width)
            total = flat @ self._of_code[number] if total is None else total.addmm_(flat, self._of_code[number])
            if number:
                of_gate = (flat @ self._of_gate[number]).view(count, 3, width)
                rate = gates[number] * arguments[number - 1].cos() * self._decoder.omega(number)
                of_hidden = (of_hidden * rate[:, None]).reshape(-1, width) @ self._decoder.sine(number).weight
                of_hidden = of_hidden.view(count, 3, width)
        assert total is not None
        return total.view(count, 3, self._local)
