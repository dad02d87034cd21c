"""The network's part: one or more passes over a pair on the working frame, each composed with what was found before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.networks.tiles import layer_strides, smallest_tile, tiled_output
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.fields import compose, taper
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity, sum_layers
from SpikeRegLib.spiking.energy import EnergyTable, dense_table, paper_baseline_macs
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet, merge_inputs

# Width of the margin around the anatomy over which the displacement falls to zero.
TAPER_VOXELS = 6
# Tiles, in voxels along each axis, tried where a device has too little memory for a whole image.
SMALLER_TILES = (192, 96)


@dataclass(frozen=True)
class Prediction:
    """What the network found.

    Attributes:
        displacement: [3, D, H, W] mm on the working frame, fixed -> (aligned) moving.
        passes: passes that improved the similarity and were kept, of all networks.
        passes_run: those and the ones that were dropped; activity and energy are of them all.
        views: times each pass read the pair: 2 of two contrasts, see `read_pair`.
        layers: activity summed over the passes; empty for a dense network.
        energy: operations of all passes.
        maps: layer -> spike-rate volume, mean over the passes.
        timesteps: T of the neurons.
        device: where it ran, after any fallback.
        arithmetic: "int8" (integers), "bfloat16" or "float32", chosen by `spiking.deploy.deploy`.
        tile: voxels of a tile along each axis; None where the image was run whole.
        warnings: what a person should know.
    """

    displacement: torch.Tensor
    passes: int
    passes_run: int
    views: int
    layers: list[LayerActivity]
    energy: EnergyTable
    maps: dict[str, Volume]
    timesteps: int
    device: str
    arithmetic: str = "float32"
    tile: int | None = None
    warnings: list[str] = field(default_factory=list)


def predict(
    network: RegistrationUNet,
    pair: Pair,
    *,
    passes: int,
    device: str,
    spike_maps: bool,
    listener: Listener,
    tile: int | None = None,
) -> Prediction:
    """Run `network` on a pair.

    Args:
        network: dense or spiking, in evaluation mode.
        pair: on the network's grid. Of two contrasts the network reads each image in the other's, see `read_pair`.
        passes: the most passes; one that does not improve the similarity ends the series and is dropped.
        device: "cpu", "cuda" or "mps"; out of memory there falls back to tiles and then to the CPU, with a warning.
        spike_maps: keep rate maps (spiking networks only).
        listener: called for every layer.
        tile: run the network on overlapping tiles of so many voxels along each axis; whole if not given.
    """

    spec, frame = network.spec, pair.frame

    def attempt(place: str, size: int | None) -> Prediction:
        ready = deploy(network, place)
        # In tiles, only they are on the device.
        here = pair.to(place if size is None else "cpu")
        total = torch.zeros(1, 3, *frame.shape, device=here.fixed.device)
        recorders: list[ActivityRecorder] = []
        kept, made, best = 0, 0, here.similarity()
        moved = here
        warnings: list[str] = []
        for number in range(passes):

            def heard(fraction: float, layer: Layer, number: int = number) -> None:
                message = f"pass {number + 1} of {passes}: {layer.name}"
                listener(Progress("predict", (number + fraction) / passes, message))

            output, activity = read_pair(
                network, ready, moved, tile=size, device=place, spike_maps=spike_maps, heard=heard
            )
            recorders, made = recorders + activity, number + 1
            step = ready.integrate(output, frame.shape)
            candidate = here.continued((step if number == 0 else compose(step, total))[0])[None]
            candidate = taper(candidate, TAPER_VOXELS)
            warped = here.seen_through(candidate[0])
            similarity = warped.similarity()
            if not similarity > best:
                if number == 0:
                    warnings.append("the network did not improve the similarity; its prediction was dropped")
                break
            total, best, kept, moved = candidate, similarity, number + 1, warped
        views = here.comparison.views
        return Prediction(
            displacement=here.grid.to_mm(total[0]).cpu().clone(),
            passes=kept,
            passes_run=made,
            views=views,
            layers=sum_layers([recorder.layers for recorder in recorders]),
            energy=energy_of(network, frame, recorders, made * views),
            maps=rate_maps([recorder.maps for recorder in recorders], frame, spec),
            timesteps=spec.timesteps,
            device=place,
            arithmetic=getattr(ready, "arithmetic", "float32"),
            tile=size,
            warnings=warnings,
        )

    return with_fallback(attempt, device, tile, longest=max(frame.shape))


def with_fallback(
    attempt: Callable[[str, int | None], Prediction], device: str, tile: int | None, *, longest: int
) -> Prediction:
    """What `attempt(device, tile)` gives; out of memory, what smaller tiles give, and then the CPU, with a warning.

    Args:
        attempt: runs a network.
        device, tile: as wished.
        longest: axis of the image, in voxels; larger tiles are not tried.
    """
    attempts: list[tuple[str, int | None]] = [(device, tile)]
    if device != "cpu":
        attempts += [(device, size) for size in SMALLER_TILES if size < min(longest, tile or longest)]
        attempts.append(("cpu", tile))
    for number, (place, size) in enumerate(attempts):
        try:
            prediction = attempt(place, size)
        except RuntimeError as error:  # CUDA's has a type of its own, Metal's only says so
            if place == "cpu" or "out of memory" not in str(error).lower():
                raise
            continue
        if number == 0:
            return prediction
        instead = (
            "the network ran on the CPU instead" if place == "cpu" else f"the network ran in tiles of {size} voxels"
        )
        warning = f"the {device} device ran out of memory; {instead}"
        return replace(prediction, warnings=[warning, *prediction.warnings])
    raise AssertionError("the CPU, the last attempt, returns or raises")


def check_tile(tile: int | None, *networks: RegistrationUNet) -> None:
    """Refuse tiles that no network can run on, before any work is spent.

    Args:
        tile: as wished, see `predict`.
        networks: all that are to run on it; one at least.

    Raises:
        InputError: a tile is smaller than one needs.
    """
    if tile is None:
        return
    least = max(smallest_tile(network.spec) for network in networks)
    if tile < least:
        raise InputError(f"--tile: the network needs tiles of at least {least} voxels, got {tile}")


class Recording:
    """Passes the counts of every layer on to the activity table, and the progress to the listener.

    Synaptic operations depend on the counts of all channels of a voxel together, so these sums are what the receiving
    layers are shown: a few percent of merging and up-sampling every channel.
    """

    reads_inputs = False

    def __init__(self, recorder: ActivityRecorder | None, image: torch.Tensor, heard: Callable[[Layer], None]) -> None:
        self.recorder, self.heard = recorder, heard
        self.sums: dict[str, torch.Tensor] = {}
        self.image = image

    def __call__(self, layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        if self.recorder is not None:
            analog = layer.inputs == ("image",)
            self.recorder(layer, [self.image] if analog else merge_inputs(layer, self.sums), output)
            if layer.neuron:
                self.sums[layer.name] = output.sum(1, keepdim=True, dtype=torch.float32)
        self.heard(layer)


def run_network(
    network: RegistrationUNet,
    image: torch.Tensor,
    *,
    tile: int | None,
    device: str,
    recorder: ActivityRecorder | None,
    heard: Callable[[float, Layer], None],
) -> torch.Tensor:
    """The head's output [1, 3, d, h, w] of one pass, whole or in tiles, in voxels of its grid.

    Args:
        network: made ready by `deploy`.
        image: [1, 2, D, H, W] on `device`, or on the CPU where `tile` is given.
        tile, device: see `predict`.
        recorder: counts the activity; None for a dense network.
        heard: called after every layer with the share of the pass that is done.
    """
    layers = network.spec.layers

    def finished(layer: Layer) -> None:
        if tile is None:
            heard((layers.index(layer) + 1) / len(layers), layer)

    record = Recording(recorder, image, finished)
    with torch.inference_mode():
        if tile is None:
            return network(image, recorder=record)
        return tiled_output(network, image, size=tile, device=device, recorder=record, heard=heard)


def read_pair(
    network: RegistrationUNet,
    ready: RegistrationUNet,
    pair: Pair,
    *,
    tile: int | None,
    device: str,
    spike_maps: bool,
    heard: Callable[[float, Layer], None],
) -> tuple[torch.Tensor, list[ActivityRecorder]]:
    """What one pass gives: the head's output [1, 3, d, h, w], in voxels of its grid, and the activity.

    A pair of two contrasts is read twice, both images in the contrast of the fixed one and both in that of the moving
    one, and the output is the mean: where tissues look alike in one contrast, the other tells them apart.

    Args:
        network: as it was loaded.
        ready: the same, made ready by `deploy`.
        pair: what it sees, on `device`, or on the CPU where `tile` is given.
        tile, device, spike_maps: see `predict`.
        heard: see `run_network`.

    Returns:
        The output, and a recorder for every time the pair was read; none of a dense network.
    """
    views = [pair.filled(*view) for view in pair.comparison.in_one_contrast(pair.fixed, pair.moving)]
    outputs, recorders = [], []
    for number, view in enumerate(views):

        def heard_here(fraction: float, layer: Layer, number: int = number) -> None:
            heard((number + fraction) / len(views), layer)

        recorder = None
        if isinstance(network, SpikingUNet):
            recorder = ActivityRecorder(network.spec, pair.frame.shape, maps=spike_maps)
            recorders.append(recorder)
        image = torch.stack(view)[None]
        outputs.append(run_network(ready, image, tile=tile, device=device, recorder=recorder, heard=heard_here))
    return sum(outputs[1:], outputs[0]) / len(outputs), recorders


def energy_of(network: RegistrationUNet, frame: Frame, recorders: list[ActivityRecorder], read: int) -> EnergyTable:
    """Operations of all passes, the pair being read `read` times; the paper's baseline is one pass of the paper's
    network, however many are made here."""
    table = dense_table(network.spec, frame.shape)
    layers = [layer for recorder in recorders for layer in recorder.layers]
    return replace(
        table,
        paper_baseline_macs=paper_baseline_macs(frame.shape, frame.spacing[0]),
        dense_twin_macs=table.dense_twin_macs * read,
        analog_macs=table.analog_macs * read,
        synaptic_ops=sum(layer.synaptic_ops for layer in layers) if recorders else None,
        neuron_updates=sum(layer.neuron_updates for layer in layers) if recorders else None,
    )


def rate_maps(runs: list[dict[str, torch.Tensor]], frame: Frame, spec: NetworkSpec) -> dict[str, Volume]:
    """Mean rate maps of passes on `frame`: voxel n of a layer's grid lies at voxel n * stride of the frame."""
    maps: dict[str, Volume] = {}
    strides = layer_strides(spec)
    for name in runs[0] if runs else ():
        rate = torch.stack([run[name] for run in runs]).mean(0).cpu().clone()
        depth, height, width = rate.shape
        grid = replace(frame, shape=(depth, height, width), spacing=(frame.spacing[0] * strides[name],) * 3)
        maps[name] = Volume(rate, grid, name)
    return maps
