"""How far the result is expected to be wrong, and where."""

from __future__ import annotations

from typing import Any

from SpikeRegLib.anatomy.label_maps import numbered
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.pose import FoundHead
from SpikeRegLib.anatomy.structures import LABELS
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.stage import Stage, Work
from SpikeRegLib.progress import Progress
from SpikeRegLib.trust.predicted_error import PredictedError, error_facts, predict_error


def _predicted(work: Work, settings: Any) -> PredictedError:
    work.listener(Progress("finish", 0.98, "predicting the error"))
    return predict_error(work["working pair"].judged, (work["landmarks"] or work["refinement"]).deformation)


PREDICTED_ERROR = Stage("predicted error", "finish", _predicted, follows=("working pair", "refinement", "landmarks"))


def predicted_facts(work: Work) -> dict[str, Any] | None:
    """`predicted_error` of result.json, by structure where the fixed image's were found."""
    head: FoundHead | None = work["fixed anatomy"]
    if head is None or not head.check.head:
        return error_facts(work["predicted error"], None, {})
    labels = Volume(numbered(head.maps.classes), head.maps.frame)
    return error_facts(work["predicted error"], labels, {label: STRUCTURES[label].name for label in LABELS})
