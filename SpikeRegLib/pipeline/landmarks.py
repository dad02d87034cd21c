"""Landmarks that pull: placed on the working grid, brought together, and named where that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.pipeline.inputs import lengths_scale
from SpikeRegLib.pipeline.refine import MeasuredDeformation, optimised, schedule_of
from SpikeRegLib.pipeline.stage import Chosen, Stage, Tracked, Work
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.landmarks import REACH_MM, Landmarks, displacement_at, preimage
from SpikeRegLib.refinement.region import Region
from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, Transform

# Landmarks further apart than this at the end are named; so are neighbours closer than this that are pulled apart.
UNMET_MM = 2.0
# Similarity that landmarks may cost before a warning says so; smaller losses are the ordinary price of a constraint.
NOTABLE_LOSS = 0.01
_NAMED = 8


def landmarks_on(
    frame: Frame, fixed: torch.Tensor, moving: torch.Tensor, base: Transform, *, weight: float,
    region: Region | None = None, reach: float = 1.0,
) -> tuple[Landmarks | None, list[str]]:  # fmt: skip
    """The landmarks that can pull, seen in the working frame, and warnings about the others.

    Args:
        frame: isotropic, with the axes of the patient.
        fixed, moving: [N, 3] LPS mm.
        base: fixed -> moving, what follows the deformation.
        weight: see `Landmarks`.
        region: outside of which nothing moves.
        reach: factor on how far a landmark is felt.
    """
    origin = torch.tensor(frame.origin, dtype=torch.float64)
    start = fixed.double()
    if isinstance(base, AffineTransform):
        goals = base.inverse().map_points(moving)
    else:
        goals = preimage(base.map_points, moving.double(), start, step_mm=0.5 * frame.spacing[0])
    points, goals = start - origin, goals - origin
    last = torch.tensor(frame.size, dtype=torch.float64) * frame.spacing[0] - 2 * frame.spacing[0]
    pulling = ((points > frame.spacing[0]) & (points < last)).all(1)
    warnings = []
    if not bool(pulling.all()):
        warnings.append(f"{_numbers(~pulling)} too far from the anatomy to pull; only measured")
    if region is not None:
        grid = Grid(frame.shape, frame.spacing[0])
        reached = displacement_at(region.weight_on(grid)[None].expand(3, -1, -1, -1), grid, points)[:, 0] > 0
        if bool((pulling & ~reached).any()):
            warnings.append(f"{_numbers(pulling & ~reached)} outside the region or at its edge; only measured")
        pulling &= reached
    if not bool(pulling.any()):
        return None, warnings
    warnings += _contradictions(points, goals, pulling)
    return Landmarks(points[pulling], goals[pulling], weight, REACH_MM * reach), warnings


def _contradictions(points: torch.Tensor, goals: torch.Tensor, pulling: torch.Tensor) -> list[str]:
    """Pairs of landmarks that lie together in one image and apart in the other: no smooth map does that."""
    apart = [(p[:, None] - p[None]).double() for p in (points, goals)]
    torn = (apart[0] - apart[1]).norm(dim=2) > UNMET_MM
    close = torch.minimum(apart[0].norm(dim=2), apart[1].norm(dim=2)) < UNMET_MM
    pairs = (torn & close & pulling[:, None] & pulling[None]).triu(1).nonzero().tolist()
    if not pairs:
        return []
    named = ", ".join(f"{a + 1} and {b + 1}" for a, b in pairs[:_NAMED])
    more = f" and {len(pairs) - _NAMED} more pairs" if len(pairs) > _NAMED else ""
    return [
        f"landmarks {named}{more} contradict each other: they lie together in one image and apart in the other; "
        "check both, or remove one"
    ]


def unmet(distances_mm: list[float]) -> list[str]:
    """A warning that names the landmarks which are still far apart at the end.

    Args:
        distances_mm: of each landmark, in their order.
    """
    far = [(number, value) for number, value in enumerate(distances_mm, 1) if value > UNMET_MM]
    if not far:
        return []
    named = ", ".join(f"{number} ({value:.1f} mm)" for number, value in far[:_NAMED])
    more = f" and {len(far) - _NAMED} more" if len(far) > _NAMED else ""
    word = "landmark" if len(far) == 1 else "landmarks"
    return [f"{word} {named}{more} could not be brought together; check both points, or raise --landmark-weight"]


def _numbers(which: torch.Tensor) -> str:
    """ "landmark 3 lies" or "landmarks 3, 5 lie", counted from 1."""
    numbers = [n + 1 for n in which.nonzero()[:, 0].tolist()]
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    text = ", ".join(str(n) for n in numbers[:_NAMED]) + more
    return f"landmark {text} lies" if len(numbers) == 1 else f"landmarks {text} lie"


@dataclass(frozen=True)
class Pull:
    """What landmarks are to do.

    Attributes:
        weight, reach: see `landmarks_on`.
        schedule: of the images, on the way.
        fixed, moving: [N, 3] LPS mm, known by their coordinates.
    """

    weight: float
    reach: float
    schedule: RefinementSchedule
    fixed: Tracked
    moving: Tracked


def _settings(chosen: Chosen, work: Work) -> Pull | None:
    """None where landmarks are only measured."""
    fixed, moving = (work[f"{side} points"].points for side in ("fixed", "moving"))
    if not chosen.landmark_weight or fixed is None or moving is None:
        return None
    scale = lengths_scale(chosen.preset.working_voxels, work["working pair"].working.frame)
    return Pull(
        weight=chosen.landmark_weight,
        reach=scale * chosen.preset.regularisation * chosen.regularisation,
        schedule=schedule_of(chosen, work) or RefinementSchedule((), window=chosen.preset.refine.window),
        fixed=Tracked(fixed, fixed.tolist()),
        moving=Tracked(moving, moving.tolist()),
    )


def _pulled(work: Work, pull: Pull | None) -> MeasuredDeformation | None:
    """The deformation with landmarks brought together; None where they are only measured."""
    if pull is None:
        return None
    pair, refined, region = work["working pair"], work["refinement"], work["region"]
    start = refined.deformation
    landmarks, found = landmarks_on(
        pair.working.frame, pull.fixed.given, pull.moving.given, work["alignment"].transform, weight=pull.weight,
        region=region, reach=pull.reach,
    )  # fmt: skip
    warnings = [*refined.warnings, *found]
    if landmarks is None or not bool(landmarks.unmet(start.field, start.grid).any()):
        return replace(refined, warnings=tuple(warnings))
    pulled, accepted = optimised(work, pair, start, pull.schedule, region=region, landmarks=landmarks)
    if not accepted:
        warnings.append(
            "the landmarks were not worth what they cost in similarity and did not pull; raise their weight"
        )
        return replace(refined, warnings=tuple(warnings))
    work.listener(Progress("refine", 1.0, "measuring the similarity"))
    # The optimisation has weighed landmarks against images; what these lost is said, and no reason to undo it.
    before, after = refined.similarity["lncc_after"], pulled.similarity(pair.judged)
    if after < before - NOTABLE_LOSS:
        warnings.append(f"the landmarks lowered the similarity of the images from {before:.3f} to {after:.3f}")
    similarity = {**refined.similarity, "lncc_after": after, "lncc_without_landmarks": before}
    iterations = start.iterations or pulled.iterations
    return MeasuredDeformation(replace(pulled, iterations=iterations), similarity, tuple(warnings))


LANDMARKS = Stage(
    "landmarks", "refine", _pulled,
    reads=(
        "landmark_weight", "refine_iterations", "regularisation", "preset.name", "preset.refine",
        "preset.regularisation", "preset.working_voxels", "preset.similarity", "preset.across_contrasts",
    ),
    follows=("fixed points", "moving points", "alignment", "working pair", "structure maps", "region", "refinement"),
    settings=_settings,
)  # fmt: skip
