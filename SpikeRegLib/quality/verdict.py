"""The verdict a person sees first: good, check or poor, with the reasons in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from SpikeRegLib.quality.bounds import Bounds, default_bounds
from SpikeRegLib.quality.rules import RULES

LEVELS = ("good", "check", "poor")


def measure_name(result: dict[str, Any]) -> str:
    """What the similarity of a result is called where people read it: LNCC, or LNCC of matched contrasts."""
    return str((result.get("similarity") or {}).get("measure") or "lncc").replace("lncc", "LNCC")


def place_words(place_mm: Sequence[float]) -> str:
    """A place [x, y, z] (LPS mm) as people say it: left or right, posterior or anterior, superior or inferior."""
    sides = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))
    words = (f"{side[value < 0]} {abs(value):.0f}" for value, side in zip(place_mm, sides, strict=True))
    return f"{', '.join(words)} mm"


def judge(result: dict[str, Any], *, anatomy: str = "brain", bounds: Bounds | None = None) -> dict[str, Any]:
    """The `verdict` entry for a result: the worst level any rule gives, and a reason for each rule that fired.

    Args:
        result: as in result.json.
        anatomy: what the preset is made for; the bounds were measured on brains and confirm nothing elsewhere.
        bounds: of the figures; `default_bounds` if not given.
    """
    bounds = default_bounds() if bounds is None else bounds
    worst, reasons = 0, []
    measure = measure_name(result)
    for rule in RULES:
        value = (result.get(rule.table) or {}).get(rule.field)
        if value is None or not result[rule.table].get("calibrated", True):
            continue
        if not math.isfinite(value):
            worst = 2
            reasons.append(f"{rule.table}.{rule.field} could not be measured ({value})")
            continue
        bound = bounds[rule.table, rule.field]
        level = 2 if rule.sign * (value - bound.poor) > 0 else 1 if rule.sign * (value - bound.check) > 0 else 0
        if level:
            worst = max(worst, level)
            figures = result[rule.table]
            place = figures.get(rule.place)
            where = f" at {place_words(place)}" if place else ""
            reasons.append(rule.text.format(value=value, measure=measure, table=figures) + where)
    for table, before, after, what, sign in (
        ("similarity", "lncc_before", "lncc_after", "similarity", 1),
        ("dice", "before_mean", "after_mean", "overlap of the segmentations", 1),
        ("tre_mm", "before_mean", "after_mean", "landmark agreement", -1),
    ):
        entry = result.get(table) or {}
        if entry.get(before) is None or entry.get(after) is None or sign * (entry[after] - entry[before]) >= 0:
            continue
        if table == "similarity" and _landmarks_are_worth(result):
            worst = max(worst, 1)
            lowered = f"from {entry[before]:.2f} to {entry[after]:.2f}"
            reasons.append(f"the landmarks came together, and lowered the agreement of the images {lowered}")
            continue
        worst = 2
        reasons.append(f"{what} is worse than before the registration")
    for side, image in ((result.get("anatomy") or {}).get("images") or {}).items():
        if not image["head"]:
            worst = max(worst, 1)
            reasons.append(f"the {side} image does not look like a head ({image['reason']})")
    if not _independent(result):
        # Measured: between T1 and FLAIR this similarity rose while most of a known deformation was left.
        if measure != "LNCC":
            reasons.append("a similarity across contrasts cannot confirm the result; look at it, or give landmarks")
        elif anatomy != "brain":
            # Measured: on thin vessels the images agreed well while landmarks were 9 to 13 mm apart.
            reasons.append("nothing here confirms the anatomy; look at it, or give landmarks")
        worst = max(worst, int(measure != "LNCC" or anatomy != "brain"))
    if not reasons:
        similarity = result["similarity"]
        reasons.append(
            f"the images agree ({measure} {similarity['lncc_before']:.2f} before, {similarity['lncc_after']:.2f} "
            "after), nothing folds, forward and inverse match"
        )
    return {"level": LEVELS[worst], "reasons": reasons}


def _independent(result: dict[str, Any]) -> bool:
    """Whether something was measured that the registration did not maximise: labels, or landmarks that did not pull."""
    overlap, distance = (result.get(table) or {} for table in ("dice", "tre_mm"))
    pulled = (result.get("refinement") or {}).get("landmark_weight")
    return overlap.get("after_mean") is not None or (distance.get("after_mean") is not None and not pulled)


def _landmarks_are_worth(result: dict[str, Any]) -> bool:
    """Whether what landmarks gained outweighs what the images lost, by the weight that was maximised."""
    weight = (result.get("refinement") or {}).get("landmark_weight") or 0.0
    similarity, distance = result.get("similarity") or {}, result.get("tre_mm") or {}
    if "lncc_without_landmarks" not in similarity or distance.get("after_mean") is None:
        return False
    gain = weight * (distance["before_mean"] - distance["after_mean"])
    return bool(gain > similarity["lncc_before"] - similarity["lncc_after"])
