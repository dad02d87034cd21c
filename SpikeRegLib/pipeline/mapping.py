"""The whole map from fixed to moving points: composed, inverted, sampled, measured, and the moving image through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, background_value
from SpikeRegLib.pipeline.linear import is_linear
from SpikeRegLib.pipeline.resampling import resampled, slabs
from SpikeRegLib.pipeline.stage import Stage, Work
from SpikeRegLib.progress import Progress
from SpikeRegLib.quality import metrics
from SpikeRegLib.similarity.pair import settled
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, compose

# Voxels at which forward and inverse are compared: the mean is then right to about one percent.
CONSISTENCY_SAMPLES = 20_000


@dataclass(frozen=True)
class Mapping:
    """The whole map from fixed to moving points, and what it does to the moving image.

    Attributes:
        transform, inverse: fixed -> moving points and back.
        displacement: [3, D, H, W] mm, of `transform` on the grid of fixed.
        warped: the moving image through it.
        jacobian: [D, H, W], its determinant.
        summary: see `metrics.deformation_summary`; with the inverse consistency, and where the Jacobian is least.
    """

    transform: Transform
    inverse: Transform
    displacement: torch.Tensor
    warped: Volume
    jacobian: torch.Tensor
    summary: dict[str, Any]


def _background(work: Work, settings: dict[str, Any]) -> float:
    """Of the warped image where the moving one does not reach."""
    given = settings["background"]
    return background_value(work["moving input"].image) if given is None else given


def _mapping(work: Work, settings: tuple[float, str]) -> Mapping:
    background, transform_type = settings

    def report(fraction: float, message: str) -> None:
        work.listener(Progress("finish", fraction, message))

    pair, base, side = work["working pair"], work["alignment"].transform, work["fixed mask"]
    found = (work["landmarks"] or work["refinement"]).deformation
    deformation = settled(DisplacementTransform(found.field, pair.working.frame_of(found.grid)), pair.itk_jacobian)
    report(0.1, "inverting")
    if is_linear(transform_type):
        transform, inverse = base, base.inverse()
    else:
        transform = compose(deformation, base)
        inverse = compose(
            base.inverse(), fine_inverse(deformation, tick=lambda done: report(0.1 + 0.3 * done, "inverting"))
        )
    frame = side.image.frame
    total = torch.empty(3, *frame.shape)
    for start, stop, slab in slabs(frame):
        report(0.4 + 0.1 * start / frame.shape[0], "sampling the deformation")
        total[:, start:stop] = transform.displacement_on(slab)
    warped = resampled(
        work["moving mask"].image, total, frame, work.listener, message="resampling", begin=0.5, outside=background
    )
    report(0.7, "measuring the deformation")
    jacobian = metrics.jacobian_determinant(total, frame)
    report(0.75, "measuring the deformation")
    summary: dict[str, Any] = metrics.deformation_summary(total, frame, side.mask, jacobian=jacobian)
    summary["jacobian_min_at_mm"] = place_of_least(jacobian, frame)
    summary["inverse_consistency_mm"] = metrics.inverse_consistency_mm(
        transform, inverse, frame, side.mask, samples=CONSISTENCY_SAMPLES
    )
    return Mapping(transform, inverse, total, warped, jacobian, summary)


def place_of_least(jacobian: torch.Tensor, frame: Frame) -> list[float]:
    """LPS mm of the smallest value [D, H, W], on the interior of the grid."""
    interior = jacobian[1:-1, 1:-1, 1:-1]
    at = int(interior.argmin())
    index = [1 + int(n) for n in reversed(np.unravel_index(at, tuple(interior.shape)))]
    place: list[float] = frame.to_mm(np.array(index)).tolist()
    return place


BACKGROUND = Stage("background", "prepare", _background, reads=("background",), follows=("moving input",), kept=False)
MAPPING = Stage(
    "mapping", "finish", _mapping, reads=("transform_type",),
    follows=("fixed mask", "moving mask", "background", "alignment", "working pair", "refinement", "landmarks"),
    settings=lambda chosen, work: (work["background"], chosen.transform_type),
)  # fmt: skip
