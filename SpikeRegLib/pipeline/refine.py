"""Refine: the deformation fitted to this pair of images, and to landmarks that pull."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from SpikeRegLib.pipeline.align import Pair, known_pair
from SpikeRegLib.pipeline.inputs import on_working_frame
from SpikeRegLib.pipeline.predict import Predicted
from SpikeRegLib.pipeline.run import Run
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.guidance import landmarks_on, lengths_scale, region_on
from SpikeRegLib.refinement.landmarks import Landmarks
from SpikeRegLib.refinement.refine import refine
from SpikeRegLib.refinement.region import Region
from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.similarity.pair import Deformation, Working
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.grids import resample
from SpikeRegLib.space.known import extrapolated
from SpikeRegLib.space.transforms import Transform

# Similarity that landmarks may cost before a warning says so; smaller losses are the ordinary price of a constraint.
NOTABLE_LOSS = 0.01


@dataclass(frozen=True)
class Refined:
    """The deformation to be finished, and the similarities on the way to it."""

    deformation: Deformation
    similarity: dict[str, float]
    warnings: tuple[str, ...]


def region_of(run: Run, pair: Pair) -> Region | None:
    """Where the deformation may change; None for everywhere."""
    region, scale = run.options.region, lengths_scale(run.preset, pair.working.frame)
    return None if region is None else region_on(pair.working.frame, region, scale=scale)


def refinement_key(run: Run, pair: Pair) -> Any:
    """What a refinement depends on besides the prediction and the region; nothing where it is left out."""
    schedule = _schedule(run, pair.working)
    return None if schedule is None else (schedule, run.preset.refine.start_sigma_mm)


def landmarks_key(run: Run) -> Any:
    """What the pull of landmarks depends on besides the refinement; nothing where they are only measured."""
    if not run.options.landmark_weight:
        return None
    points = [side.points.tolist() for side in (run.fixed, run.moving) if side.points is not None]
    reach = run.preset.regularisation * run.options.regularisation
    return run.options.landmark_weight, reach, run.preset.refine.window, points


def refine_pair(run: Run, pair: Pair, predicted: Predicted, region: Region | None) -> Refined:
    """The deformation refined by the images alone, unless preset or options leave that out."""
    judged, deformation, after, warnings = pair.judged, predicted.deformation, predicted.similarity, []
    schedule = _schedule(run, pair.working)
    if schedule is not None:
        field = gaussian(deformation.field, run.preset.refine.start_sigma_mm / deformation.grid.spacing_mm)
        if region is not None:
            weight = region.weight_on(deformation.grid)
            field = deformation.field + weight * (field - deformation.field)
        refined, _ = _optimised(run, pair, Deformation(field, deformation.grid), schedule, region=region)
        if region is not None and not bool(region.weight_on(refined.grid).any()):
            warnings.append(
                f"the region is too thin to refine in; make it {region.thinnest_mm(refined.grid):.0f} mm across"
            )
        reached = refined.similarity(judged)
        if reached < after:
            warnings.append("refinement did not improve the similarity; its start was kept")
        else:
            deformation, after = refined, reached
    run.listener(Progress("refine", 1.0, "measuring the similarity"))
    similarity = {
        "lncc_before": _similarity_by_header(run, judged),
        "lncc_aligned": judged.similarity(),
        "lncc_after": after,
    }
    if judged.known is not None:
        similarity["known_percent"] = judged.known_percent(resample(deformation.field, deformation.grid, judged.grid))
    if similarity["lncc_after"] < similarity["lncc_aligned"]:
        warnings.append("the deformation made the similarity worse than the alignment alone; check the result")
    return Refined(deformation, similarity, tuple(warnings))


def unused_options(run: Run, pair: Pair) -> list[str]:
    """A warning where options were given that change nothing."""
    if run.field_settings is not None and run.field_settings.iterations:
        return []
    if _schedule(run, pair.working) is None and run.options.guided and not run.options.landmark_weight:
        return [f"preset {run.preset.name}: without refinement, region and regularisation change nothing"]
    return []


def pull_landmarks(run: Run, pair: Pair, base: Transform, refined: Refined, region: Region | None) -> Refined | None:
    """The deformation with landmarks brought together; None where they are only measured."""
    points = run.fixed.points, run.moving.points
    if not run.options.landmark_weight or points[0] is None or points[1] is None:
        return None
    frame, start = pair.working.frame, refined.deformation
    reach = lengths_scale(run.preset, frame) * run.preset.regularisation * run.options.regularisation
    landmarks, found = landmarks_on(
        frame, points[0], points[1], base, weight=run.options.landmark_weight, region=region, reach=reach
    )
    warnings = [*refined.warnings, *found]
    if landmarks is None or not bool(landmarks.unmet(start.field, start.grid).any()):
        return replace(refined, warnings=tuple(warnings))
    schedule = _schedule(run, pair.working) or RefinementSchedule((), window=run.preset.refine.window)
    pulled, accepted = _optimised(run, pair, start, schedule, region=region, landmarks=landmarks)
    if not accepted:
        warnings.append(
            "the landmarks were not worth what they cost in similarity and did not pull; raise their weight"
        )
        return replace(refined, warnings=tuple(warnings))
    run.listener(Progress("refine", 1.0, "measuring the similarity"))
    # The optimisation has weighed landmarks against images; what these lost is said, and no reason to undo it.
    before, after = refined.similarity["lncc_after"], pulled.similarity(pair.judged)
    if after < before - NOTABLE_LOSS:
        warnings.append(f"the landmarks lowered the similarity of the images from {before:.3f} to {after:.3f}")
    similarity = {**refined.similarity, "lncc_after": after, "lncc_without_landmarks": before}
    return Refined(replace(pulled, iterations=start.iterations or pulled.iterations), similarity, tuple(warnings))


def _schedule(run: Run, working: Working) -> RefinementSchedule | None:
    return run.preset.schedule(
        run.options.iterations, spacing_mm=working.frame.spacing[0], regularisation=run.options.regularisation
    )


def _optimised(
    run: Run, pair: Pair, start: Deformation, schedule: RefinementSchedule, *, region: Region | None = None,
    landmarks: Landmarks | None = None,
) -> tuple[Deformation, bool]:  # fmt: skip
    """`start` after an instance optimisation, and whether that improved what it maximised."""
    working = pair.working
    refinement = refine(
        working.comparison.of_fixed(working.fixed), working.comparison.of_moving(working.moving),
        spacing_mm=working.frame.spacing[0], initial=start.field,
        initial_grid=start.grid, mask=working.mask.float(), schedule=schedule,
        itk_jacobian=pair.itk_jacobian, landmarks=landmarks, region=region, known=working.known,
        fade_mm=working.fade_mm, listener=run.listener,
    )  # fmt: skip
    return Deformation(refinement.field, refinement.grid, refinement.iterations), refinement.accepted


def _similarity_by_header(run: Run, working: Working) -> float:
    """Similarity of the pair as it came, aligned by its headers alone."""
    moving = on_working_frame(run.moving, working.frame, None)
    if working.known is None:
        return replace(working, moving=moving).similarity()
    known = known_pair(run, working.frame, None)
    if known is not None:
        moving = extrapolated(moving, known.moving[0])
    return replace(working, moving=moving, known=known).similarity()
