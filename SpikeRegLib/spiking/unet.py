"""The U-Net of a spec, dense (`AnalogUNet`) and spiking (`SpikingUNet`): the same layers, order and skips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from SpikeRegLib.space.fields import exponential, upsample
from SpikeRegLib.spiking.intensity import standardise
from SpikeRegLib.spiking.neurons import (
    NeuronDynamics,
    closed_form_counts,
    simulate_counts,
    simulate_varying,
    surrogate_counts,
    surrogate_floor,
    surrogate_varying,
)
from SpikeRegLib.spiking.spec import Layer, NetworkSpec

# Called with (layer, the inputs of its convolution, its output) while a network runs; see spiking/activity.py. One
# whose attribute `reads_inputs` is False may be given no inputs, which spares a network merging what it reads in parts.
Recorder = Callable[[Layer, list[torch.Tensor], torch.Tensor], None]


def key(name: str) -> str:
    """Module names may not contain dots."""
    return name.replace(".", "_")


def merge_inputs(layer: Layer, values: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The inputs of a layer, up-sampled by nearest neighbour and cropped to their common grid."""
    inputs = []
    for name, factor in zip(layer.inputs, layer.upsample, strict=True):
        value = values[name]
        inputs.append(functional.interpolate(value, scale_factor=factor, mode="nearest") if factor > 1 else value)
    if len(inputs) > 1:
        depth, height, width = (min(value.shape[axis] for value in inputs) for axis in (2, 3, 4))
        inputs = [value[:, :, :depth, :height, :width] for value in inputs]
    return inputs


