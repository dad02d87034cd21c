"""A network run on overlapping tiles: for devices with little memory and for large volumes.

The head's output (the velocity, before it is integrated) of every tile is blended by weights that add up to one. Tiles
begin at multiples of the network's total stride, so every layer of a tile lies on the voxels of the whole image's, and
an output further than `reach` from a tile's cut is that of the whole image. Where the overlap is too small for only
such outputs to be used, those next to the cut weigh least. What is measured on the image goes in before it is cut
(`RegistrationUNet.prepared`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import Recorder, RegistrationUNet


def reach(spec: NetworkSpec) -> int:
    """How far from an output of the head, in input voxels along an axis, the image can matter to it."""
    strides = {"image": 1, **layer_strides(spec)}
    before, after = {"image": 0}, {"image": 0}
    for layer in spec.layers:
        spacing = strides[layer.inputs[0]] // layer.upsample[0]
        # Voxel i of an up-sampled grid is voxel floor(i / factor) of the coarse one, at or before its own place.
        low = max(
            before[name] + (factor - 1) * spacing for name, factor in zip(layer.inputs, layer.upsample, strict=True)
        )
        high = max(after[name] for name in layer.inputs)
        if layer.transposed:
            low += (layer.stride - 1) * spacing // layer.stride
        else:
            low += (layer.kernel - 1) // 2 * spacing
            high += layer.kernel // 2 * spacing
        before[layer.name], after[layer.name] = low, high
    head = spec.head.name
    return max(before[head], after[head]) + (strides[head] if spec.smoothing else 0)


def layer_strides(spec: NetworkSpec) -> dict[str, int]:
    """Input voxels per voxel of every layer, along an axis."""
    # On a grid that every stride divides; the sizes of other grids are rounded up and do not tell the stride.
    shapes = spec.shapes((64, 64, 64))
    return {layer.name: 64 // shapes[layer.name][0] for layer in spec.layers}


def smallest_tile(spec: NetworkSpec) -> int:
    """The least voxels of a tile along each axis: one step of the network's total stride besides the overlap."""
    return 2 * spec.input_multiple()


@dataclass(frozen=True)
class Extent:
    """A tile along one axis, in input voxels.

    Attributes:
        begin, end: what the network sees.
        own_begin, own_end: what belongs to this tile alone, for counting; these parts fill the axis.
    """

    begin: int
    end: int
    own_begin: int
    own_end: int

    def weights(self, length: int, overlap: int, keep_off: int, stride: int) -> torch.Tensor:
        """Of the outputs at begin, begin + stride...: rising smoothly from `keep_off` voxels off a cut to 1."""
        place = torch.arange(self.begin, self.end, stride, dtype=torch.float32)
        weight = torch.ones_like(place)
        for cut, distance in ((self.begin > 0, place - self.begin), (self.end < length, self.end - place)):
            if cut:
                ramp = ((distance - keep_off) / (overlap - 2 * keep_off)).clamp(0, 1)
                weight = weight * ramp * ramp * (3 - 2 * ramp)
        return weight


