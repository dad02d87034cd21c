"""Refine: the deformation fitted to this pair of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from SpikeRegLib.pipeline.align import TwoScalePair
from SpikeRegLib.pipeline.inputs import on_working_frame
from SpikeRegLib.pipeline.known import known_pair
from SpikeRegLib.pipeline.predict import Start
from SpikeRegLib.pipeline.stage import Chosen, Stage, Work
from SpikeRegLib.presets.preset import Preset
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.both_ways import refine_both_ways
from SpikeRegLib.refinement.landmarks import Landmarks
from SpikeRegLib.refinement.refine import refine
from SpikeRegLib.refinement.region import Region
from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.similarity.contrast import MEASURES
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import resample
from SpikeRegLib.space.known import extrapolated


@dataclass(frozen=True)
class MeasuredDeformation:
    """A deformation and the figures of `result.json` about it: what the stages refinement and landmarks give.

    Attributes:
        deformation: fixed -> aligned moving.
        similarity: name in `result.json` -> mean local correlation, such as `lncc_after`; and `known_percent`, where
            the images are not known everywhere.
        warnings: what a person should know.
    """

    deformation: Deformation
    similarity: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RefinementSettings:
    """What a refinement is to do.

    Attributes:
        schedule: its levels.
        start_sigma_mm: smoothing of the deformation that it starts from.
    """

    schedule: RefinementSchedule
    start_sigma_mm: float


def schedule_of(chosen: Chosen, work: Work) -> RefinementSchedule | None:
    """The levels that preset and options ask for on the working grid; None where they leave them out."""
    working: Pair = work["working pair"].working
    across = chosen.preset.across_contrasts
    found_two = chosen.preset.similarity == "auto" and working.comparison.measure != MEASURES["lncc"]
    factor = across if found_two else 1.0
    return Preset.schedule(
        chosen.preset, chosen.refine_iterations, spacing_mm=working.frame.spacing[0],
        regularisation=chosen.regularisation * factor,
    )  # fmt: skip


def _settings(chosen: Chosen, work: Work) -> RefinementSettings | None:
    """None where the refinement is left out."""
    schedule = schedule_of(chosen, work)
    return None if schedule is None else RefinementSettings(schedule, chosen.preset.refine.start_sigma_mm)


def _refined(work: Work, settings: RefinementSettings | None, start: Start) -> MeasuredDeformation:
    """The deformation refined by the images alone, unless preset or options leave that out."""
    pair, region = work["working pair"], work["region"]
    judged, deformation, after, warnings = pair.judged, start.deformation, start.similarity, []
    if settings is not None:
        field = gaussian(deformation.field, settings.start_sigma_mm / deformation.grid.spacing_mm)
        if region is not None:
            weight = region.weight_on(deformation.grid)
            field = deformation.field + weight * (field - deformation.field)
        refined, accepted = optimised(
            work, pair, Deformation(field, deformation.grid), settings.schedule, region=region
        )
        if region is not None and not bool(region.weight_on(refined.grid).any()):
            warnings.append(
                f"the region is too thin to refine in; make it {region.thinnest_mm(refined.grid):.0f} mm across"
            )
        reached = refined.similarity(judged)
        if not accepted if work["structure maps"] is not None else reached < after:
            warnings.append("refinement did not improve the similarity; its start was kept")
        else:
            deformation, after = refined, reached
    work.listener(Progress("refine", 1.0, "measuring the similarity"))
    similarity = {
        "lncc_before": _similarity_by_header(work, judged),
        "lncc_aligned": judged.similarity(),
        "lncc_after": after,
    }
    if judged.known is not None:
        similarity["known_percent"] = judged.known_percent(resample(deformation.field, deformation.grid, judged.grid))
    if similarity["lncc_after"] < similarity["lncc_aligned"]:
        warnings.append("the deformation made the similarity worse than the alignment alone; check the result")
    return MeasuredDeformation(deformation, similarity, tuple(warnings))


def optimised(
    work: Work, pair: TwoScalePair, start: Deformation, schedule: RefinementSchedule, *, region: Region | None = None,
    landmarks: Landmarks | None = None,
) -> tuple[Deformation, bool]:  # fmt: skip
    """`start` after an instance optimisation, and whether that improved what it maximised.

    Both ways where the schedule says so, and nothing is there yet that only goes one way.
    """
    working = pair.working
    images = working.comparison.of_fixed(working.fixed), working.comparison.of_moving(working.moving)
    common: dict[str, Any] = {
        "spacing_mm": working.frame.spacing[0], "mask": working.mask.float(), "schedule": schedule,
        "itk_jacobian": pair.itk_jacobian, "known": working.known, "fade_mm": working.fade_mm,
        "maps": work["structure maps"], "listener": work.listener,
    }  # fmt: skip
    if schedule.both_ways and landmarks is None and region is None and not bool(start.field.any()):
        found = refine_both_ways(*images, **common)
    else:
        found = refine(
            *images, initial=start.field, initial_grid=start.grid, landmarks=landmarks, region=region, **common
        )
    return Deformation(found.field, found.grid, found.iterations), found.accepted


def _similarity_by_header(work: Work, working: Pair) -> float:
    """Similarity of the pair as it came, aligned by its headers alone."""
    sides = work["fixed mask"], work["moving mask"]
    moving = on_working_frame(sides[1], working.frame, None)
    if working.known is None:
        return replace(working, moving=moving).similarity()
    known = known_pair(*sides, working.frame, None)
    if known is not None:
        moving = extrapolated(moving, known.moving[0])
    return replace(working, moving=moving, known=known).similarity()


def refinement(start_of: Callable[[Work], Start], *start_follows: str) -> Stage:
    """The stage that refines what `start_of` finds in the stages `start_follows`."""
    return Stage(
        "refinement", "refine", lambda work, settings: _refined(work, settings, start_of(work)),
        reads=(
            "refine_iterations", "regularisation", "preset.name", "preset.refine", "preset.regularisation",
            "preset.working_voxels", "preset.similarity", "preset.across_contrasts",
        ),
        follows=("fixed mask", "moving mask", "working pair", "structure maps", "region", *start_follows),
        settings=_settings,
    )  # fmt: skip


REFINEMENT = refinement(lambda work: work["prediction"], "prediction")
