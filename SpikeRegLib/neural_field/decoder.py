"""The decoder: a SIREN (Sitzmann et al. 2020) whose hidden layers are gated by a network that reads the code (Mehta et
al. 2021), as NePhi has it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.system.devices import seed_cpu


class FourierFeatures(nn.Module):
    """Sine and cosine of random projections of a position (Tancik et al. 2020); fixed, not trained.

    With `cell_phase` also of the phase within a cell of the local codes, along each axis.
    """

    frequencies: torch.Tensor

    def __init__(self, options: FieldSizes) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(options.decoder_seed)
        directions = torch.randn(3, options.frequencies, generator=random) * options.frequency_scale
        self.register_buffer("frequencies", directions / options.extent_mm)
        self.cell_phase = options.cell_phase
        self.size = 2 * options.frequencies + (6 if options.cell_phase else 0)

    def forward(self, position: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """[N, size] features.

        Args:
            position: [N, 3] mm from the centre of the field.
            cells: [N, 3] position in cells of the local codes, from the first of them.
        """
        angles = 2 * math.pi * (position @ self.frequencies)
        features = [angles.sin(), angles.cos()]
        if self.cell_phase:
            phase = 2 * math.pi * cells
            features += [phase.sin(), phase.cos()]
        return torch.cat(features, 1)


class Decoder(nn.Module):
    """Code and position -> displacement, in units of the distance of two local codes.

    h_0 = features; h_i = sin(omega_i (W_i h_{i-1} + b_i)) * g_i, where the gates g_i = relu(M_i [code, features,
    g_{i-1}] + c_i); the displacement is a linear function of the last h, zero at first: the identity.

    Args:
        options: sizes; `decoder_seed` decides the first weights.
    """

    def __init__(self, options: FieldSizes) -> None:
        super().__init__()
        self.options = options
        self.features = FourierFeatures(options)
        with torch.random.fork_rng(devices=[]):
            seed_cpu(options.decoder_seed)
            self.sines, self.gates = nn.ModuleList(), nn.ModuleList()
            read, gated = self.features.size, options.code_size + self.features.size
            for number in range(options.hidden_layers):
                sine, gate = nn.Linear(read, options.width), nn.Linear(gated, options.width)
                bound = math.sqrt(6 / read) / self.omega(number)
                nn.init.uniform_(sine.weight, -bound, bound)
                nn.init.zeros_(sine.bias)
                nn.init.constant_(gate.bias, 0.5)
                self.sines.append(sine)
                self.gates.append(gate)
                read, gated = options.width, options.code_size + self.features.size + options.width
            self.last = nn.Linear(options.width, 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def omega(self, layer: int) -> float:
        """Factor on the argument of a hidden layer's sines."""
        return self.options.hidden_omega if layer else self.options.first_omega

    def sine(self, layer: int) -> nn.Linear:
        """The linear map inside the sine of a hidden layer."""
        found = self.sines[layer]
        assert isinstance(found, nn.Linear)
        return found

    def gate(self, layer: int) -> nn.Linear:
        """The linear map inside the gate of a hidden layer."""
        found = self.gates[layer]
        assert isinstance(found, nn.Linear)
        return found

    def forward(self, code: torch.Tensor, position: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """[N, 3] displacement (x, y, z) in distances of local codes.

        Args:
            code: [N, code_size], the local code and the global one.
            position, cells: see `FourierFeatures`.
        """
        features = self.features(position, cells)
        read = torch.cat((code, features), 1)
        hidden, gate = features, None
        for number, (sine, modulation) in enumerate(zip(self.sines, self.gates, strict=True)):
            gate = torch.relu(modulation(read if gate is None else torch.cat((read, gate), 1)))
            hidden = torch.sin(self.omega(number) * sine(hidden)) * gate
        return self.last(hidden)
