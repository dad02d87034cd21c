"""The network as data: one list of layers from which both U-Nets are built and their cost is counted."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.names import is_name
from SpikeRegLib.text.ranges import LAYERS, NETWORK_WEIGHTS, check_numbers, within


@dataclass(frozen=True)
class Layer:
    """One convolution with what feeds it and what follows it.

    Attributes:
        name: unique; also the name in activity and energy tables.
        inputs: names of earlier layers, merged by `merge` after up-sampling; or "image" alone.
        in_channels, out_channels, kernel, stride: of the convolution (cubic kernel). An even kernel equals the stride:
            the image is read in patches that do not overlap.
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

    def __post_init__(self) -> None:
        check_numbers(self, where=f"layer {self.name}, ")

    def output_shape(self, shapes: dict[str, tuple[int, int, int]]) -> tuple[int, int, int]:
        """The grid (D, H, W) this layer computes, given the grids of its inputs."""
        grid = self.input_shape(shapes)
        if self.transposed:
            return tuple(n * self.stride for n in grid)  # type: ignore[return-value]
        return tuple(math.ceil(n / self.stride) for n in grid)  # type: ignore[return-value]

    def input_shape(self, shapes: dict[str, tuple[int, int, int]]) -> tuple[int, int, int]:
        """The grid after merging: up-sampled inputs are cropped to the smallest of them."""
        grids = [[n * factor for n in shapes[name]] for name, factor in zip(self.inputs, self.upsample, strict=True)]
        return tuple(min(n) for n in zip(*grids, strict=True))


def _problem(layer: Layer, channels: dict[str, int], *, last: bool, head_channels: int | None) -> str | None:
    """What is wrong with a layer, given the channels of the earlier ones and those a head needs; None if nothing is."""
    if not is_name(layer.name):  # it names the files of spike maps too
        return "must have a plain name, without any path in it"
    missing = sorted(set(layer.inputs) - set(channels))
    if missing or not layer.inputs:
        return f"reads {missing}, which no earlier layer makes"
    if layer.name in channels:
        return "has the name of an earlier one"
    if "image" in layer.inputs and layer.inputs != ("image",):
        return "reads the image together with other inputs; the image is read alone"
    if len(layer.inputs) != len(layer.upsample):
        return "needs one up-sampling factor for each input"
    if layer.merge not in ("concat", "average"):
        return f"must merge by concat or average, not {layer.merge!r}"
    given = [channels[name] for name in layer.inputs]
    if layer.merge == "average" and (len(given) != 2 or given[0] != given[1]):
        return f"averages inputs of {given} channels; two of equal channels are needed"
    merged = given[0] if layer.merge == "average" else sum(given)
    if layer.in_channels != merged:
        return f"expects {layer.in_channels} input channels but is given {merged}"
    if layer.transposed and layer.kernel != layer.stride:
        return f"is transposed with kernel {layer.kernel} and stride {layer.stride}; they must be equal"
    patches = layer.kernel == layer.stride and layer.inputs == ("image",)
    if not layer.transposed and layer.kernel % 2 != 1 and not patches:
        return f"needs an odd kernel, got {layer.kernel}; only one that reads the image in patches may have an even one"
    if not layer.neuron and not last:
        return "has no neuron; only the head may have none"
    if not layer.neuron and head_channels is not None and layer.out_channels != head_channels:
        return f"is the head and needs three channels, got {layer.out_channels}"
    return None


OUTPUTS = ("velocity", "displacement", "codes", "structures")


