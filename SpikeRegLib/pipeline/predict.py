"""Predict: what the networks find."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from SpikeRegLib.networks.fine_pass import predict_fine
from SpikeRegLib.networks.passes import Prediction, predict
from SpikeRegLib.pipeline.align import Pair
from SpikeRegLib.pipeline.prepare import Network
from SpikeRegLib.pipeline.run import Run
from SpikeRegLib.progress import Progress, part_of_stage
from SpikeRegLib.similarity.pair import Deformation, Working
from SpikeRegLib.spiking.unet import RegistrationUNet


@dataclass(frozen=True)
class Predicted:
    """What the networks found, None without one; the deformation, and the similarity it reaches."""

    prediction: Prediction | None
    deformation: Deformation
    similarity: float

    @property
    def warnings(self) -> list[str]:
        return [] if self.prediction is None else self.prediction.warnings


def predict_pair(
    run: Run, pair: Pair, network: Network | None, fine: Network | None, spike_maps: bool, tile: int | None
) -> Predicted:
    judged = pair.judged
    if network is None:
        deformation = Deformation(torch.zeros(3, *judged.frame.shape), judged.grid)
        return Predicted(None, deformation, deformation.similarity(judged))
    seen = pair.working.coarser(network.network.spec.input_spacing_mm)
    prediction = predict(
        network.network, seen, passes=max(1, run.preset.passes), device=run.device, spike_maps=spike_maps,
        listener=run.listener if fine is None else part_of_stage(run.listener, 0.0, 0.5), tile=tile,
    )  # fmt: skip
    deformation = Deformation(prediction.displacement, seen.grid)
    if fine is None:
        run.listener(Progress("predict", 1.0, "measuring the similarity"))
        return Predicted(prediction, deformation, deformation.similarity(judged))
    finer = pair.working.coarser(fine.network.spec.input_spacing_mm)
    return Predicted(*_fine_pass(run, fine.network, finer, judged, prediction, deformation, spike_maps, tile))


def _fine_pass(
    run: Run, network: RegistrationUNet, pair: Working, judged: Working, coarse: Prediction, start: Deformation,
    spike_maps: bool, tile: int | None,
) -> tuple[Prediction, Deformation, float]:  # fmt: skip
    """The second network's pass, kept if it improves the similarity, and what that is; its cost counts either way."""
    prediction, grid = predict_fine(
        network, pair, coarse=coarse, coarse_grid=start.grid, device=run.device, spike_maps=spike_maps,
        listener=part_of_stage(run.listener, 0.5, 1.0), tile=tile,
    )  # fmt: skip
    found = Deformation(prediction.displacement, grid)
    run.listener(Progress("predict", 1.0, "measuring the similarity"))
    before, after = start.similarity(judged), found.similarity(judged)
    if after > before:
        return prediction, found, after
    warning = "the fine pass did not improve the similarity; its prediction was dropped"
    warnings = [*prediction.warnings, warning]
    kept = replace(prediction, displacement=coarse.displacement, passes=coarse.passes, warnings=warnings)
    return kept, start, before
