"""Predict: what the networks find, and where the refinement starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from SpikeRegLib.networks.fine_pass import predict_fine
from SpikeRegLib.networks.passes import Prediction, predict
from SpikeRegLib.pipeline.align import TwoScalePair
from SpikeRegLib.pipeline.prepare import Network
from SpikeRegLib.pipeline.stage import Stage, Work
from SpikeRegLib.progress import Progress, part_of_stage
from SpikeRegLib.similarity.pair import Deformation


@dataclass(frozen=True)
class Start:
    """Where the refinement starts: the deformation that networks found, if there are any, and its similarity."""

    prediction: Prediction | None
    deformation: Deformation
    similarity: float

    @property
    def warnings(self) -> list[str]:
        return [] if self.prediction is None else self.prediction.warnings


def no_deformation(pair: TwoScalePair) -> Start:
    """The start without a network."""
    judged = pair.judged
    deformation = Deformation(torch.zeros(3, *judged.frame.shape), judged.grid)
    return Start(None, deformation, deformation.similarity(judged))


def _predicted(work: Work, settings: dict[str, Any]) -> Start:
    pair: TwoScalePair = work["working pair"]
    network: Network | None = work["network"]
    fine: Network | None = work["fine network"]
    if network is None:
        return no_deformation(pair)
    how = {name: settings[name] for name in ("device", "spike_maps", "tile")}
    seen = pair.working.coarser(network.network.spec.input_spacing_mm)
    prediction = predict(
        network.network, seen, passes=max(1, settings["preset.passes"]), **how,
        listener=work.listener if fine is None else part_of_stage(work.listener, 0.0, 0.5),
    )  # fmt: skip
    deformation = Deformation(prediction.displacement, seen.grid)
    if fine is None:
        work.listener(Progress("predict", 1.0, "measuring the similarity"))
        return Start(prediction, deformation, deformation.similarity(pair.judged))
    return _fine_pass(work, fine, pair, prediction, deformation, how)


def _fine_pass(
    work: Work, fine: Network, pair: TwoScalePair, coarse: Prediction, start: Deformation, how: dict[str, Any]
) -> Start:
    """The second network's pass, kept if it improves the similarity; its cost counts either way."""
    finer = pair.working.coarser(fine.network.spec.input_spacing_mm)
    prediction, grid = predict_fine(
        fine.network, finer, coarse=coarse, coarse_grid=start.grid, **how,
        listener=part_of_stage(work.listener, 0.5, 1.0),
    )  # fmt: skip
    found = Deformation(prediction.displacement, grid)
    work.listener(Progress("predict", 1.0, "measuring the similarity"))
    before, after = start.similarity(pair.judged), found.similarity(pair.judged)
    if after > before:
        return Start(prediction, found, after)
    warning = "the fine pass did not improve the similarity; its prediction was dropped"
    warnings = [*prediction.warnings, warning]
    kept = replace(prediction, displacement=coarse.displacement, passes=coarse.passes, warnings=warnings)
    return Start(kept, start, before)


PREDICTION = Stage(
    "prediction", "predict", _predicted, reads=("preset.passes", "device", "spike_maps", "tile"),
    follows=("network", "fine network", "working pair"),
)  # fmt: skip
NO_PREDICTION = Stage(
    "prediction", "predict", lambda work, settings: no_deformation(work["working pair"]), follows=("working pair",)
)
