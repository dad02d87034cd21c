"""Who fires, how often, and how many synaptic operations follow: counted at the layer that receives the spikes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch.nn import functional

from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.traffic import dense_bytes, spiking_bytes


def axis_fan_out(length: int, layer: Layer, factor: int = 1) -> list[int]:
    """How many outputs of the layer each neuron of an input reaches along one axis (borders reach fewer).

    An up-sampled neuron reaches an output once, however many of its copies the kernel covers there: one connection
    with the sum of their weights.

    Args:
        length: of the merged grid along that axis.
        layer: that receives the spikes.
        factor: of the up-sampling; there are ceil(length / factor) neurons.
    """
    return [layer.kernel] * length if layer.transposed else list(_fan_out(length, layer.kernel, layer.stride, factor))


@functools.lru_cache(maxsize=1024)
def _fan_out(length: int, kernel: int, stride: int, factor: int) -> tuple[int, ...]:
    fan = [0] * math.ceil(length / factor)
    for output in range(math.ceil(length / stride)):
        for neuron in {place // factor for place in _places(output, kernel, stride) if 0 <= place < length}:
            fan[neuron] += 1
    return tuple(fan)


@functools.lru_cache(maxsize=1024)
def _values_read(outputs: int, kernel: int, stride: int, factor: int) -> int:
    """Along one axis without borders: the values of an up-sampled input that each output reads, over all outputs."""
    return sum(len({place // factor for place in _places(output, kernel, stride)}) for output in range(outputs))


def _places(output: int, kernel: int, stride: int) -> range:
    """What an output reads along one axis of the merged grid."""
    first = output * stride - kernel // 2
    return range(first, first + kernel)


def synaptic_operations(
    layer: Layer, inputs: list[torch.Tensor], *, importance: torch.Tensor | None = None
) -> torch.Tensor:
    """Every spike in `inputs` times the neurons it really reaches.

    Args:
        layer: that receives the spikes.
        inputs: [B, C, D, H, W] counts on the merged grid, where up-sampled ones stand in copies.
        importance: [D, H, W] of that grid's voxels, a factor on what their spikes cost; one if not given.

    Returns:
        A scalar in double precision (single on MPS, which has no other), exact for whole counts, differentiable.
    """
    total: torch.Tensor | float = 0.0
    for value, factor in zip(inputs, layer.upsample, strict=True):
        dtype = torch.float32 if value.device.type == "mps" else torch.float64
        lengths, once = value.shape[2:], slice(None, None, factor)
        # Whole numbers far below 2**24 are exact in single precision, which needs no double copy of every channel.
        single = None if value.dtype == dtype else torch.float32
        spikes = value[:, :, once, once, once].sum((0, 1), dtype=single).to(dtype)
        if importance is not None:
            spikes = spikes * importance[once, once, once]
        for axis in (2, 1, 0):
            fan = torch.tensor(axis_fan_out(lengths[axis], layer, factor), dtype=dtype, device=value.device)
            # Not a matrix product: autocast would round that to bfloat16.
            spikes = (spikes * fan).sum(-1)
        total = total + spikes * layer.out_channels
    return torch.as_tensor(total)


def dense_macs(spec: NetworkSpec, input_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-accumulates of each layer of the dense twin: output voxels x channels x taps, all taps everywhere.

    Copies of an up-sampled value that one output reads count once, with the sum of their weights: 2^3 taps for a kernel
    of 3^3 and a factor of 2. The same holds for the spikes of `synaptic_operations`. Averaged inputs are added first.
    """
    shapes, channels = spec.shapes(input_shape), spec.channels
    macs = {}
    for layer in spec.layers:
        grid = shapes[layer.name]
        if layer.transposed:
            products = math.prod(grid) * layer.in_channels
        elif layer.merge == "average":
            products = math.prod(grid) * layer.in_channels * layer.kernel**3
        else:
            products = sum(
                channels[name] * math.prod(_values_read(n, layer.kernel, layer.stride, factor) for n in grid)
                for name, factor in zip(layer.inputs, layer.upsample, strict=True)
            )
        macs[layer.name] = products * layer.out_channels
    return macs


@dataclass(frozen=True)
class LayerActivity:
    """What one layer did on one pair.

    Attributes:
        name: of the layer.
        timesteps: T of its network.
        neurons: channels x voxels of its output; 0 for the head.
        count: spikes it fired in all time steps.
        rate: count / (neurons x T), in [0, 1].
        silent_percent: share of neurons that never fired.
        synaptic_ops: accumulates it performed for the spikes it received; 0 where it reads the image.
        analog_macs: multiply-accumulates it performed on analog values; 0 where it reads spikes.
        dense_macs: of its dense twin.
        neuron_updates: membrane updates, neurons x T.
        sram_bytes, dram_bytes: moved on and off chip by event-driven execution, an estimate (see `memory`).
        dense_sram_bytes, dense_dram_bytes: the same for the dense twin.
    """

    name: str
    timesteps: int
    neurons: int
    count: int
    rate: float
    silent_percent: float
    synaptic_ops: int
    analog_macs: int
    dense_macs: int
    neuron_updates: int
    sram_bytes: int
    dram_bytes: int
    dense_sram_bytes: int
    dense_dram_bytes: int


