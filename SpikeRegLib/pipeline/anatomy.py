"""Anatomy: the structures that a network finds in both images, and what they are used for.

They are used for the start (the affine map between them instead of a search), the mask (the brain of a whole head), the
refinement (their maps beside the images) and the verdict (whether each structure lies on its like). Where an image is
not recognised as a head, nothing is used and a warning says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from SpikeRegLib.anatomy.channels import channels_of
from SpikeRegLib.anatomy.layout import fit_affine
from SpikeRegLib.anatomy.model import StructureModel, load_structure_model
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.pose import FoundHead, find_head
from SpikeRegLib.anatomy.reading import VIEWS, Reader, StructureMaps
from SpikeRegLib.anatomy.structures import LABELS
from SpikeRegLib.anatomy.tissue import contrast_agreement, structure_means
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.passes import Prediction
from SpikeRegLib.options.options import Options
from SpikeRegLib.pipeline.inputs import Side, bare_side
from SpikeRegLib.pipeline.stage import Chosen, Stage, Tracked, Work
from SpikeRegLib.progress import Progress
from SpikeRegLib.quality import metrics
from SpikeRegLib.quality.usual import furthest_below_usual
from SpikeRegLib.refinement.feature_maps import FeatureMaps
from SpikeRegLib.space.transforms import AffineTransform, Transform, warp_image

USES = ("start", "mask", "refinement", "verdict")
# Correlation of the structures' intensities: T1 images of seven scanners, one with contrast agent, .83 to .99; T1 with
# T2 -.64 to -.86, with FLAIR .08 to .27, with PD -.29 to -.02; FLAIR with PD .69.
_ONE_CONTRAST = 0.76
# A brain that fills less of what stands out from the background lies in a whole head.
_WHOLE_HEAD = 0.75


@dataclass(frozen=True)
class Agreement:
    """How structures of the fixed image and, through the whole map, those of the moving one lie on each other.

    Attributes:
        per_structure: label -> Dice of the two, each as the network found it.
        mean: of them.
    """

    per_structure: dict[int, float]
    mean: float


def uses_of(asked: str | None, preset: str, available: bool) -> tuple[str, ...]:
    """What `--structures` asks for.

    Args:
        asked: "all", "none" or names with commas; None for all that there is.
        preset: its name, for the message.
        available: whether the preset has a network that names structures.

    Raises:
        InputError: an unknown use, or a use that the preset has no network for.
    """
    if asked == "none" or (asked is None and not available):
        return ()
    if not available:
        raise InputError(f"--structures: preset {preset} finds none; choose another preset, or leave it out")
    if asked in (None, "all"):
        return USES
    wanted = [word.strip() for word in str(asked).split(",")]
    for word in wanted:
        if word not in USES:
            raise InputError(f"--structures {word}: unknown; give all, none, or some of {', '.join(USES)}, with commas")
    return tuple(use for use in USES if use in wanted)


def check_uses(options: Options) -> None:
    """Refuse a use that `--structures` names and another option leaves no room for.

    Args:
        options: of the run, by name. "all", and not to say anything, give way.

    Raises:
        InputError: names both options.
    """
    named = {word.strip() for word in str(options["structures"] or "").split(",")}
    given = {name for name in ("initial_transform", "fixed_mask", "moving_mask") if options[name] is not None}
    for use, option, excluded in (
        ("start", "--skip-affine", bool(options["skip_affine"])),
        ("start", "--initial-transform", "initial_transform" in given),
        ("mask", "--fixed-mask and --moving-mask", {"fixed_mask", "moving_mask"} <= given),
        ("refinement", "--refine-iterations 0", options["refine_iterations"] == 0),
    ):
        if use in named and excluded:
            raise InputError(f"--structures {use}: {option} leaves no room for it; leave one of them out")


def _network(work: Work, settings: dict[str, Any]) -> StructureModel | None:
    file: Tracked = settings["structures_file"]
    return None if file.given is None else load_structure_model(file.given)


def _read(side: str, begin: float, work: Work, settings: Any) -> FoundHead | None:
    known: StructureModel | None = work["structures network"]
    if known is None:
        return None
    given: Side = work[f"{side} input"]

    def heard(progress: Progress) -> None:
        work.listener(Progress("align", begin + 0.1 * progress.fraction, f"structures of the {side} image"))

    return find_head(known.network, known.layout, given.image, views=len(VIEWS), listener=heard)


def _rates(work: Work, settings: dict[str, Any]) -> dict[str, Volume] | None:
    """Spike rates of the network in the fixed image, on request, where it is the only one: of one more look."""
    found: FoundHead | None = work["fixed anatomy"]
    prediction: Prediction | None = work["prediction"].prediction
    if found is None or not settings["spike_maps"] or (prediction is not None and prediction.layers):
        return None
    given: Side = work["fixed input"]
    axes = np.reshape(found.maps.frame.direction, (3, 3))
    reading = Reader(work["structures network"].network, rates=True).begin(
        given.image, None if np.array_equal(axes, np.eye(3)) else axes
    )
    return reading.look(1, lambda progress: work.listener(Progress("finish", 0.96, progress.message))).rates


def _side(side: str, work: Work, settings: dict[str, Any]) -> Side:
    """The side, of a whole head without a given mask with that of its brain."""
    given: Side = work[f"{side} input"]
    anatomy: FoundHead | None = work[f"{side} anatomy"]
    if anatomy is None or "mask" not in settings["structures_for"] or given.mask_given or not anatomy.check.head:
        return given
    brain = anatomy.brain.on(given.image.frame)
    if float((brain & given.mask).sum()) > _WHOLE_HEAD * float(given.mask.sum()):
        return given
    mask = Volume(brain.to(torch.int16), given.image.frame)
    left_out = None if given.left_out is None else Volume(given.left_out.to(torch.int16), given.image.frame)
    return replace(bare_side(given.image, mask, left_out), brain_only=True)


def both_heads(fixed: FoundHead | None, moving: FoundHead | None) -> tuple[FoundHead, FoundHead] | None:
    """Both, where both were recognised."""
    if fixed is None or moving is None or not (fixed.check.head and moving.check.head):
        return None
    return fixed, moving


def similarity_of(asked: str, fixed: Side, moving: Side, both: tuple[FoundHead, FoundHead] | None) -> str:
    """The similarity a preset asks for; of "auto", the one for the contrasts that the structures show.

    Where structures are not known, "auto" is that of one contrast.
    """
    if asked != "auto":
        return asked
    if both is None:
        return "lncc"
    sides = zip((fixed, moving), both, strict=True)
    means = [structure_means(side.scaled, anatomy.maps) for side, anatomy in sides]
    return "lncc" if contrast_agreement(*means) > _ONE_CONTRAST else "multicontrast"


def start_of(fixed: FoundHead, moving: FoundHead) -> AffineTransform | None:
    """The affine map fixed -> moving between their structures; None where they have too few in common."""
    fit = fit_affine(fixed.places, moving.places)
    return None if fit is None else AffineTransform(fit.matrix)


def _maps_wanted(chosen: Chosen, work: Work) -> bool:
    """Whether a level of the refinement looks at maps at all."""
    weighed = any(level.maps for level in chosen.preset.refine.levels) and chosen.refine_iterations != 0
    return weighed and "refinement" in chosen.structures_for


def _maps(work: Work, wanted: bool) -> FeatureMaps | None:
    """The structures of both images on the working frame."""
    both = both_heads(work["fixed anatomy"], work["moving anatomy"])
    if both is None or not wanted:
        return None
    working, base = work["working pair"].working, work["alignment"].transform
    grid = working.grid.coarser(max(both[0].maps.frame.spacing[0], working.grid.spacing_mm))
    frame = working.frame_of(grid)
    seen = working.coarser(grid.spacing_mm)
    weight = seen.mask.float() if seen.known is None else seen.mask * seen.known.counts
    sides = zip(both, (AffineTransform.identity(), base), strict=True)
    fixed, moving = (_channels(anatomy.maps, transform, frame) for anatomy, transform in sides)
    return FeatureMaps(fixed, moving, weight, grid)


def _channels(maps: StructureMaps, transform: Transform, frame: Any) -> torch.Tensor:
    channels = channels_of(maps.probabilities)
    return torch.stack([warp_image(Volume(channel, maps.frame), transform, frame).data for channel in channels])


def _agreement(work: Work, settings: dict[str, Any]) -> Agreement | None:
    both = both_heads(work["fixed anatomy"], work["moving anatomy"])
    if both is None or "verdict" not in settings["structures_for"]:
        return None
    fixed, moving = (Volume(anatomy.maps.classes.to(torch.int16), anatomy.maps.frame) for anatomy in both)
    warped = warp_image(moving, work["mapping"].transform, fixed.frame, interpolation="nearest")
    dice = {LABELS[place - 1]: value for place, value in metrics.dice(fixed, warped).items()}
    return Agreement(dice, sum(dice.values()) / max(1, len(dice)))


def _stage(name: str, step: str, make: Any, *follows: str, reads: tuple[str, ...] = ("structures_for",)) -> Stage:
    return Stage(name, step, make, reads=reads, follows=follows)


STRUCTURES_NETWORK = _stage("structures network", "prepare", _network, reads=("structures_file",))
ANATOMY = tuple(
    Stage(f"{side} anatomy", "align", partial(_read, side, begin), follows=("structures network", f"{side} input"),
          side=side)
    for side, begin in (("fixed", 0.0), ("moving", 0.1))
)  # fmt: skip
SIDES = tuple(
    # Everything that is computed depends on the mask, so the threads are its settings, too.
    _stage(f"{side} mask", "align", partial(_side, side), f"{side} input", f"{side} anatomy",
           reads=("structures_for", "threads"))
    for side in ("fixed", "moving")
)  # fmt: skip
STRUCTURE_RATES = _stage(
    "structure rates",
    "finish",
    _rates,
    "structures network",
    "fixed input",
    "fixed anatomy",
    "prediction",
    reads=("spike_maps",),
)
STRUCTURE_MAPS = Stage(
    "structure maps", "align", _maps, reads=("structures_for", "preset.refine", "refine_iterations"),
    follows=("fixed anatomy", "moving anatomy", "working pair", "alignment"), settings=_maps_wanted,
)  # fmt: skip
AGREEMENT = _stage("agreement", "finish", _agreement, "fixed anatomy", "moving anatomy", "mapping")


def warnings_of(side: str, anatomy: FoundHead | None, name: str) -> list[str]:
    """What a person should know of one image's anatomy."""
    if anatomy is None:
        return []
    if not anatomy.check.head:
        reason = anatomy.check.reason
        return [f"{name or side + ' image'}: does not look like a head ({reason}); structures are not used"]
    return [] if anatomy.warning is None else [f"{name or side + ' image'}: {anatomy.warning}"]


