"""Methods as lists of stages."""

from __future__ import annotations

from SpikeRegLib.pipeline.align import ALIGNMENT, WORKING_PAIR
from SpikeRegLib.pipeline.anatomy import AGREEMENT, ANATOMY, SIDES, STRUCTURE_MAPS, STRUCTURE_RATES, STRUCTURES_NETWORK
from SpikeRegLib.pipeline.assemble import registration
from SpikeRegLib.pipeline.field import ENCODED, FIELD, FIELD_REFINEMENT
from SpikeRegLib.pipeline.landmarks import LANDMARKS
from SpikeRegLib.pipeline.mapping import BACKGROUND, MAPPING
from SpikeRegLib.pipeline.overlap import OVERLAP
from SpikeRegLib.pipeline.predict import NO_PREDICTION, PREDICTION
from SpikeRegLib.pipeline.prepare import (
    FIELD_MODEL,
    FINE_NETWORK,
    INITIAL_TRANSFORM,
    INPUTS,
    NETWORK,
    PAIR,
    TILE,
    VERDICT_BOUNDS,
)
from SpikeRegLib.pipeline.refine import REFINEMENT
from SpikeRegLib.pipeline.region import REGION, REGION_IMAGE
from SpikeRegLib.pipeline.stage import Stage
from SpikeRegLib.pipeline.trust import PREDICTED_ERROR

Plan = tuple[Stage, ...]

_READ: Plan = (VERDICT_BOUNDS, STRUCTURES_NETWORK, INITIAL_TRANSFORM, *INPUTS, REGION_IMAGE, PAIR, BACKGROUND)
_ALIGN: Plan = (*ANATOMY, *SIDES, ALIGNMENT, WORKING_PAIR, STRUCTURE_MAPS)
_FINISH: Plan = (MAPPING, OVERLAP, AGREEMENT, STRUCTURE_RATES, PREDICTED_ERROR)

UNET: Plan = (
    NETWORK, FINE_NETWORK, TILE, *_READ, *_ALIGN, PREDICTION, REGION, REFINEMENT, LANDMARKS, *_FINISH,
    registration("network", "fine network"),
)  # fmt: skip
NEURAL_FIELD: Plan = (
    FIELD_MODEL, *_READ, *_ALIGN, ENCODED, REGION, FIELD, FIELD_REFINEMENT, LANDMARKS, *_FINISH,
    registration("network", fitted=True),
)  # fmt: skip
OPTIMISATION: Plan = (
    *_READ, *_ALIGN, NO_PREDICTION, REGION, REFINEMENT, LANDMARKS, *_FINISH, registration(),
)  # fmt: skip

PLANS: dict[str, Plan] = {
    "spikereg": UNET,
    "ann": UNET,
    "nephi": NEURAL_FIELD,
    "spiking-nephi": NEURAL_FIELD,
    "optimize": OPTIMISATION,
}
