"""Networks made ready to run: everything that depends on weights alone is computed once, the arithmetic is chosen.

`deploy` takes the fastest arithmetic there is: "int8" for spiking networks on CPUs whose torch has the integer
convolution (see integer.py), else "bfloat16" where the processor computes it natively, else "float32".
"""

from __future__ import annotations

import torch
from torch.nn import functional

from SpikeRegLib.networks import integer_convolution
from SpikeRegLib.networks.integer import IntegerUNet
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.networks.rounding import NotRepresentable
from SpikeRegLib.spiking.conversion import fold_normalisation
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet, convolve


class FloatUNet(RegistrationUNet):
    """A network with its constants in floating point: BatchNorm folded, count weights multiplied out, one memory order.

    Args:
        network: dense (its running statistics are used) or spiking; not changed, later changes of it are not seen.
        precision: the device, where the network must be, and bfloat16 or float32. Thresholds stay float32.
    """

    @torch.no_grad()
    def __init__(self, network: RegistrationUNet, precision: Precision) -> None:
        super().__init__(network.spec)
        self.smoothing = network.smoothing
        self.arithmetic = precision.name
        self.dtype = torch.bfloat16 if precision.bfloat16 else torch.float32
        # Metal has no channels-last order of volumes.
        self.order = torch.contiguous_format if precision.device == "mps" else torch.channels_last_3d
        self.source = network if isinstance(network, SpikingUNet) else None
        self.constants: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer in self.spec.layers:
            if isinstance(network, SpikingUNet):
                weight, bias = network.count_weights(layer)
            else:
                assert isinstance(network, AnalogUNet)
                weight, bias = fold_normalisation(network, layer)
                if layer.merge == "average":
                    axis = 0 if layer.transposed else 1
                    weight = torch.cat((weight, weight), axis) / 2
            self.constants[layer.name] = weight.to(self.dtype).contiguous(memory_format=self.order), bias.to(self.dtype)

    def _encoded(self, prepared: torch.Tensor) -> torch.Tensor:
        return prepared.to(self.dtype).contiguous(memory_format=self.order)

    def _layer(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        weight, bias = self.constants[layer.name]
        if self.source is not None:
            return self.source.fire(layer, inputs, weight, bias)
        output = convolve(layer, inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1), weight, bias)
        return functional.relu_(output) if layer.neuron else output


def deploy(network: RegistrationUNet, device: str) -> RegistrationUNet:
    """The network in the fastest arithmetic of a device; its attribute `arithmetic` names it.

    Args:
        network: dense or spiking, in evaluation mode. Other modules are returned as they are.
        device: "cpu", "cuda" or "mps"; the network is moved there.
    """
    if isinstance(network, SpikingUNet) and device == "cpu" and integer_convolution.available():
        try:
            return IntegerUNet(network.to(device))
        except NotRepresentable:
            pass
    if isinstance(network, (SpikingUNet, AnalogUNet)):
        return FloatUNet(network.to(device), Precision.best(device))
    return network.to(device)
