"""The figures of a result that the verdict goes by, and what it says of them. Their bounds are in `bounds`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One figure of the result.

    Attributes:
        table, field: where the figure stands in result.json.
        higher_is_worse: on which side of its bounds it worries.
        text: the reason, with the value as {value}, the name of the similarity as {measure} and the other figures of
            the same table as {table[NAME]}.
        place: the field of the same table that says where, if any does.
    """

    table: str
    field: str
    higher_is_worse: bool
    text: str
    place: str = ""

    @property
    def sign(self) -> int:
        """Times a value: larger is worse."""
        return 1 if self.higher_is_worse else -1


RULES = (
    Rule("similarity", "lncc_after", False, "the images agree poorly where they overlap ({measure} {value:.2f})"),
    Rule(
        "similarity", "known_percent", False,
        "only {value:.0f} % of the fixed anatomy is compared, the rest is left out or not in the field of view",
    ),
    Rule(
        "similarity", "above_chance", False,
        "aligned, the images agree hardly better than with one of them turned over ({value:.2f} times as well)",
    ),
    Rule("deformation", "folding_percent", True, "{value:.3f} % of the voxels fold", place="jacobian_min_at_mm"),
    Rule("deformation", "jacobian_min", False, "volume shrinks to {value:.2f} of itself", place="jacobian_min_at_mm"),
    Rule("deformation", "sdlogj", True, "the deformation is rough (SD of log Jacobian {value:.2f})"),
    Rule("deformation", "inverse_consistency_mm", True, "forward and inverse differ by {value:.2f} mm on average"),
    Rule("anatomy", "agreement", False, "structures found in both images overlap little (mean Dice {value:.2f})"),
    Rule(
        "anatomy", "lowest_share", False,
        "the {table[lowest_structure]} overlaps little (Dice {table[lowest_agreement]:.2f}, usually "
        "{table[lowest_usual]:.2f})",
        place="lowest_at_mm",
    ),
    Rule("dice", "after_mean", False, "segmentations overlap little (mean Dice {value:.2f})"),
    Rule("tre_mm", "after_mean", True, "landmarks are {value:.1f} mm apart on average"),
    Rule("tre_mm", "after_max", True, "one pair of landmarks is {value:.1f} mm apart", place="after_max_at_mm"),
    Rule("predicted_error", "mean_mm", True, "the error is expected to be {value:.1f} mm on average"),
    Rule(
        "predicted_error", "worst_region_mm", True,
        "over some 2 cm the error is expected to be {value:.1f} mm on average", place="worst_region_at_mm",
    ),
    Rule("predicted_error", "p95_mm", True, "the error is expected to exceed {value:.1f} mm in a twentieth of the "
         "anatomy"),
)  # fmt: skip