@dataclass(frozen=True)
class NetworkSpec:
    """A network that reads a pair of images and registers it, or one image and names what is in it.

    Attributes:
        name: of the spec, stored with weights; weights of another spec are refused.
        layers: in order of execution; the last one is the head (three channels unless it gives codes, no neuron).
        output: "velocity" (stationary velocity field) or "displacement", in voxels of the output grid inside the
            network and in mm outside it; or any number of channels: "codes" of a neural deformation field, or
            "structures", the logits of every structure in every voxel of the image (see `anatomy.logits`).
        input_spacing_mm: isotropic spacing the network was made for.
        timesteps: the spike-count window T of every neuron.
        leak: membrane decay per step by stage prefix ("enc0", ...); layers not named use 1.0 (no leak).
        smoothing: depth-wise smoothing after the head (the paper's network has it; not counted as dense cost).
        standardise: bring each input image to the same mean and spread inside its foreground first, so that frozen
            normalisation statistics fit every image.
        image_channels: images that are read together: two to register, one to name its structures.
    """

    name: str
    layers: tuple[Layer, ...]
    output: str = "velocity"
    input_spacing_mm: float = 2.0
    timesteps: int = 4
    leak: tuple[tuple[str, float], ...] = ()
    smoothing: bool = False
    standardise: bool = False
    image_channels: int = 2

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output of spec {self.name} must be one of {', '.join(OUTPUTS)}, got {self.output!r}")
        check_numbers(self, where=f"spec {self.name}, ")
        within(f"spec {self.name}, layers", len(self.layers), *LAYERS)
        weights = sum(layer.in_channels * layer.out_channels * layer.kernel**3 for layer in self.layers)
        within(f"spec {self.name}, weights", weights, *NETWORK_WEIGHTS)
        channels = {"image": self.image_channels}
        needed = None if self.output in ("codes", "structures") else 3
        for layer in self.layers:
            problem = _problem(layer, channels, last=layer is self.layers[-1], head_channels=needed)
            if problem:
                raise ValueError(f"layer {layer.name} of spec {self.name} {problem}")
            channels[layer.name] = layer.out_channels
        if not self.layers or self.head.neuron:
            raise ValueError(f"spec {self.name} must end in a head, which has no neuron")

    @property
    def head(self) -> Layer:
        """The last layer, which gives the field."""
        return self.layers[-1]

    @property
    def spiking_layers(self) -> tuple[Layer, ...]:
        """Every layer but the head."""
        return tuple(layer for layer in self.layers if layer.neuron)

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the images and of every layer, by name."""
        return {"image": self.image_channels, **{layer.name: layer.out_channels for layer in self.layers}}

    def leak_of(self, name: str) -> float:
        """The leak of layer `name`: that of the first prefix that fits, or 1."""
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
        """The same network with another T."""
        return replace(self, timesteps=timesteps)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back; what every spec had from the beginning is left out."""
        fields = asdict(self)
        if self.image_channels == 2:
            del fields["image_channels"]
        return json.dumps(fields)

    @staticmethod
    def from_json(text: str) -> NetworkSpec:
        """The spec written by `to_json`.

        Raises:
            ValueError: not JSON, not a spec, or a bad one; the message names the layer.
        """
        fields = read_json(text)
        try:
            layers = tuple(
                Layer(**{**entry, "inputs": tuple(entry["inputs"]), "upsample": tuple(entry["upsample"])})
                for entry in fields.pop("layers")
            )
            leak = tuple((str(prefix), float(value)) for prefix, value in fields.pop("leak"))
            return NetworkSpec(layers=layers, leak=leak, **fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a network spec: {error}") from error


def velocity_unet(
    name: str = "velocity-2mm",
    encoder: tuple[int, ...] = (16, 32, 64, 128),
    decoder: tuple[int, ...] = (64, 32, 24),
    finest_convolutions: int = 2,
    stem: int | None = None,
    stem_kernel: int = 3,
    input_spacing_mm: float = 2.0,
    timesteps: int = 4,
) -> NetworkSpec:
    """The default network: a stationary velocity field at half the input's resolution.

    The decoder stops at the grid of the first encoder stage: the full-resolution stage it leaves out is 59 % of the
    cost of the paper's network and the source of its folds. All skips are concatenated; up-sampling is
    nearest-neighbour, so that every convolution but the first reads spike counts.

    Args:
        name: of the spec.
        encoder: channels of each stage, from fine to coarse; every stage halves the resolution.
        decoder: channels of each stage, from coarse to fine.
        finest_convolutions: at the grid of the velocity field, before the head.
        stem: channels of the first convolution, the only one that costs multiplications (default: the first stage's).
        stem_kernel: its kernel: 3, or 2 for patches that do not overlap, at 8/27 of the multiplications.
        input_spacing_mm: isotropic spacing of the images.
        timesteps: T.
    """
    layers: list[Layer] = []
    previous, channels = "image", 2
    for depth, width in enumerate(encoder):
        down = stem if stem and depth == 0 else width
        kernel = stem_kernel if depth == 0 else 3
        layers.append(Layer(f"enc{depth}.down", (previous,), channels, down, kernel=kernel, stride=2))
        layers.append(Layer(f"enc{depth}.conv", (f"enc{depth}.down",), down, width))
        previous, channels = f"enc{depth}.conv", width
    layers.append(Layer("bottleneck", (previous,), channels, channels))
    previous = "bottleneck"
    for step, width in enumerate(decoder):
        level = len(encoder) - 2 - step
        skip = encoder[level]
        layers.append(Layer(f"dec{step}.conv", (previous, f"enc{level}.conv"), channels + skip, width, upsample=(2, 1)))
        previous, channels = f"dec{step}.conv", width
    for extra in range(1, finest_convolutions):
        layers.append(Layer(f"dec{len(decoder) - 1}.conv{extra + 1}", (previous,), channels, channels))
        previous = layers[-1].name
    layers.append(Layer("head", (previous,), channels, 3, neuron=False))
    return NetworkSpec(name, tuple(layers), input_spacing_mm=input_spacing_mm, timesteps=timesteps, standardise=True)


def coarse_unet() -> NetworkSpec:
    """A wide network for the coarse pass: images at 2 mm, velocity at 4 mm. The released one is the light one."""
    return velocity_unet(stem_kernel=2)


def fine_unet() -> NetworkSpec:
    """A wider network for the fine pass: images at 1 mm, velocity at 2 mm, for what a pass at 2 mm has left over.

    Eight times the voxels of the coarse pass, so a narrow network: most of all in its first convolution, whose inputs
    are no spikes, and on the grid of the field. That one reads patches of 2^3 voxels: with kernels of 3^3 it alone took
    two fifths of the energy of both passes. The released one is the light one.
    """
    return velocity_unet(
        "velocity-1mm", encoder=(12, 16, 32, 64), decoder=(32, 16, 12), stem=12, stem_kernel=2, input_spacing_mm=1.0
    )


def light_coarse_unet() -> NetworkSpec:
    """The coarse pass at half the operations: three quarters of the channels."""
    return velocity_unet("velocity-2mm-light", encoder=(12, 24, 48, 96), decoder=(48, 24, 16), stem_kernel=2)


def light_fine_unet() -> NetworkSpec:
    """The fine pass at half the operations: two thirds of the channels on the grid of the field."""
    return velocity_unet(
        "velocity-1mm-light", encoder=(8, 12, 24, 48), decoder=(24, 12, 8), stem=8, stem_kernel=2, input_spacing_mm=1.0
    )


def code_unet(local_size: int = 32) -> NetworkSpec:
    """The encoder of a neural deformation field: images at 2 mm, a grid of local codes at 8 mm.

    The layers are those of the coarse pass up to that grid, an eighth of the resolution of images at 1 mm. The global
    code is read from the bottleneck, see `neural_field.model`.

    Args:
        local_size: channels of the local codes.
    """
    whole = velocity_unet("field-codes-2mm", decoder=(64, 32), finest_convolutions=1, stem_kernel=2)
    head = replace(whole.head, out_channels=local_size)
    return replace(whole, layers=(*whole.layers[:-1], head), output="codes")


def structures_unet(
    structures: int = 33,
    encoder: tuple[int, ...] = (24, 48, 96, 128),
    decoder: tuple[int, ...] = (96, 48, 32),
) -> NetworkSpec:
    """The network that names the structures in one image at 2 mm, see `anatomy`.

    It reads patches of 2^3 voxels, works at 4 mm and coarser, and its head gives the logits of all eight voxels of a
    patch: small structures are told apart at 2 mm, and no convolution is paid for there.

    Args:
        structures: classes, the background among them.
        encoder, decoder: channels, see `velocity_unet`.
    """
    whole = velocity_unet("structures-2mm", encoder=encoder, decoder=decoder, finest_convolutions=1, stem_kernel=2)
    first, *between, head = whole.layers
    ends = replace(first, in_channels=1), replace(head, out_channels=8 * structures, kernel=1)
    return replace(whole, layers=(ends[0], *between, ends[1]), output="structures", image_channels=1)


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
    return NetworkSpec("paper", tuple(layers), output="displacement", input_spacing_mm=1.0, leak=leak, smoothing=True)


SPECS = {
    "velocity-2mm": coarse_unet,
    "velocity-1mm": fine_unet,
    "velocity-2mm-light": light_coarse_unet,
    "velocity-1mm-light": light_fine_unet,
    "field-codes-2mm": code_unet,
    "structures-2mm": structures_unet,
    "paper": paper_unet,
}


def named_spec(name: str) -> NetworkSpec:
    """The spec called `name`.

    Raises:
        ValueError: no such spec; the message lists the known ones.
    """
    if name not in SPECS:
        raise ValueError(f"unknown network spec {name!r}; known: {', '.join(sorted(SPECS))}")
    return SPECS[name]()
