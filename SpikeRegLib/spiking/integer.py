"""The spiking network in integers: counts are exact in unsigned 8 bit, only weights are rounded (see rounding.py).

All tensors between layers are counts (uint8) in channels-last order. What is not the plain convolution:

- Nearest-neighbour up-sampling by 2 before a 3^3 kernel lets each output read 2^3 different counts at most, so the
  convolution is made on the coarse grid with eight 2^3 kernels, one for each parity of the output's position, which
  hold sums of the weights: 64 taps instead of 216.
- The head has three channels where processors want sixteen: its three taps along D are nine channels of one
  convolution, whose planes are then shifted and added.
- A transposed convolution (kernel = stride) is a pointwise one for every place within the stride.

The first layer reads the image in 127 levels. Drives are exact, so the closed form, the simulation of events and the
same sums in float32 agree to the last spike.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional

from SpikeRegLib.spiking.integer_convolution import IntegerConvolution
from SpikeRegLib.spiking.neurons import closed_form_counts, simulate_counts
from SpikeRegLib.spiking.rounding import LEVELS, NotRepresentable, round_weights
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import Recorder, RegistrationUNet, SpikingUNet, merge_inputs

# Levels of the image above 0; more would overflow the 16-bit sums of processors without 8-bit dot products.
IMAGE_LEVELS = 127
# Coarse taps that the fine taps -1, 0, 1 fall on, in a window of two, for both parities of the output's position.
WINDOW = ((0, 1, 1), (0, 0, 1))


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
        widths = {"image": 2, **{layer.name: layer.out_channels for layer in self.spec.layers}}
        for layer in self.spec.layers:
            weight, bias = network.count_weights(layer)
            if layer.inputs == ("image",):
                weight = weight / IMAGE_LEVELS
            given = [widths[name] for name in layer.inputs]
            largest = IMAGE_LEVELS if layer.inputs == ("image",) else self.spec.timesteps
            if layer.transposed:
                kind: type[_Convolution] = _Transposed
            elif layer.kernel == 3 and layer.stride == 1 and 2 in layer.upsample and max(layer.upsample) == 2:
                kind = _Upsampled
            elif not layer.neuron and layer.stride == 1:
                kind = _Head
            else:
                kind = _Convolution
            self.convolutions[layer.name] = kind(layer, weight, bias, given, largest=largest, native=native)

    def _encoded(self, prepared: torch.Tensor) -> torch.Tensor:
        # Converting to integers cuts off; a standardised image lies in [0, 1] already.
        known = prepared if self.spec.standardise else prepared.clamp(0, 1)
        levels = torch.add(known.new_tensor(0.5), known, alpha=IMAGE_LEVELS)
        batch, channels, *grid = prepared.shape
        encoded = torch.empty(batch, *grid, channels, dtype=torch.uint8)
        for channel in range(channels):
            encoded[..., channel] = levels[:, channel]
        return encoded.permute(0, 4, 1, 2, 3)

    def _run(self, layer: Layer, values: dict[str, torch.Tensor], recorder: Recorder | None) -> torch.Tensor:
        convolution, dynamics = self.convolutions[layer.name], self.dynamics.get(layer.name)
        if dynamics is None:
            output = convolution.drive(values, 0.0)
        elif self.mode == "events":
            output = simulate_counts(convolution.drive(values, 0.0), dynamics).to(torch.uint8)
        elif dynamics.rounds:
            output = convolution.counts(values, dynamics.timesteps)
        else:
            output = closed_form_counts(convolution.drive(values, 0.0), dynamics).to(torch.uint8)
        if recorder is not None:
            recorder(layer, merge_inputs(layer, values) if getattr(recorder, "reads_inputs", True) else [], output)
        return output


class _Convolution:
    """A layer: its drive, or the counts of neurons that round, from the counts of its inputs.

    Args:
        layer, weight, bias: see `SpikingUNet.count_weights`.
        given: channels of every input.
        largest: input that can occur.
    """

    def __init__(
        self, layer: Layer, weight: torch.Tensor, bias: torch.Tensor, given: list[int], *, largest: int, native: bool
    ) -> None:
        self.layer, self.native, self.largest = layer, native, largest
        self._prepare(weight, bias, given)

    def _rounded(
        self, parts: list[torch.Tensor], bias: torch.Tensor, paddings: list[tuple[int, int, int]], stride: int = 1
    ) -> list[IntegerConvolution]:
        rounded, self.bias = round_weights(parts, bias, largest_inputs=[self.largest] * len(parts))
        return [
            IntegerConvolution(part, stride=stride, padding=padding, native=self.native)
            for part, padding in zip(rounded, paddings, strict=True)
        ]

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor, given: list[int]) -> None:
        reach = (self.layer.kernel // 2,) * 3
        (self.whole,) = self._rounded([weight[:, None]], bias, [reach], self.layer.stride)

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        """The drive + shift, [B, C, D, H, W] float32; exact for a shift of 1/2."""
        return self.whole(_concatenated(merge_inputs(self.layer, values)), self.bias + shift, torch.float32)

    def counts(self, values: dict[str, torch.Tensor], timesteps: int) -> torch.Tensor:
        """clip(floor(drive + 1/2), 0, T): rounding to nearest gives it, as no drive is half-way, and saturates at 0."""
        counts = self.whole(_concatenated(merge_inputs(self.layer, values)), self.bias, torch.uint8)
        return counts.clamp_(max=timesteps)


class _FromDrive(_Convolution):
    """Layers that put their drive together from parts."""

    def counts(self, values: dict[str, torch.Tensor], timesteps: int) -> torch.Tensor:
        return self.drive(values, 0.5).clamp_(0, timesteps).to(torch.uint8)


class _Upsampled(_FromDrive):
    """Inputs up-sampled by two, in parts on their coarse grids; the others together on the fine grid."""

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor, given: list[int]) -> None:
        branches = weight.split(given, 1)
        fine = [w for w, factor in zip(branches, self.layer.upsample, strict=True) if factor == 1]
        coarse = [w for w, factor in zip(branches, self.layer.upsample, strict=True) if factor == 2]
        up = torch.cat(coarse, 1)
        # The whole kernel of the coarse inputs is for the last planes of grids of odd size only, see `drive`.
        parts, paddings = [_parity_kernels(up), up[:, None]], [(1, 1, 1), (1, 1, 1)]
        if fine:
            parts, paddings = [*parts, torch.cat(fine, 1)[:, None]], [*paddings, (1, 1, 1)]
        self.parities, self.border, *self.fine = self._rounded(parts, bias, paddings)
        self.no_bias = torch.zeros(8 * len(bias))

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        layer, bias = self.layer, self.bias + shift
        named = list(zip(layer.inputs, layer.upsample, strict=True))
        shape = layer.input_shape({name: tuple(values[name].shape[2:]) for name in layer.inputs})  # type: ignore[misc]
        # A coarse voxel whose copies are all cropped is never read.
        coarse = _concatenated([_cropped(values[name], [(n + 1) // 2 for n in shape]) for name, f in named if f == 2])
        windows = self.parities(coarse, self.no_bias, torch.float32)
        if self.fine:
            fine = _concatenated([_cropped(values[name], shape) for name, f in named if f == 1])
            drive = self.fine[0](fine, bias, torch.float32)
        else:
            drive = bias.view(1, 1, 1, 1, -1).repeat(len(coarse), *shape, 1).permute(0, 4, 1, 2, 3)
        # The last plane of an odd grid has nothing behind it, though the coarse grid has another copy there.
        borders = []
        for axis in (axis for axis, n in zip((2, 3, 4), shape, strict=True) if n % 2):
            last = min(coarse.shape[axis], 2)
            slab = coarse.narrow(axis, coarse.shape[axis] - last, last)
            slab = functional.interpolate(slab, scale_factor=2, mode="nearest")
            ends = [n if a != axis else slab.shape[axis] - 1 for a, n in zip((2, 3, 4), shape, strict=True)]
            plane = self.border(_cropped(slab, ends), self.no_bias[: len(bias)], torch.float32)
            plane = plane.narrow(axis, plane.shape[axis] - 1, 1)
            borders.append((axis, plane + drive.narrow(axis, drive.shape[axis] - 1, 1)))
        _interleave(drive, windows, 2, step=1)
        for axis, plane in borders:
            drive.narrow(axis, drive.shape[axis] - 1, 1).copy_(plane)
        return drive


class _Head(_FromDrive):
    """Few channels: the taps along D as channels of one convolution."""

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor, given: list[int]) -> None:
        reach = self.layer.kernel // 2
        self.no_bias = torch.zeros(self.layer.kernel * len(bias))
        (self.taps,) = self._rounded([weight.transpose(1, 2)[:, :, :, None]], bias, [(0, reach, reach)])

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

    def _prepare(self, weight: torch.Tensor, bias: torch.Tensor, given: list[int]) -> None:
        places = weight.flatten(2).permute(1, 2, 0)[..., None, None, None]
        self.no_bias = torch.zeros(places.shape[1] * len(bias))
        (self.places,) = self._rounded([places], bias, [(0, 0, 0)])

    def drive(self, values: dict[str, torch.Tensor], shift: float) -> torch.Tensor:
        stride = self.layer.stride
        x = _concatenated(merge_inputs(self.layer, values))
        batch, _, *grid = x.shape
        bias = (self.bias + shift).view(1, 1, 1, 1, -1)
        drive = bias.repeat(batch, *(n * stride for n in grid), 1).permute(0, 4, 1, 2, 3)
        _interleave(drive, self.places(x, self.no_bias, torch.float32), stride, step=0)
        return drive


def _concatenated(inputs: list[torch.Tensor]) -> torch.Tensor:
    together = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
    return together.contiguous(memory_format=torch.channels_last_3d)


def _cropped(value: torch.Tensor, shape: tuple[int, ...] | list[int]) -> torch.Tensor:
    return value[:, :, : shape[0], : shape[1], : shape[2]]


def _parity_kernels(weight: torch.Tensor) -> torch.Tensor:
    """[out, in, 3, 3, 3] for a grid up-sampled by two -> [out, 8, in, 2, 2, 2] for the coarse grid."""
    sums = torch.zeros(2, 2, 3, dtype=weight.dtype, device=weight.device)  # parity, coarse tap, fine tap
    for parity, taps in enumerate(WINDOW):
        for fine, coarse in enumerate(taps):
            sums[parity, coarse, fine] = 1
    # One axis after the other: [out, in, z, y, x] -> [out, in, p, c, q, d, r, e], parity and tap of every axis.
    kernels = torch.einsum("oizyx,rex->oizyre", weight, sums)
    kernels = torch.einsum("oizyre,qdy->oizqdre", kernels, sums)
    kernels = torch.einsum("oizqdre,pcz->opqricde", kernels, sums)
    return kernels.flatten(1, 3)


def _interleave(fine: torch.Tensor, parts: torch.Tensor, factor: int, *, step: int) -> None:
    """Add part p of the channels of `parts` to every place p of the blocks of factor^3 voxels of `fine`.

    The part for place (a, b, c) begins `step` * (a, b, c) voxels into the grid of `parts`.
    """
    channels = fine.shape[1]
    for part, (a, b, c) in enumerate(itertools.product(range(factor), repeat=3)):
        target = fine[:, :, a::factor, b::factor, c::factor]
        depth, height, width = target.shape[2:]
        z, y, x = a * step, b * step, c * step
        values = parts[:, part * channels : (part + 1) * channels]
        target.add_(values[:, :, z : z + depth, y : y + height, x : x + width])
