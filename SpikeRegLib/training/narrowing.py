"""A narrower network from a trained one: the channels that carry most are kept, with the weights between them.

Training a narrow network from these weights takes a fraction of the steps that new weights need.
"""

from __future__ import annotations

import torch
from torch import nn

from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import AnalogUNet, key


def can_narrow(spec: NetworkSpec, wide: NetworkSpec) -> bool:
    """Whether `wide` has the same layers with at least as many channels, and more in some; images and heads alike."""
    if len(spec.layers) != len(wide.layers):
        return False
    if (spec.output, spec.input_spacing_mm) != (wide.output, wide.input_spacing_mm):
        return False
    for mine, given in zip(spec.layers, wide.layers, strict=True):
        for attribute in ("name", "inputs", "kernel", "stride", "upsample", "merge", "transposed", "neuron"):
            if getattr(mine, attribute) != getattr(given, attribute):
                return False
        if mine.out_channels > given.out_channels or (not mine.neuron and mine.out_channels != given.out_channels):
            return False
    return any(a.out_channels < b.out_channels for a, b in zip(spec.layers, wide.layers, strict=True))


def narrowed_state(wide: AnalogUNet, spec: NetworkSpec) -> dict[str, torch.Tensor]:
    """The tensors of an `AnalogUNet` of `spec` that keeps, of every layer of `wide`, the channels that carry most.

    A channel carries its mean activation, as BatchNorm's shift and scale give it for normal currents, times the
    absolute weights of all layers that read it. No image is needed.

    Args:
        wide: trained.
        spec: see `can_narrow`.

    Raises:
        ValueError: the layers do not fit.
    """
    if not can_narrow(spec, wide.spec):
        raise ValueError(f"{spec.name} is no narrower version of {wide.spec.name}")
    kept: dict[str, torch.Tensor] = {"image": torch.arange(2)}
    for layer in spec.spiking_layers:
        kept[layer.name] = _importance(wide, layer.name).topk(layer.out_channels).indices.sort().values
    kept[spec.head.name] = torch.arange(spec.head.out_channels)
    state = AnalogUNet(spec).state_dict()
    for layer, given in zip(spec.layers, wide.spec.layers, strict=True):
        outputs, inputs = kept[layer.name], _merged_channels(given, wide.spec, kept)
        rows, columns = (inputs, outputs) if layer.transposed else (outputs, inputs)
        name = key(layer.name)
        state[f"weights.{name}"] = wide.weights[name].detach()[rows][:, columns].clone()
        if layer.neuron:
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                state[f"norms.{name}.{tensor}"] = wide.state_dict()[f"norms.{name}.{tensor}"][outputs].clone()
    for name in state.keys() & {"head_bias", "smoothing.weight"}:
        state[name] = wide.state_dict()[name].clone()
    return state


def _importance(wide: AnalogUNet, name: str) -> torch.Tensor:
    """What each channel of a layer carries, see `narrowed_state`."""
    norm = wide.norms[key(name)]
    assert isinstance(norm, nn.BatchNorm3d)
    mean, spread = norm.bias.detach(), norm.weight.detach().abs().clamp_min(1e-6)
    normal = torch.distributions.Normal(0.0, 1.0)
    ratio = mean / spread
    activation = mean * normal.cdf(ratio) + spread * normal.log_prob(ratio).exp()
    read = torch.zeros_like(activation)
    for layer in wide.spec.layers:
        weight = wide.weights[key(layer.name)].detach().abs()
        per_input = weight.sum((1, 2, 3, 4)) if layer.transposed else weight.sum((0, 2, 3, 4))
        start = 0
        for source in layer.inputs:
            width = wide.spec.channels[source]
            if source == name:
                read += per_input[start : start + width]
            start += width if layer.merge == "concat" else 0
    return activation * read


def _merged_channels(layer: Layer, wide: NetworkSpec, kept: dict[str, torch.Tensor]) -> torch.Tensor:
    """Places of the kept channels among the inputs of a layer of the wide network."""
    if layer.merge == "average":
        return kept[layer.inputs[0]]
    places, start = [], 0
    for source in layer.inputs:
        places.append(kept[source] + start)
        start += wide.channels[source]
    return torch.cat(places)