def _lowest(agreement: Agreement | None, fixed: FoundHead) -> dict[str, Any]:
    """The structure that falls short of its usual overlap most, and where it lies in the fixed image."""
    if agreement is None:
        return {}
    found = furthest_below_usual({STRUCTURES[label].name: dice for label, dice in agreement.per_structure.items()})
    if not found:
        return {}
    names = [STRUCTURES[label].name for label in LABELS]
    centre = fixed.places.centres[1 + names.index(found["lowest_structure"])]
    return {**found, "lowest_at_mm": centre.tolist() if np.isfinite(centre).all() else None}


def anatomy_facts(work: Work, uses: tuple[str, ...]) -> dict[str, Any] | None:
    """`anatomy` of result.json; None where no structures were looked for.

    Args:
        work: of a stage that follows those of this module, the alignment and both masks.
        uses: that were asked for.
    """
    known: StructureModel | None = work["structures network"]
    if known is None:
        return None
    sides: dict[str, FoundHead] = {side: work[f"{side} anatomy"] for side in ("fixed", "moving")}
    agreement: Agreement | None = work["agreement"]
    used = {
        "start": work["alignment"].by_structures,
        "mask": any(work[f"{side} mask"].brain_only for side in sides),
        "refinement": work["structure maps"] is not None,
        "verdict": agreement is not None,
    }
    structures = {
        str(label): {
            "name": STRUCTURES[label].name,
            "agreement": None if agreement is None else agreement.per_structure.get(label),
            **{f"{side}_ml": float(anatomy.places.volumes_ml[place]) for side, anatomy in sides.items()},
        }
        for place, label in enumerate(LABELS, 1)
    }
    energies = [anatomy.maps.energy for anatomy in sides.values() if anatomy.maps.energy is not None]
    return {
        "model": {"name": known.name, "sha256": known.sha256},
        "asked_for": list(uses),
        "used_for": [use for use in uses if used[use]],
        "agreement": None if agreement is None else agreement.mean,
        **_lowest(agreement, sides["fixed"]),
        "images": {
            side: {
                "head": anatomy.check.head,
                "reason": anatomy.check.reason,
                "off_mm": finite(anatomy.check.off_mm),
                "brain_ml": anatomy.brain.volume_ml,
                "tilt_degrees": anatomy.tilt_degrees,
            }
            for side, anatomy in sides.items()
        },
        "structures": structures,
        "arithmetic": sides["fixed"].maps.arithmetic,
        "synaptic_ops": sum(energy.synaptic_ops or 0 for energy in energies) or None,
        "dense_macs": sum(energy.dense_twin_macs for energy in energies),
        "snn_mj": sum(energy.as_result()["snn_mj"] or 0 for energy in energies) or None,
    }


def finite(value: float) -> float | None:
    """None for what is no number."""
    return value if math.isfinite(value) else None
