"""The fine pass: a second network at a smaller voxel size, on the pair as the first one left it.

The coarse network has brought structures together to about its voxel size; the fine one sees what is left at 1 mm and
needs few channels for it. Its field lives on the grid of its head (2 mm), where both are composed, never added.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from SpikeRegLib.fields import compose, exponential, taper, warp
from SpikeRegLib.frames import Frame
from SpikeRegLib.predict import TAPER_VOXELS, Prediction, rate_maps, run_network, with_fallback
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity
from SpikeRegLib.spiking.deploy import deploy
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
    tile: int | None = None,
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
        tile: see `predict`.

    Returns:
        Both passes as one prediction (layers of the second one are named "fine.<layer>"), and the grid of its
        displacement in mm.
    """
    spec, spacing = network.spec, frame.spacing[0]
    grid, stride = Grid(frame.shape, spacing), spec.output_stride()
    depth, height, width = spec.shapes(frame.shape)[spec.head.name]
    head = Grid((depth, height, width), spacing * stride)
    earlier = resample(coarse.displacement, coarse_grid, grid)[None] / spacing
    listener(Progress("predict", 0.0, "fine pass: warping"))
    image = torch.cat((fixed[None, None], warp(moving[None, None], earlier)), 1)
    listener(Progress("predict", 0.0, "fine pass: warping"))
    before = resample(coarse.displacement, coarse_grid, head)[None] / head.spacing_mm

    def heard(fraction: float, layer: Layer) -> None:
        listener(Progress("predict", fraction, f"fine pass: {layer.name}"))

    def attempt(place: str, size: int | None) -> Prediction:
        ready = deploy(network, place)
        arithmetic = getattr(ready, "arithmetic", "float32")
        recorder = ActivityRecorder(spec, frame.shape, maps=spike_maps) if isinstance(network, SpikingUNet) else None
        here = image.to(place) if size is None else image
        output = run_network(ready, here, tile=size, device=place, recorder=recorder, heard=heard)
        step = exponential(output.float()).cpu().clone()
        total = taper(compose(step, before), max(1, round(TAPER_VOXELS / stride)))
        layers = recorder.layers if recorder is not None else []
        rates = rate_maps([recorder.maps], frame, spec) if recorder is not None else {}
        return replace(
            coarse,
            displacement=(total[0] * head.spacing_mm).contiguous(),
            energy=_both(coarse.energy, dense_table(spec, frame.shape), layers),
            layers=[*coarse.layers, *(replace(layer, name=PREFIX + layer.name) for layer in layers)],
            maps={**coarse.maps, **{PREFIX + name: replace(v, name=PREFIX + name) for name, v in rates.items()}},
            device=place,
            arithmetic=arithmetic if arithmetic == coarse.arithmetic else f"{coarse.arithmetic}, then {arithmetic}",
            tile=size,
        )

    return with_fallback(attempt, device, tile, longest=max(frame.shape)), head


def _both(coarse: EnergyTable, fine: EnergyTable, layers: list[LayerActivity]) -> EnergyTable:
    """Operations of both passes; the paper's baseline is one pass of its network over the field of view."""
    operations = updates = None
    if layers and coarse.synaptic_ops is not None and coarse.neuron_updates is not None:
        operations = coarse.synaptic_ops + sum(layer.synaptic_ops for layer in layers)
        updates = coarse.neuron_updates + sum(layer.neuron_updates for layer in layers)
    return replace(
        coarse,
        dense_twin_macs=coarse.dense_twin_macs + fine.dense_twin_macs,
        paper_baseline_macs=fine.paper_baseline_macs,
        analog_macs=coarse.analog_macs + fine.analog_macs,
        synaptic_ops=operations,
        neuron_updates=updates,
    )
