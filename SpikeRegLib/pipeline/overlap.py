"""How the moving segmentation lies on the fixed one: before, after the alignment, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.resampling import resampled
from SpikeRegLib.pipeline.stage import Stage, Work
from SpikeRegLib.progress import Progress
from SpikeRegLib.quality import metrics
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image


@dataclass(frozen=True)
class Overlap:
    """The moving segmentation on the grid of fixed, and how it lies on the fixed one where there is one."""

    warped: Volume
    dice: dict[str, Any] | None
    hd95_mm: dict[str, Any] | None


def _overlap(work: Work, settings: Any) -> Overlap | None:
    """None without a moving segmentation."""
    fixed, moving, base = work["fixed segmentation"], work["moving segmentation"], work["alignment"].transform
    if moving is None:
        return None
    frame = work["fixed mask"].image.frame
    warped = resampled(
        moving, work["mapping"].displacement, frame, work.listener, message="resampling the segmentation", begin=0.8
    )
    work.listener(Progress("finish", 0.9, "measuring the overlap"))
    dice = None if fixed is None else _dice(fixed, moving, base, warped)
    work.listener(Progress("finish", 0.95, "measuring the overlap"))
    return Overlap(warped, dice, None if fixed is None else _hd95(fixed, warped))


def _dice(fixed: Volume, moving: Volume, base: Transform, warped: Volume) -> dict[str, Any]:
    before, aligned = (
        metrics.dice(fixed, warp_image(moving, map_, fixed.frame, interpolation="nearest"))
        for map_ in (AffineTransform.identity(), base)
    )
    values = {"before": before, "aligned": aligned, "after": metrics.dice(fixed, warped)}
    means = {f"{when}_mean": fmean(dice.values()) for when, dice in values.items()}
    labels = {when: {str(label): value for label, value in dice.items()} for when, dice in values.items()}
    return {
        **means,
        "per_label": labels["after"],
        "per_label_before": labels["before"],
        "per_label_aligned": labels["aligned"],
    }


def _hd95(fixed: Volume, warped: Volume) -> dict[str, Any]:
    values = metrics.hd95_mm(fixed, warped)
    return {
        "after_mean": fmean(values.values()) if values else None,
        "per_label": {str(k): v for k, v in values.items()},
    }


OVERLAP = Stage(
    "overlap", "finish", _overlap,
    follows=("fixed mask", "alignment", "mapping", "fixed segmentation", "moving segmentation"),
)  # fmt: skip
