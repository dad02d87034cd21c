"""The spiking network in integers: counts are exact in unsigned 8 bit, only weights are rounded (see rounding.py).

All tensors between layers are counts (uint8) in channels-last order. What is not the plain convolution:

- The head has three channels where processors want sixteen: its three taps along D are nine channels of one
  convolution, whose planes are then shifted and added.
- A transposed convolution (kernel = stride) is a pointwise one for every place within the stride.

Up-sampled counts are not convolved on their coarse grid, with one 2^3 kernel for each parity of the output's place:
that takes two thirds fewer multiplications, but its sums have to be kept in float32 until they are added, and moving
those costs more than it saves on all but small grids.

The first layer reads the image in 127 levels. Drives are exact, so the closed form, the simulation of events and the
same sums in float32 agree to the last spike.
"""

from __future__ import annotations

import itertools

import torch

from SpikeRegLib.networks.integer_convolution import IntegerConvolution
from SpikeRegLib.networks.rounding import LEVELS, NotRepresentable, RoundedWeights, round_weights
from SpikeRegLib.spiking.intensity import to_levels
from SpikeRegLib.spiking.neurons import closed_form_counts, simulate_counts
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import Recorder, RegistrationUNet, SpikingUNet, merge_inputs, whole_patches

# Levels of the image above 0; more would overflow the 16-bit sums of processors without 8-bit dot products.
IMAGE_LEVELS = 127


class IntegerUNet(RegistrationUNet):
    """A spiking network with its weights rounded to integers.

    Args:
        network: not changed; later changes of it are not seen. Its `mode` is taken over ("surrogate" is for training).
        native: use oneDNN, see integer_convolution.py; otherwise the same numbers come from float32.

    Raises:
        NotRepresentable: the network cannot be computed in these integers.
    """

    arithmetic = "int8"

    @torch.no_grad()
    def __init__(self, network: SpikingUNet, *, native: bool = True) -> None:
        super().__init__(network.spec)
        self.smoothing = network.smoothing
        self.mode = "events" if network.mode == "events" else "closed_form"
        if network.input_coding != "direct":
            raise NotRepresentable("spikes of the input change from step to step; integers need a constant current")
        if network.spec.timesteps > LEVELS:
            raise NotRepresentable(f"counts up to {network.spec.timesteps} do not fit; {LEVELS} do")
        self.dynamics = {layer.name: network.dynamics_of(layer) for layer in self.spec.spiking_layers}
        self.convolutions: dict[str, _Convolution] = {}
        for layer in self.spec.layers:
            weight, bias = network.count_weights(layer)
            if layer.inputs == ("image",):
                weight = weight / IMAGE_LEVELS
            largest = IMAGE_LEVELS if layer.inputs == ("image",) else self.spec.timesteps
            if layer.transposed:
                kind: type[_Convolution] = _Transposed
            elif not layer.neuron and layer.stride == 1:
                kind = _Head
            else:
                kind = _Convolution
            self.convolutions[layer.name] = kind(layer, weight, bias, largest=largest, native=native)

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        return to_levels(image, IMAGE_LEVELS, standardised=self.spec.standardise)

    def _run(self, layer: Layer, values: dict[str, torch.Tensor], recorder: Recorder | None) -> torch.Tensor:
        convolution, dynamics = self.convolutions[layer.name], self.dynamics.get(layer.name)
        if dynamics is None:
            output = convolution.drive(values, 0.0)
        elif self.mode == "events":
            output = simulate_counts(convolution.drive(values, 0.0), dynamics).to(torch.uint8)
        elif dynamics.rounds:
            output = convolution.counts(values, dynamics.timesteps)
        else:
            output = closed_form_counts(convolution.drive(values, 0.0).contiguous(), dynamics).to(torch.uint8)
        if recorder is not None:
            recorder(layer, merge_inputs(layer, values) if getattr(recorder, "reads_inputs", True) else [], output)
        return output


