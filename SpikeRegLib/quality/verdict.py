"""The verdict a person sees first: good, check or poor, with the reasons in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One figure of the result and where it starts to worry.

    Attributes:
        table, field: where the figure stands in result.json.
        check, poor: bounds; beyond them the verdict is at most check, or poor.
        higher_is_worse: which side is beyond.
        text: the reason, with the value as {value} and the name of the similarity as {measure}.
    """

    table: str
    field: str
    check: float
    poor: float
    higher_is_worse: bool
    text: str


RULES = (
    Rule(
        "similarity",
        "lncc_after",
        0.35,
        0.20,
        False,
        "the images agree poorly where they overlap ({measure} {value:.2f})",
    ),
    Rule(
        "similarity",
        "known_percent",
        75.0,
        5.0,
        False,
        "only {value:.0f} % of the fixed anatomy is compared, the rest is left out or not in the field of view",
    ),
    # Measured: brains 2.0 and more in one contrast, 1.3 and more in two; noise, blobs and halves of a head in the wrong
    # place less than 1.2.
    Rule(
        "similarity",
        "above_chance",
        1.6,
        1.25,
        False,
        "aligned, the images agree hardly better than with one of them turned over ({value:.2f} times as well)",
    ),
    Rule("deformation", "folding_percent", 0.0, 0.1, True, "{value:.3f} % of the voxels fold"),
    Rule("deformation", "jacobian_min", 0.05, -0.5, False, "volume shrinks to {value:.2f} of itself somewhere"),
    Rule("deformation", "sdlogj", 0.6, 1.0, True, "the deformation is rough (SD of log Jacobian {value:.2f})"),
    Rule(
        "deformation",
        "inverse_consistency_mm",
        0.25,
        1.0,
        True,
        "forward and inverse differ by {value:.2f} mm on average",
    ),
    # Measured: registered brains .76 to .79, aligned alone .63 to .70; 5 mm beside that .42 to .45, mirrored .08.
    Rule(
        "anatomy",
        "agreement",
        0.6,
        0.4,
        False,
        "structures found in both images overlap little (mean Dice {value:.2f})",
    ),
    Rule("dice", "after_mean", 0.6, 0.4, False, "segmentations overlap little (mean Dice {value:.2f})"),
    Rule("tre_mm", "after_mean", 3.0, 6.0, True, "landmarks are {value:.1f} mm apart on average"),
)
LEVELS = ("good", "check", "poor")


def measure_name(result: dict[str, Any]) -> str:
    """What the similarity of a result is called where people read it: LNCC, or LNCC of matched contrasts."""
    return str((result.get("similarity") or {}).get("measure") or "lncc").replace("lncc", "LNCC")


def judge(result: dict[str, Any], *, anatomy: str = "brain") -> dict[str, Any]:
    """The `verdict` entry for a result: the worst level any rule gives, and a reason for each rule that fired.

    Args:
        result: as in result.json.
        anatomy: what the preset is made for; the bounds were measured on brains and confirm nothing elsewhere.
    """
    worst, reasons = 0, []
    measure = measure_name(result)
    for rule in RULES:
        value = (result.get(rule.table) or {}).get(rule.field)
        if value is None:
            continue
        if not math.isfinite(value):
            worst = 2
            reasons.append(f"{rule.table}.{rule.field} could not be measured ({value})")
            continue
        sign = 1 if rule.higher_is_worse else -1
        level = 2 if sign * (value - rule.poor) > 0 else 1 if sign * (value - rule.check) > 0 else 0
        if level:
            worst = max(worst, level)
            reasons.append(rule.text.format(value=value, measure=measure))
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
