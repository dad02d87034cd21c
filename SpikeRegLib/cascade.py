"""The fine pass: a second network at a smaller voxel size, on the pair as the first one left it.

The coarse network has brought structures together to about its voxel size; the fine one sees what is left at 1 mm and
needs few channels for it. Its field lives on the grid of its head (2 mm), where both are composed, never added.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from SpikeRegLib.fields import compose, exponential, taper, warp
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume
from SpikeRegLib.precision import Precision
from SpikeRegLib.predict import TAPER_VOXELS, Prediction
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity
from SpikeRegLib.spiking.energy import EnergyTable, dense_table
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

PREFIX = "fine."


def predict_fine(
    network: RegistrationUNet,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    frame: Frame,
    *,
    coarse: Prediction,
    coarse_grid: Grid,
    device: str,
    spike_maps: bool,
    listener: Listener,
) -> tuple[Prediction, Grid]:
    """One pass of `network` on a pair, composed with what `coarse` found.

    Args:
        network: with a velocity head, dense or spiking, in evaluation mode.
        fixed, moving: [D, H, W] in [0, 1] on the working frame, moving aligned but not deformed.
        frame: of the images, isotropic.
        coarse: the first network's prediction.
        coarse_grid: of its displacement, starting at the first voxel of `frame`.
        device: "cpu", "cuda" or "mps".
        spike_maps: keep rate maps (spiking networks only).
        listener: called for every layer.

    Returns:
        Both passes as one prediction (layers of the second one are named "fine.<layer>"), and the grid of its
        displacement in mm.
    """
    network = network.to(device)
    spacing = frame.spacing[0]
    grid = Grid(frame.shape, spacing)
    stride = network.spec.output_stride()
    depth, height, width = network.spec.shapes(frame.shape)[network.spec.head.name]
    head = Grid((depth, height, width), spacing * stride)
    earlier = resample(coarse.displacement, coarse_grid, grid)[None] / spacing
    seen = warp(moving[None, None], earlier).to(device)
    spiking = isinstance(network, SpikingUNet)
    recorder = ActivityRecorder(network.spec, frame.shape, maps=spike_maps) if spiking else None
    done = 0

    def record(layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal done
        if recorder is not None:
            recorder(layer, inputs, output)
        done += 1
        listener(Progress("predict", done / len(network.spec.layers), f"fine pass: {layer.name}"))

    with torch.inference_mode(), Precision.best(device).autocast():
        output = network(torch.cat((fixed[None, None].to(device), seen), 1), recorder=record).float()
    step = exponential(output).cpu().clone()
    before = resample(coarse.displacement, coarse_grid, head)[None] / head.spacing_mm
    total = taper(compose(step, before), max(1, round(TAPER_VOXELS / stride)))
    prediction = replace(
        coarse,
        displacement=(total[0] * head.spacing_mm).contiguous(),
        energy=_both(coarse.energy, dense_table(network.spec, frame.shape), recorder),
        layers=[*coarse.layers, *_named(recorder.layers if recorder else [])],
        maps={**coarse.maps, **_maps(recorder, frame, network)},
        device=device,
    )
    return prediction, head


def _named(layers: list[LayerActivity]) -> list[LayerActivity]:
    return [replace(layer, name=PREFIX + layer.name) for layer in layers]


def _both(coarse: EnergyTable, fine: EnergyTable, recorder: ActivityRecorder | None) -> EnergyTable:
    """Operations of both passes; the paper's baseline is one pass of its network over the field of view."""
    layers = [] if recorder is None else recorder.layers
    measured = coarse.synaptic_ops is not None and recorder is not None
    return replace(
        coarse,
        dense_twin_macs=coarse.dense_twin_macs + fine.dense_twin_macs,
        paper_baseline_macs=fine.paper_baseline_macs,
        analog_macs=coarse.analog_macs + fine.analog_macs,
        synaptic_ops=(coarse.synaptic_ops or 0) + sum(layer.synaptic_ops for layer in layers) if measured else None,
        neuron_updates=(coarse.neuron_updates or 0) + sum(layer.neuron_updates for layer in layers)
        if measured
        else None,
    )


def _maps(recorder: ActivityRecorder | None, frame: Frame, network: RegistrationUNet) -> dict[str, Volume]:
    """Voxel n of a layer's grid lies at voxel n * stride of the frame."""
    shapes = network.spec.shapes((64, 64, 64))
    maps = {}
    for name, rate in (recorder.maps if recorder else {}).items():
        stride = 64 // shapes[name][0]
        depth, height, width = rate.shape
        grid = replace(frame, shape=(depth, height, width), spacing=(frame.spacing[0] * stride,) * 3)
        maps[PREFIX + name] = Volume(rate.cpu().clone(), grid, PREFIX + name)
    return maps
