"""Quantisation-aware training: the dense network with the spike counts of the neurons that it is converted to.

Normalisation stays, so that training goes as well as the dense one's; every activation is already what a neuron's count
of T steps can say. Converting it (`spiking.conversion`) changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from SpikeRegLib.spiking.neurons import surrogate_floor
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import AnalogUNet, key


class CountingUNet(AnalogUNet):
    """Activations are theta / T times a count of 0..T, with straight-through gradients for weights and thresholds.

    Args:
        teacher: whose weights and statistics it begins with, and whose T is used.
        thresholds: theta per layer and channel, see `spiking.conversion.calibrate`.
    """

    def __init__(self, teacher: AnalogUNet, thresholds: Mapping[str, torch.Tensor]) -> None:
        super().__init__(teacher.spec)
        self.load_state_dict(teacher.state_dict())
        self.log_thresholds = nn.ParameterDict()
        for layer in self.spec.spiking_layers:
            self.log_thresholds[key(layer.name)] = nn.Parameter(thresholds[layer.name].detach().log())

    def thresholds(self) -> dict[str, torch.Tensor]:
        """Per layer and channel, as `convert` takes them."""
        return {layer.name: self.log_thresholds[key(layer.name)].exp() for layer in self.spec.spiking_layers}

    def _activation(self, layer: Layer, drive: torch.Tensor) -> torch.Tensor:
        unit = self.log_thresholds[key(layer.name)].exp()[:, None, None, None] / self.spec.timesteps
        return surrogate_floor(drive / unit + 0.5, self.spec.timesteps) * unit
