"""Networks small enough to train in a test, with parameters that a seed decides."""

from __future__ import annotations

import torch
from torch import nn

from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.spec import NetworkSpec, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet

SPEC: NetworkSpec = velocity_unet("tiny", encoder=(4, 6, 6, 6), decoder=(6, 6, 4))


def new_network(kind: str, seed: int = 1, image: torch.Tensor | None = None) -> RegistrationUNet:
    """A dense network, or the spiking one converted from it with the statistics of `image` (noise if not given)."""
    torch.manual_seed(seed)
    network = AnalogUNet(SPEC)
    if kind == "analog":
        return network
    image = torch.rand(1, 2, 32, 32, 32) if image is None else image
    with torch.no_grad():
        for norm in network.norms.values():
            assert isinstance(norm, nn.BatchNorm3d)
            norm.momentum = 1.0
        network.train()(image)
    network.eval()
    return convert(network, calibrate(network, [image], (99.0,))[99.0])
