"""The fine pass: a second network at a smaller voxel size, on the pair as the first one left it.

The coarse network has brought structures together to about its voxel size; the fine one sees what is left at 1 mm and
needs few channels for it. Its field lives on the grid of its head (2 mm), where both are composed, never added.
"""

from __future__ import annotations

from dataclasses import replace

from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.networks.passes import TAPER_VOXELS, Prediction, energy_of, rate_maps, read_pair, with_fallback
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.fields import compose, exponential, taper
from SpikeRegLib.space.grids import Grid, resample, resample_voxels
from SpikeRegLib.spiking.activity import sum_layers
from SpikeRegLib.spiking.energy import EnergyTable
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import RegistrationUNet

PREFIX = "fine."


def predict_fine(
    network: RegistrationUNet,
    pair: Pair,
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
        pair: on the network's grid, moving aligned but not deformed; see `predict.read_pair`.
        coarse: the first network's prediction.
        coarse_grid: of its displacement, starting at the first voxel of the pair's.
        device: "cpu", "cuda" or "mps".
        spike_maps: keep rate maps (spiking networks only).
        listener: called for every layer.
        tile: see `predict`.

    Returns:
        Both passes as one prediction (layers of the second one are named "fine.<layer>"), and the grid of its
        displacement in mm.
    """
    spec, frame, spacing = network.spec, pair.frame, pair.frame.spacing[0]
    stride = spec.output_stride()
    depth, height, width = spec.shapes(frame.shape)[spec.head.name]
    head = Grid((depth, height, width), spacing * stride)
    earlier = pair.grid.to_voxels(resample(coarse.displacement, coarse_grid, pair.grid))[None]
    listener(Progress("predict", 0.0, "fine pass: warping"))
    moved = pair.seen_through(earlier[0])
    listener(Progress("predict", 0.0, "fine pass: warping"))
    before = head.to_voxels(resample(coarse.displacement, coarse_grid, head))[None]

    def heard(fraction: float, layer: Layer) -> None:
        listener(Progress("predict", fraction, f"fine pass: {layer.name}"))

    def attempt(place: str, size: int | None) -> Prediction:
        ready = deploy(network, place)
        arithmetic = getattr(ready, "arithmetic", "float32")
        here = moved.to(place if size is None else "cpu")
        output, recorders = read_pair(network, ready, here, tile=size, device=place, spike_maps=spike_maps, heard=heard)
        step = exponential(output.float()).cpu().clone()
        total = compose(step, before)
        if pair.known is not None:
            known = pair.known.seen_through(resample_voxels(total[0], head, pair.grid)).resampled(pair.grid, head)
            total = known.continued(total[0], head.spacing_mm, fade_mm=pair.fade_mm)[None]
        total = taper(total, max(1, round(TAPER_VOXELS / stride)))
        layers = sum_layers([recorder.layers for recorder in recorders])
        rates = rate_maps([recorder.maps for recorder in recorders], frame, spec)
        energy = energy_of(network, frame, recorders, pair.comparison.views)
        return replace(
            coarse,
            displacement=head.to_mm(total[0]).contiguous(),
            passes=coarse.passes + 1,
            passes_run=coarse.passes_run + 1,
            energy=_both(coarse.energy, energy),
            layers=[*coarse.layers, *(replace(layer, name=PREFIX + layer.name) for layer in layers)],
            maps={**coarse.maps, **{PREFIX + name: replace(v, name=PREFIX + name) for name, v in rates.items()}},
            device=place,
            arithmetic=arithmetic if arithmetic == coarse.arithmetic else f"{coarse.arithmetic}, then {arithmetic}",
            tile=size,
        )

    return with_fallback(attempt, device, tile, longest=max(frame.shape)), head


def _both(coarse: EnergyTable, fine: EnergyTable) -> EnergyTable:
    """Operations of both passes; the paper's baseline is one pass of its network over the field of view."""

    def total(first: int | None, second: int | None) -> int | None:
        return None if first is None or second is None else first + second

    return replace(
        coarse,
        dense_twin_macs=coarse.dense_twin_macs + fine.dense_twin_macs,
        paper_baseline_macs=fine.paper_baseline_macs,
        analog_macs=coarse.analog_macs + fine.analog_macs,
        synaptic_ops=total(coarse.synaptic_ops, fine.synaptic_ops),
        neuron_updates=total(coarse.neuron_updates, fine.neuron_updates),
    )