def sum_layers(runs: Sequence[Sequence[LayerActivity]]) -> list[LayerActivity]:
    """The table of several passes over the same grid: rates and silent shares are means, the size stays, all else adds.

    Args:
        runs: the layers of each pass, in the same order.
    """
    summed = []
    for entries in zip(*runs, strict=True):
        totals = {name: sum(getattr(entry, name) for entry in entries) for name in _ADDED}
        means = {name: sum(getattr(entry, name) for entry in entries) / len(entries) for name in _AVERAGED}
        summed.append(replace(entries[0], **totals, **means))
    return summed


_AVERAGED = ("rate", "silent_percent")
_ADDED = tuple(f.name for f in fields(LayerActivity) if f.name not in ("name", "timesteps", "neurons", *_AVERAGED))


class OperationCount:
    """A recorder (see `unet.Recorder`) that sums synaptic operations, differentiably.

    Args:
        spec: of the spiking network.
        input_shape: (D, H, W) of the images.
        importance: [1, 1, D, H, W] of the image's voxels, see `synaptic_operations`.
    """

    def __init__(
        self, spec: NetworkSpec, input_shape: tuple[int, int, int], importance: torch.Tensor | None = None
    ) -> None:
        self.dense = dense_macs(spec, input_shape)
        self.importance = importance
        self.total: torch.Tensor | float = 0.0

    def __call__(self, layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        if "image" in layer.inputs:
            return
        importance = self.importance
        if importance is not None:
            depth, height, width = inputs[0].shape[2:]
            importance = functional.adaptive_avg_pool3d(importance, (depth, height, width))[0, 0]
        self.total = self.total + synaptic_operations(layer, inputs, importance=importance)

    def share_of_dense(self) -> torch.Tensor:
        """Synaptic operations / dense multiply-accumulates of the whole network."""
        return (torch.as_tensor(self.total) / float(sum(self.dense.values()))).float()


class ActivityRecorder:
    """A recorder that fills a table of `LayerActivity` and, on request, keeps a spike-rate map of every layer.

    Args:
        spec: of the spiking network.
        input_shape: (D, H, W) of the images.
        maps: keep, for every layer, its rate averaged over channels, [d, h, w] in [0, 1].

    Raises:
        ValueError: a batch of more than one pair is run; counts and costs are those of one pair.
    """

    def __init__(self, spec: NetworkSpec, input_shape: tuple[int, int, int], *, maps: bool = False) -> None:
        self.spec = spec
        self.input_shape = input_shape
        self.dense = dense_macs(spec, input_shape)
        self.layers: list[LayerActivity] = []
        self._fired: dict[str, int] = {}
        self.keep_maps = maps
        self.maps: dict[str, torch.Tensor] = {}

    def __call__(self, layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        if len(output) != 1:
            raise ValueError(f"activity is recorded for one pair at a time, got a batch of {len(output)}")
        steps = self.spec.timesteps
        analog = "image" in layer.inputs
        neurons = output[0].numel() if layer.neuron else 0
        fired = int(output.sum(-1, dtype=torch.float32).double().sum()) if layer.neuron else 0
        silent = neurons - int(torch.count_nonzero(output)) if layer.neuron else 0
        self._fired[layer.name] = fired
        operations = 0 if analog else int(synaptic_operations(layer, inputs))
        work = {
            "synaptic_ops": operations,
            "analog_macs": self.dense[layer.name] if analog else 0,
            "neuron_updates": neurons * steps,
        }
        # Spikes are up-sampled while they are read, so each is read once however many copies the layer sees.
        events = fired + sum(self._fired.get(name, 0) for name in layer.inputs)
        words = (inputs[0].numel() if analog else 0) + (0 if layer.neuron else output.numel())
        sram, dram = spiking_bytes(layer, **work, events=events, words=words)
        dense_sram, dense_dram = dense_bytes(layer, self.spec, self.input_shape, self.dense[layer.name])
        self.layers.append(
            LayerActivity(
                name=layer.name,
                timesteps=steps,
                neurons=neurons,
                count=fired,
                rate=fired / (neurons * steps) if neurons else 0.0,
                silent_percent=100.0 * silent / neurons if neurons else 0.0,
                dense_macs=self.dense[layer.name],
                sram_bytes=sram,
                dram_bytes=dram,
                dense_sram_bytes=dense_sram,
                dense_dram_bytes=dense_dram,
                **work,
            )
        )
        if self.keep_maps and layer.neuron:
            self.maps[layer.name] = output[0].mean(0, dtype=torch.float32) / steps

    @property
    def mean_rate(self) -> float:
        """Spikes of all layers / (neurons x T)."""
        neurons = sum(layer.neurons for layer in self.layers)
        return sum(layer.count for layer in self.layers) / (neurons * self.spec.timesteps)

    @property
    def mac_weighted_rate(self) -> float:
        """Synaptic operations per dense multiply-accumulate of the layers that read spikes, per time step."""
        receiving = [layer for layer in self.layers if layer.analog_macs == 0]
        dense = sum(layer.dense_macs for layer in receiving)
        return sum(layer.synaptic_ops for layer in receiving) / (dense * self.spec.timesteps)