class _Convolution:
    """A layer: its drive, or the counts of neurons that round, from the counts of its inputs.

    Args:
        layer, weight, bias: see `SpikingUNet.count_weights`.
        largest: input that can occur.
    """

    def __init__(self, layer: Layer, weight: torch.Tensor, bias: torch.Tensor, *, largest: int, native: bool) -> None:
        self.layer, self.native, self.largest = layer, native, largest
        self._prepare(weight, bias)

    def _rounded(
        self, parts: list[torch.Tensor], bias: torch.Tensor, padding: tuple[int, int, int]
    ) -> IntegerConvolution:
        """One convolution of all parts [out, variants, in, k, k, k], see `round_weights`; keeps their bias."""
        rounded, self.bias = round_weights(parts, bias, largest_inputs=[self.largest] * len(parts))
        together = RoundedWeights(torch.cat([r.weight for r in rounded], 1), torch.cat([r.scale for r in rounded], 1))
        stride = 1 if self.layer.transposed else self.layer.stride
        return IntegerConvolution(together, stride=stride, padding=padding, native=self.native)

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        padding = self.layer.kernel // 2 if self.layer.kernel % 2 else 0
        self.whole = self._rounded([weight[:, None]], bias, (padding,) * 3)

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        """The drive + shift, [B, C, D, H, W] float32; exact for a shift of 1/2."""
        return self.whole(self._read(values), self.bias + shift, torch.float32)

    def counts(self, values: dict[str, torch.Tensor], timesteps: int) -> torch.Tensor:
        """clip(floor(drive + 1/2), 0, T): rounding to nearest gives it, as no drive is half-way, and saturates at 0."""
        return self.whole(self._read(values), self.bias, torch.uint8).clamp_(max=timesteps)

    def _read(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        x, _ = whole_patches(self.layer, _concatenated(merge_inputs(self.layer, values)))
        return x.contiguous(memory_format=torch.channels_last_3d)


class _FromDrive(_Convolution):
    """Layers that put their drive together from parts."""

    def counts(self, values: dict[str, torch.Tensor], timesteps: int) -> torch.Tensor:
        return self.drive(values, 0.5).clamp_(0, timesteps).to(torch.uint8)


class _Head(_FromDrive):
    """Few channels: the taps along D as channels of one convolution."""

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        reach = self.layer.kernel // 2
        self.no_bias = torch.zeros(self.layer.kernel * len(bias))
        self.taps = self._rounded([tap[:, None, :, None] for tap in weight.unbind(2)], bias, (0, reach, reach))

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        planes = self.taps(_concatenated(merge_inputs(self.layer, values)), self.no_bias, torch.float32)
        depth, reach = planes.shape[2], self.layer.kernel // 2
        channels = len(self.bias)
        drive = planes[:, reach * channels : (reach + 1) * channels] + (self.bias + shift).view(1, -1, 1, 1, 1)
        for tap in range(-reach, reach + 1):
            length = depth - abs(tap)
            if tap and length > 0:
                part = planes[:, (tap + reach) * channels : (tap + reach + 1) * channels]
                drive.narrow(2, max(-tap, 0), length).add_(part.narrow(2, max(tap, 0), length))
        return drive


class _Transposed(_FromDrive):
    """Kernel = stride: a pointwise convolution for every place within the stride."""

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        places = weight.flatten(2).permute(1, 2, 0)[..., None, None, None]
        self.no_bias = torch.zeros(places.shape[1] * len(bias))
        self.places = self._rounded([places], bias, (0, 0, 0))

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        stride = self.layer.stride
        x = _concatenated(merge_inputs(self.layer, values))
        batch, _, *grid = x.shape
        parts = self.places(x, self.no_bias, torch.float32)
        channels = len(self.bias)
        drive = torch.empty(batch, *(n * stride for n in grid), channels).permute(0, 4, 1, 2, 3)
        for place, (a, b, c) in enumerate(itertools.product(range(stride), repeat=3)):
            part = parts[:, place * channels : (place + 1) * channels]
            drive[:, :, a::stride, b::stride, c::stride] = part + (self.bias + shift).view(1, -1, 1, 1, 1)
        return drive


def _concatenated(inputs: list[torch.Tensor]) -> torch.Tensor:
    together = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
    return together.contiguous(memory_format=torch.channels_last_3d)
