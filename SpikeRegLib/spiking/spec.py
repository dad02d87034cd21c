"""The network as data: one list of layers from which the dense and the spiking U-Net are built and their cost is counted."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Layer:
    """One convolution with what feeds it and what follows it.

    Attributes:
        name: unique; also the name in activity and energy tables.
        inputs: names of earlier layers, or "image"; merged by `merge` after up-sampling.
        in_channels, out_channels, kernel, stride: of the convolution (cubic kernel).
        upsample: for each input, the factor of nearest-neighbour up-sampling before merging (spikes stay spikes).
        merge: "concat" or "average" (two inputs of equal channels).
        transposed: a transposed convolution (kernel = stride) instead of a convolution.
        neuron: whether a neuron (ReLU in the dense twin) follows; only the head has none.
    """

    name: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    upsample: tuple[int, ...] = (1,)
    merge: str = "concat"
    transposed: bool = False
    neuron: bool = True

    def output_shape(self, shapes: dict[str, tuple[int, int, int]]) -> tuple[int, int, int]:
        """The grid (D, H, W) this layer computes, given the grids of its inputs."""
        grid = self.input_shape(shapes)
        if self.transposed:
            return tuple(n * self.stride for n in grid)  # type: ignore[return-value]
        return tuple(math.ceil(n / self.stride) for n in grid)  # type: ignore[return-value]

    def input_shape(self, shapes: dict[str, tuple[int, int, int]]) -> tuple[int, int, int]:
        """The grid after merging: up-sampled inputs are cropped to the smallest of them."""
        grids = [[n * factor for n in shapes[name]] for name, factor in zip(self.inputs, self.upsample, strict=True)]
        return tuple(min(n) for n in zip(*grids, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class NetworkSpec:
    """A registration network.

    Attributes:
        name: of the spec, stored with weights; weights of another spec are refused.
        layers: in order of execution; the last one is the head (three channels, no neuron).
        output: "velocity" (stationary velocity field) or "displacement", in voxels of the output grid inside the
            network and in mm outside it.
        input_spacing_mm: isotropic spacing the network was made for.
        timesteps: the spike-count window T of every neuron.
        leak: membrane decay per step by stage prefix ("enc0", ...); layers not named use 1.0 (no leak).
        smoothing: depth-wise smoothing after the head (the paper's network has it; not counted as dense cost).
    """

    name: str
    layers: tuple[Layer, ...]
    output: str = "velocity"
    input_spacing_mm: float = 2.0
    timesteps: int = 4
    leak: tuple[tuple[str, float], ...] = ()
    smoothing: bool = False

    def __post_init__(self) -> None:
        known = {"image"}
        for layer in self.layers:
            missing = set(layer.inputs) - known
            if missing:
                raise ValueError(f"layer {layer.name} of spec {self.name} reads {sorted(missing)}, which no earlier layer makes")
            if len(layer.inputs) != len(layer.upsample):
                raise ValueError(f"layer {layer.name} of spec {self.name} needs one up-sampling factor for each input")
            known.add(layer.name)
        if self.layers[-1].neuron or self.layers[-1].out_channels != 3:
            raise ValueError(f"the last layer of spec {self.name} must be a head with three channels and no neuron")

    @property
    def head(self) -> Layer:
        return self.layers[-1]

    @property
    def spiking_layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.neuron)

    def leak_of(self, name: str) -> float:
        return next((value for prefix, value in self.leak if name.startswith(prefix)), 1.0)

    def shapes(self, input_shape: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
        """The output grid (D, H, W) of every layer for an image of `input_shape`."""
        shapes = {"image": input_shape}
        for layer in self.layers:
            shapes[layer.name] = layer.output_shape(shapes)
        return shapes

    def output_stride(self) -> int:
        """Input voxels per output voxel along an axis."""
        return 64 // self.shapes((64, 64, 64))[self.head.name][0]

    def input_multiple(self) -> int:
        """Grids whose axes are multiples of this need no cropping anywhere."""
        return 64 // min(n for shape in self.shapes((64, 64, 64)).values() for n in shape)

    def with_timesteps(self, timesteps: int) -> NetworkSpec:
        return replace(self, timesteps=timesteps)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> NetworkSpec:
        fields = json.loads(text)
        layers = tuple(
            Layer(**{**entry, "inputs": tuple(entry["inputs"]), "upsample": tuple(entry["upsample"])})
            for entry in fields.pop("layers")
        )
        leak = tuple((str(prefix), float(value)) for prefix, value in fields.pop("leak"))
        return NetworkSpec(layers=layers, leak=leak, **fields)


def velocity_unet(
    name: str = "velocity-2mm",
    encoder: tuple[int, ...] = (16, 32, 64, 128),
    decoder: tuple[int, ...] = (64, 32, 24),
    finest_convolutions: int = 2,
    input_spacing_mm: float = 2.0,
    timesteps: int = 4,
) -> NetworkSpec:
    """The default network: a stationary velocity field at half the input's resolution.

    The decoder stops at the grid of the first encoder stage: the full-resolution stage it leaves out is 59 % of the
    cost of the paper's network and the source of its folds. All skips are concatenated; up-sampling is
    nearest-neighbour, so that every convolution but the first reads spike counts.
    """
    layers: list[Layer] = []
    previous, channels = "image", 2
    for depth, width in enumerate(encoder):
        layers.append(Layer(f"enc{depth}.down", (previous,), channels, width, stride=2))
        layers.append(Layer(f"enc{depth}.conv", (f"enc{depth}.down",), width, width))
        previous, channels = f"enc{depth}.conv", width
    layers.append(Layer("bottleneck", (previous,), channels, channels))
    previous = "bottleneck"
    for step, width in enumerate(decoder):
        level = len(encoder) - 2 - step
        skip = encoder[level]
        layers.append(
            Layer(f"dec{step}.conv", (previous, f"enc{level}.conv"), channels + skip, width, upsample=(2, 1))
        )
        previous, channels = f"dec{step}.conv", width
    for extra in range(1, finest_convolutions):
        layers.append(Layer(f"dec{len(decoder) - 1}.conv{extra + 1}", (previous,), channels, channels))
        previous = layers[-1].name
    layers.append(Layer("head", (previous,), channels, 3, neuron=False))
    return NetworkSpec(name, tuple(layers), input_spacing_mm=input_spacing_mm, timesteps=timesteps)


def paper_unet() -> NetworkSpec:
    """The network of the SpikeReg paper (arXiv 2605.25144): displacement at full resolution, 1.70 M parameters."""
    layers: list[Layer] = []
    previous, channels = "image", 2
    for depth, width in enumerate((16, 32, 64, 128)):
        layers.append(Layer(f"enc{depth}.down", (previous,), channels, width, stride=2))
        layers.append(Layer(f"enc{depth}.conv", (f"enc{depth}.down",), width, width))
        previous, channels = f"enc{depth}.conv", width
    layers.append(Layer("bottleneck", (previous,), 128, 128))
    previous = "bottleneck"
    skips = (("enc2.conv", "concat"), ("enc1.conv", "concat"), ("enc0.conv", "average"), (None, "concat"))
    for step, (width, (skip, merge)) in enumerate(zip((64, 32, 16, 16), skips, strict=True)):
        layers.append(Layer(f"dec{step}.up", (previous,), channels, width, kernel=2, stride=2, transposed=True))
        inputs = (f"dec{step}.up",) if skip is None else (f"dec{step}.up", skip)
        merged = width * (2 if skip is not None and merge == "concat" else 1)
        layers.append(Layer(f"dec{step}.conv", inputs, merged, width, upsample=(1,) * len(inputs), merge=merge))
        previous, channels = f"dec{step}.conv", width
    layers.append(Layer("head", (previous,), 16, 3, kernel=1, neuron=False))
    leak = tuple((f"enc{i}", value) for i, value in enumerate((0.90, 0.85, 0.80, 0.75)))
    leak += tuple((f"dec{i}", value) for i, value in enumerate((0.75, 0.80, 0.85, 0.90)))
    return NetworkSpec(
        "paper", tuple(layers), output="displacement", input_spacing_mm=1.0, leak=leak, smoothing=True
    )


SPECS = {"velocity-2mm": velocity_unet, "paper": paper_unet}


def named_spec(name: str) -> NetworkSpec:
    """The spec called `name`.

    Raises:
        ValueError: no such spec; the message lists the known ones.
    """
    if name not in SPECS:
        raise ValueError(f"unknown network spec {name!r}; known: {', '.join(sorted(SPECS))}")
    return SPECS[name]()
