"""The network's part: one or more passes over a pair on the working frame, each composed with what was found before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from SpikeRegLib.fields import compose, taper, warp
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume
from SpikeRegLib.losses import lncc
from SpikeRegLib.precision import Precision
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity
from SpikeRegLib.spiking.energy import EnergyTable, dense_table
from SpikeRegLib.spiking.spec import Layer, NetworkSpec
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

# Width of the margin around the anatomy over which the displacement falls to zero.
TAPER_VOXELS = 6


@dataclass(frozen=True)
class Prediction:
    """What the network found.

    Attributes:
        displacement: [3, D, H, W] mm on the working frame, fixed -> (aligned) moving.
        passes: passes that improved the similarity and were kept.
        layers: activity summed over the passes; empty for a dense network.
        energy: operations of all passes.
        maps: layer -> spike-rate volume, mean over the passes.
        timesteps: T of the neurons.
        device: where it ran, after any fallback.
        warnings: what a person should know.
    """

    displacement: torch.Tensor
    passes: int
    layers: list[LayerActivity]
    energy: EnergyTable
    maps: dict[str, Volume]
    timesteps: int
    device: str
    warnings: list[str] = field(default_factory=list)


def predict(
    network: RegistrationUNet,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    frame: Frame,
    *,
    mask: torch.Tensor,
    passes: int,
    device: str,
    spike_maps: bool,
    listener: Listener,
) -> Prediction:
    """Run `network` on a pair.

    Args:
        network: dense or spiking, in evaluation mode.
        fixed, moving: [D, H, W] in [0, 1] on the working frame, moving already aligned.
        frame: the working frame.
        mask: [D, H, W] bool, where similarity counts.
        passes: the most passes; one that does not improve the similarity ends the series and is dropped.
        device: "cpu", "cuda" or "mps"; out of memory there falls back to the CPU with a warning.
        spike_maps: keep rate maps (spiking networks only).
        listener: called for every layer.
    """

    def run_on(place: str) -> Prediction:
        return _predict(
            network.to(place), fixed, moving, frame, mask=mask, passes=passes, device=place, spike_maps=spike_maps,
            listener=listener,
        )  # fmt: skip

    try:
        return run_on(device)
    except RuntimeError as error:  # CUDA's has a type of its own, Metal's only says so
        if device == "cpu" or "out of memory" not in str(error).lower():
            raise
    prediction = run_on("cpu")
    warning = f"the {device} device ran out of memory; the network ran on the CPU instead"
    return replace(prediction, warnings=[warning, *prediction.warnings])


def _predict(
    network: RegistrationUNet,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    frame: Frame,
    *,
    mask: torch.Tensor,
    passes: int,
    device: str,
    spike_maps: bool,
    listener: Listener,
) -> Prediction:
    spec, precision = network.spec, Precision.best(device)
    f, m = fixed[None, None].to(device), moving[None, None].to(device)
    region = mask.to(device)
    total = torch.zeros(1, 3, *fixed.shape, device=device)
    recorders: list[ActivityRecorder] = []
    kept, best = 0, float(lncc(f[0, 0], m[0, 0], mask=region))
    warnings: list[str] = []
    for number in range(passes):
        seen = m if number == 0 else warp(m, total)
        recorder = ActivityRecorder(spec, frame.shape, maps=spike_maps) if isinstance(network, SpikingUNet) else None
        done = [0]

        def record(
            layer: Layer,
            inputs: list[torch.Tensor],
            output: torch.Tensor,
            number: int = number,
            recorder: Any = recorder,
            done: list[int] = done,
        ) -> None:
            if recorder is not None:
                recorder(layer, inputs, output)
            done[0] += 1
            fraction = (number + done[0] / len(spec.layers)) / passes
            listener(Progress("predict", fraction, f"pass {number + 1} of {passes}: {layer.name}"))

        with torch.inference_mode(), precision.autocast():
            step = network.displacement(torch.cat((f, seen), 1), recorder=record).float()
        if recorder is not None:
            recorders.append(recorder)
        candidate = taper(step if number == 0 else compose(step, total), TAPER_VOXELS)
        similarity = float(lncc(f[0, 0], warp(m, candidate)[0, 0], mask=region))
        if not similarity > best:
            if number == 0:
                warnings.append("the network did not improve the similarity; its prediction was dropped")
            break
        total, best, kept = candidate, similarity, number + 1
    ran = len(recorders) or min(passes, kept + 1)
    return Prediction(
        displacement=(total[0] * frame.spacing[0]).cpu().clone(),
        passes=kept,
        layers=_sum_layers([recorder.layers for recorder in recorders]),
        energy=_energy(network, frame, recorders, ran),
        maps=_maps(recorders, frame, spec),
        timesteps=spec.timesteps,
        device=device,
        warnings=warnings,
    )


def _sum_layers(runs: list[list[LayerActivity]]) -> list[LayerActivity]:
    """Counts and operations add up over passes; rates and silent shares are means."""
    if not runs:
        return []
    summed = []
    for entries in zip(*runs, strict=True):
        summed.append(
            replace(
                entries[0],
                count=sum(e.count for e in entries),
                rate=sum(e.rate for e in entries) / len(entries),
                silent_percent=sum(e.silent_percent for e in entries) / len(entries),
                synaptic_ops=sum(e.synaptic_ops for e in entries),
                analog_macs=sum(e.analog_macs for e in entries),
                dense_macs=sum(e.dense_macs for e in entries),
                neuron_updates=sum(e.neuron_updates for e in entries),
            )
        )
    return summed


def _energy(network: RegistrationUNet, frame: Frame, recorders: list[ActivityRecorder], ran: int) -> EnergyTable:
    """Operations of all passes; the paper's baseline is one pass of the paper's network, however many are made here."""
    table = dense_table(network.spec, frame.shape)
    layers = [layer for recorder in recorders for layer in recorder.layers]
    return replace(
        table,
        dense_twin_macs=table.dense_twin_macs * ran,
        analog_macs=table.analog_macs * ran,
        synaptic_ops=sum(layer.synaptic_ops for layer in layers) if recorders else None,
        neuron_updates=sum(layer.neuron_updates for layer in layers) if recorders else None,
    )


def _maps(recorders: list[ActivityRecorder], frame: Frame, spec: NetworkSpec) -> dict[str, Volume]:
    """Voxel n of a layer's grid lies at voxel n * stride of the working frame."""
    maps: dict[str, Volume] = {}
    # On a grid that every stride divides; the sizes of other grids are rounded up and do not tell the stride.
    shapes = spec.shapes((64, 64, 64))
    for name in recorders[0].maps if recorders else ():
        rate = torch.stack([recorder.maps[name] for recorder in recorders]).mean(0).cpu().clone()
        stride = 64 // shapes[name][0]
        depth, height, width = rate.shape
        grid = replace(frame, shape=(depth, height, width), spacing=(frame.spacing[0] * stride,) * 3)
        maps[name] = Volume(rate, grid, name)
    return maps
