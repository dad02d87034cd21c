"""Small networks of both specs, and images for them."""

from __future__ import annotations

from dataclasses import replace

import torch

from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import NetworkSpec, paper_unet, velocity_unet
from SpikeRegLib.spiking.unet import SpikingUNet


def tiny_velocity() -> NetworkSpec:
    return velocity_unet("tiny", encoder=(4, 6, 8, 8), decoder=(8, 6, 6))


def tiny_patches() -> NetworkSpec:
    """Like the released networks: the image is read in patches that do not overlap."""
    return velocity_unet("tiny-patches", encoder=(4, 6, 8, 8), decoder=(8, 6, 6), stem=6, stem_kernel=2)


def tiny_paper() -> NetworkSpec:
    """The paper's topology with its transposed convolutions, merges and leaks, and a quarter of its channels."""
    full = paper_unet()

    def fewer(channels: int) -> int:
        return channels if channels in (2, 3) else channels // 4

    layers = [replace(x, in_channels=fewer(x.in_channels), out_channels=fewer(x.out_channels)) for x in full.layers]
    return replace(full, name="tiny-paper", layers=tuple(layers))


def image(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    noise = torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(seed))
    return gaussian(noise, 1.0)


def random_spiking(spec: NetworkSpec, dynamics: NeuronDynamics | None = None) -> SpikingUNet:
    """A network that fires: random weights, biases and thresholds, some channels silent, some saturated."""
    torch.manual_seed(5)
    network = SpikingUNet(spec, dynamics=dynamics).eval()
    with torch.no_grad():
        for bias in network.biases.values():
            bias.normal_(0.1, 0.3)
        for threshold in network.log_thresholds.values():
            threshold.normal_(-1.0, 0.4)
    return network