def extents(length: int, size: int, overlap: int, multiple: int) -> list[Extent]:
    """Tiles of `size` voxels that share `overlap` with the next along an axis; all begin at multiples of `multiple`."""
    if length <= size:
        return [Extent(0, length, 0, length)]
    begins = list(range(0, length - overlap, size - overlap))
    own = [0, *(begin + overlap // 2 // multiple * multiple for begin in begins[1:]), length]
    return [
        Extent(begin, min(begin + size, length), own[n], own[n + 1]) for n, begin in enumerate(begins)
    ]  # fmt: skip


def tiled_output(
    network: RegistrationUNet,
    image: torch.Tensor,
    *,
    size: int,
    overlap: int | None = None,
    device: str | None = None,
    recorder: Recorder | None = None,
    heard: Callable[[float, Layer], None] | None = None,
) -> torch.Tensor:
    """The head's output as `network(image)` gives it, [B, 3, d, h, w] in voxels of its grid, made tile by tile.

    Args:
        network: in evaluation mode, on `device`.
        image: [B, 2, D, H, W] in [0, 1]; it stays where it is, and so does the result.
        size: voxels of a tile along each axis, rounded up to a multiple of the network's total stride.
        overlap: voxels shared by neighbours; as much as any output depends on, at most half a tile, if not given.
        device: where the network computes; the image's if not given.
        recorder: given the counts of every whole layer, on the CPU, after the last tile, without inputs.
        heard: called after every layer of every tile with the share of the work that is done.

    Raises:
        ValueError: tiles too small for the network's stride.
    """
    spec = network.spec
    multiple, stride, depends = spec.input_multiple(), spec.output_stride(), reach(spec)
    size = multiple * math.ceil(size / multiple)
    exact = 2 * multiple * math.ceil((depends + 1) / multiple)
    wanted = min(exact, size // 2) if overlap is None else min(overlap, size - multiple)
    shared = max(multiple, multiple * (wanted // multiple))
    if size <= shared:
        raise ValueError(f"tiles of {size} voxels are too small: this network needs at least {smallest_tile(spec)}")
    # The ramp lies where both tiles are exact; where they are nowhere so, it takes the inner half of the overlap.
    keep_off = depends if shared > 2 * depends else min(depends, shared // 4)
    lengths = tuple(image.shape[2:])
    axes = [extents(n, size, shared, multiple) for n in lengths]
    prepared = network.prepared(image)
    total = torch.zeros(len(image), 3, *(math.ceil(n / stride) for n in lengths), device=image.device)
    weights = torch.zeros(1, 1, *total.shape[2:], device=image.device)
    whole = _WholeLayers(spec, lengths) if recorder is not None else None
    tiles = list(itertools.product(*axes))
    for number, tile in enumerate(tiles):

        def record(
            layer: Layer,
            inputs: list[torch.Tensor],
            output: torch.Tensor,
            number: int = number,
            tile: tuple[Extent, ...] = tile,
        ) -> None:
            if whole is not None:
                whole.put(layer, output, tile)
            if heard is not None:
                heard((number + (spec.layers.index(layer) + 1) / len(spec.layers)) / len(tiles), layer)

        record.reads_inputs = False  # type: ignore[attr-defined]
        part = _box(prepared, [slice(extent.begin, extent.end) for extent in tile])
        output = network.output(part.to(device or image.device).contiguous(), recorder=record).to(image.device)
        z, y, x = (extent.weights(n, shared, keep_off, stride) for extent, n in zip(tile, lengths, strict=True))
        weight = (z[:, None, None] * y[:, None] * x).to(image.device)
        place = [slice(e.begin // stride, e.begin // stride + n) for e, n in zip(tile, weight.shape, strict=True)]
        _box(total, place).add_(output * weight)
        _box(weights, place).add_(weight)
    total /= weights
    if whole is not None and recorder is not None:
        for layer in spec.layers:
            recorder(layer, [], whole.counts.pop(layer.name) if layer.neuron else total)
    return total


class _WholeLayers:
    """The counts of whole layers, each voxel from the tile that owns it."""

    def __init__(self, spec: NetworkSpec, lengths: tuple[int, ...]) -> None:
        self.strides = layer_strides(spec)
        shapes = spec.shapes((lengths[0], lengths[1], lengths[2]))
        dtype = torch.uint8 if spec.timesteps < 256 else torch.int32
        self.counts = {
            layer.name: torch.zeros(1, layer.out_channels, *shapes[layer.name], dtype=dtype)
            for layer in spec.spiking_layers
        }

    def put(self, layer: Layer, output: torch.Tensor, tile: tuple[Extent, ...]) -> None:
        """What the tile owns of a layer's output."""
        if not layer.neuron:
            return
        stride, target = self.strides[layer.name], self.counts[layer.name]
        place, source = [], []
        for extent, length in zip(tile, target.shape[2:], strict=True):
            begin, end, offset = extent.own_begin // stride, math.ceil(extent.own_end / stride), extent.begin // stride
            end = min(end, length)
            place.append(slice(begin, end))
            source.append(slice(begin - offset, end - offset))
        _box(target, place).copy_(_box(output, source))


def _box(values: torch.Tensor, place: Sequence[slice]) -> torch.Tensor:
    """A view of a part of [B, C, D, H, W]."""
    return values[:, :, place[0], place[1], place[2]]
