"""From the dense teacher to the spiking network without changing the function (ANN-to-SNN conversion).

1. BatchNorm is folded into the convolution. 2. Each channel's threshold is a high percentile of its positive
activations, from a streaming histogram over training pairs. 3. Counts carry the unit theta / T, which moves into the
weights that read them, branch by branch. 4. Soft reset from half the threshold makes the count round to nearest.
What is left is rounding to T steps and clipping above the percentile (Rueckauer et al. 2017; Li et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet, key


def fold_normalisation(teacher: AnalogUNet, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of one convolution that equal convolution + BatchNorm with its running statistics."""
    weight = teacher.weights[key(layer.name)].detach()
    if not layer.neuron:
        return weight.clone(), teacher.head_bias.detach().clone()
    norm = teacher.norms[key(layer.name)]
    assert isinstance(norm, nn.BatchNorm3d) and norm.running_var is not None and norm.running_mean is not None
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    axis = 1 if layer.transposed else 0
    folded = weight * gain.view([-1 if a == axis else 1 for a in range(5)])
    return folded, (norm.bias - norm.running_mean * gain).detach()


class ActivationHistogram:
    """Percentiles of positive activations per channel, streamed over any number of images.

    Bins are logarithmic over 1e-5 .. 1e3, smaller values do not count as positive. A percentile is the upper edge of
    its bin, so that it lies at most one bin, 0.9 %, above the exact one and never below.
    """

    BINS = 2048
    LOW, HIGH = 1e-5, 1e3

    def __init__(self, channels: int) -> None:
        self.counts = torch.zeros(channels, self.BINS, dtype=torch.float64)
        self.edges = torch.logspace(math.log10(self.LOW), math.log10(self.HIGH), self.BINS + 1)

    def add(self, activations: torch.Tensor) -> None:
        """Count the activations [B, C, ...] of one batch."""
        values = activations.detach().float().cpu().transpose(0, 1).flatten(1)
        for channel, row in enumerate(values):
            positive = row[row > self.LOW]
            index = torch.bucketize(positive, self.edges, right=True) - 1
            self.counts[channel] += torch.bincount(index.clamp(0, self.BINS - 1), minlength=self.BINS)

    def percentile(self, percent: float) -> torch.Tensor:
        """The smallest value that `percent` of the positive activations do not exceed, [channels]; 1 for a channel
        that was never positive."""
        total = self.counts.sum(1, keepdim=True)
        share = self.counts.cumsum(1) / total.clamp_min(1)
        index = (share >= percent / 100 - 1e-12).float().argmax(1)
        return torch.where(total[:, 0] > 0, self.edges[1:][index], torch.ones(len(index)))


def calibrate(
    teacher: AnalogUNet, images: Iterable[torch.Tensor], percentiles: tuple[float, ...]
) -> dict[float, dict[str, torch.Tensor]]:
    """Thresholds of every spiking layer at each percentile, from one run of the teacher over `images`.

    Args:
        teacher: in evaluation mode.
        images: [B, 2, D, H, W] training pairs (never evaluation data).
        percentiles: of the positive activations, e.g. (99.0, 99.9).
    """
    histograms = {layer.name: ActivationHistogram(layer.out_channels) for layer in teacher.spec.spiking_layers}

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        if layer.neuron:
            histograms[layer.name].add(output)

    with torch.no_grad():
        for image in images:
            teacher(image, recorder=record)
    return {
        percent: {name: histogram.percentile(percent) for name, histogram in histograms.items()}
        for percent in percentiles
    }


def convert(
    teacher: AnalogUNet,
    thresholds: dict[str, torch.Tensor],
    *,
    timesteps: int | None = None,
    dynamics: NeuronDynamics | None = None,
) -> SpikingUNet:
    """The spiking network with the teacher's function.

    Args:
        teacher: trained, with BatchNorm statistics.
        thresholds: per layer and channel, from `calibrate`.
        timesteps: T; the spec's own if not given.
        dynamics: reset, leak and refractory period of the neurons; default integrate-and-fire with soft reset. A leak
            in the spec multiplies on top and costs accuracy: conversion is exact only without.
    """
    spec = teacher.spec if timesteps is None else teacher.spec.with_timesteps(timesteps)
    network = SpikingUNet(spec, dynamics=dynamics)
    with torch.no_grad():
        for layer in spec.layers:
            weight, bias = fold_normalisation(teacher, layer)
            network.weights[key(layer.name)].copy_(weight)
            network.biases[key(layer.name)].copy_(bias)
            if layer.neuron:
                network.log_thresholds[key(layer.name)].copy_(thresholds[layer.name].log())
        if network.smoothing is not None and teacher.smoothing is not None:
            network.smoothing.load_state_dict(teacher.smoothing.state_dict())
    return network.eval()