def whole_patches(layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """What the layer's convolution reads, with zeros behind it where its last patches are not full; and its padding."""
    if layer.kernel % 2:
        return x, layer.kernel // 2
    missing = [-n % layer.stride for n in reversed(x.shape[2:])]
    return (functional.pad(x, [part for n in missing for part in (0, n)]) if any(missing) else x), 0


def convolve(layer: Layer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The layer's convolution.

    Output n of a strided one is centred on input `stride * n`; one of patches (kernel = stride) begins there.
    """
    if layer.transposed:
        return functional.conv_transpose3d(x, weight, bias, stride=layer.stride)
    x, padding = whole_patches(layer, x)
    return functional.conv3d(x, weight, bias, stride=layer.stride, padding=padding)


def new_weight(layer: Layer) -> torch.Tensor:
    """An uninitialised weight of the layer's convolution, in torch's order of channels."""
    shape = (layer.in_channels, layer.out_channels) if layer.transposed else (layer.out_channels, layer.in_channels)
    return torch.empty(*shape, *(layer.kernel,) * 3)


def poisson_spikes(image: torch.Tensor, timesteps: int, seed: int) -> Iterator[torch.Tensor]:
    """One tensor of zeros and ones a time step, each voxel 1 with a probability equal to its intensity in [0, 1]."""
    random = torch.Generator(image.device).manual_seed(seed)
    for _ in range(timesteps):
        yield (torch.rand(image.shape, generator=random, device=image.device) < image).to(image.dtype)


class RegistrationUNet(nn.Module):
    """What both twins share: walking the layers of the spec and turning the head into a displacement."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.smoothing = nn.Conv3d(3, 3, 3, padding=1, groups=3, bias=False) if spec.smoothing else None
        if self.smoothing is not None:
            nn.init.constant_(self.smoothing.weight, 1 / 27)
        last_use = {name: index for index, layer in enumerate(spec.layers) for name in layer.inputs}
        self._finished = [[n for n, i in last_use.items() if i == index] for index in range(len(spec.layers))]

    def _layer(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, image: torch.Tensor, *, recorder: Recorder | None = None) -> torch.Tensor:
        """The head's output, [B, C, d, h, w]: three channels in voxels of its own grid, codes, or logits of patches.

        Args:
            image: [B, 2, D, H, W], fixed and moving, intensities in [0, 1]; one channel for a network that reads one.
            recorder: sees the inputs and the output of every layer.
        """
        return self.output(self.prepared(image), recorder=recorder)

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        """What the first layer reads, [B, 2, D, H, W]: figures of the whole image go in here, so never of a tile."""
        return standardise(image) if self.spec.standardise else image

    def output(self, prepared: torch.Tensor, *, recorder: Recorder | None = None) -> torch.Tensor:
        """`forward` of an image that `prepared` gave, or of a part of one."""
        values = {"image": self._encoded(prepared)}
        for index, layer in enumerate(self.spec.layers):
            values[layer.name] = self._run(layer, values, recorder)
            for name in self._finished[index]:
                del values[name]
        output = values[self.spec.head.name].float()
        return output if self.smoothing is None else self.smoothing(output).float()

    def _encoded(self, prepared: torch.Tensor) -> torch.Tensor:
        """The image in the form in which the layers compute."""
        return prepared

    def _run(self, layer: Layer, values: dict[str, torch.Tensor], recorder: Recorder | None) -> torch.Tensor:
        inputs = merge_inputs(layer, values)
        output = self._layer(layer, inputs)
        if recorder is not None:
            recorder(layer, inputs, output)
        return output

    def displacement(self, image: torch.Tensor, *, sign: float = 1.0, recorder: Recorder | None = None) -> torch.Tensor:
        """The displacement fixed -> moving on the input grid, [B, 3, D, H, W] in input voxels.

        With a velocity head, `sign=-1` gives the inverse map, moving -> fixed, at no further cost of training.
        """
        return self.integrate(self.forward(image, recorder=recorder), tuple(image.shape[2:]), sign=sign)

    def integrate(self, output: torch.Tensor, shape: tuple[int, ...], *, sign: float = 1.0) -> torch.Tensor:
        """The displacement on a grid of `shape` from the head's output, see `displacement`.

        Raises:
            ValueError: the inverse of a network that predicts a displacement is asked for, or there is no field.
        """
        if self.spec.output in ("codes", "structures"):
            raise ValueError(f"spec {self.spec.name} gives {self.spec.output}, no displacement")
        if self.spec.output == "velocity":
            output = exponential(sign * output)
        elif sign != 1.0:
            raise ValueError(f"spec {self.spec.name} predicts a displacement; invert it numerically")
        depth, height, width = shape
        return upsample(output, (depth, height, width), self.spec.output_stride())


class AnalogUNet(RegistrationUNet):
    """The dense twin (teacher): convolution, BatchNorm, ReLU."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.weights = nn.ParameterDict()
        self.norms = nn.ModuleDict()
        for layer in spec.layers:
            weight = nn.Parameter(new_weight(layer))
            self.weights[key(layer.name)] = weight
            if layer.neuron:
                nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
                self.norms[key(layer.name)] = nn.BatchNorm3d(layer.out_channels, momentum=0.02)
            else:
                nn.init.normal_(weight, std=1e-3)
        self.head_bias = nn.Parameter(torch.zeros(spec.head.out_channels))

    def _layer(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        merged = (inputs[0] + inputs[1]) / 2 if layer.merge == "average" else torch.cat(inputs, 1)
        weight = self.weights[key(layer.name)]
        if not layer.neuron:
            return convolve(layer, merged, weight, self.head_bias)
        return self._activation(layer, self.norms[key(layer.name)](convolve(layer, merged, weight, None)))

    def _activation(self, layer: Layer, drive: torch.Tensor) -> torch.Tensor:
        return functional.relu(drive)

    def freeze_normalisation(self, frozen: bool = True) -> None:
        """Use the running statistics also while training, so that training and inference are the same function."""
        for norm in self.norms.values():
            norm.train(self.training and not frozen)


class SpikingUNet(RegistrationUNet):
    """The spiking network: every activation is a spike count, every weight reads counts.

    A layer with weights W and per-channel threshold theta reads counts n of its inputs, whose unit is theta_in / T, and
    computes the drive y = (T / theta) (W (theta_in / T) n + b) with one convolution; the count is a step function of y.

    `mode` is "closed_form" (default), "events" (time-step simulation of every neuron) or "surrogate" (closed form with
    straight-through gradients, for training). All three give the same counts.

    Args:
        spec: the layers.
        dynamics: of every neuron; integrate-and-fire with soft reset if not given.
        input_coding: "direct" (the image is a constant current) or "poisson" (in every time step each voxel spikes with
            a probability equal to its intensity; the first layer is then simulated step by step).
        seed: of the input spikes; the same seed gives the same spikes.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        dynamics: NeuronDynamics | None = None,
        input_coding: str = "direct",
        seed: int = 0,
    ) -> None:
        super().__init__(spec)
        if input_coding not in ("direct", "poisson"):
            raise ValueError(f"input_coding must be 'direct' or 'poisson', got {input_coding!r}")
        self.input_coding, self.seed = input_coding, seed
        self.base_dynamics = dynamics or NeuronDynamics()
        self.mode = "closed_form"
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        self.log_thresholds = nn.ParameterDict()
        for layer in spec.layers:
            weight = nn.Parameter(new_weight(layer))
            nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
            self.weights[key(layer.name)] = weight
            self.biases[key(layer.name)] = nn.Parameter(torch.zeros(layer.out_channels))
            if layer.neuron:
                self.log_thresholds[key(layer.name)] = nn.Parameter(torch.zeros(layer.out_channels))

    def dynamics_of(self, layer: Layer) -> NeuronDynamics:
        """The dynamics of a layer's neurons: the network's own with the T of the spec, and with both leaks."""
        leak = self.base_dynamics.leak * self.spec.leak_of(layer.name)
        return replace(self.base_dynamics, timesteps=self.spec.timesteps, leak=leak)

    def threshold(self, name: str) -> torch.Tensor:
        """Per channel, positive, in units of the dense twin's activation."""
        return self.log_thresholds[key(name)].exp()

    def count_weights(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and bias that map input counts straight to the drive y (for the head: to its output)."""
        weight, bias = self.weights[key(layer.name)], self.biases[key(layer.name)]
        steps = self.spec.timesteps
        if layer.inputs == ("image",):
            unit = weight.new_ones(layer.in_channels)
        else:
            unit = torch.cat([self.threshold(name) for name in layer.inputs]) / steps
        input_axis, output_axis = (0, 1) if layer.transposed else (1, 0)
        if layer.merge == "average":
            weight = torch.cat((weight, weight), input_axis) / 2
        weight = weight * unit.view([-1 if axis == input_axis else 1 for axis in range(5)])
        if not layer.neuron:
            return weight, bias
        gain = steps / self.threshold(layer.name)
        return weight * gain.view([-1 if axis == output_axis else 1 for axis in range(5)]), bias * gain

    def _layer(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        return self.fire(layer, inputs, *self.count_weights(layer))

    def fire(self, layer: Layer, inputs: list[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The counts of a layer (the head: its output) with the weights and bias of `count_weights`."""
        if self.input_coding == "poisson" and layer.inputs == ("image",) and layer.neuron:
            spikes = poisson_spikes(inputs[0], self.spec.timesteps, self.seed)
            drives = (convolve(layer, s, weight, bias) for s in spikes)
            if self.mode == "surrogate":
                return surrogate_varying(list(drives), self.dynamics_of(layer))
            return simulate_varying(drives, self.dynamics_of(layer))
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        dynamics = self.dynamics_of(layer)
        if layer.neuron and dynamics.rounds:
            # The half threshold of v_0 is one more constant current here: with it in the bias, counting is a floor.
            shifted = convolve(layer, x, weight, bias + 0.5)
            if self.mode == "events":
                return simulate_counts(shifted.double() - 0.5, dynamics).to(shifted.dtype)
            if self.mode == "surrogate":
                return surrogate_floor(shifted, dynamics.timesteps)
            return shifted.floor_().clamp_(0, dynamics.timesteps)
        drive = convolve(layer, x, weight, bias)
        if not layer.neuron:
            return drive
        if self.mode == "events":
            return simulate_counts(drive, dynamics)
        if self.mode == "surrogate":
            return surrogate_counts(drive, dynamics)
        return closed_form_counts(drive.contiguous(), dynamics)
