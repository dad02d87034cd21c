"""Two methods compared from their evaluations: every figure both have, over the pairs both have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.studies.figures import FIGURES
from SpikeRegLib.studies.paired_statistics import FEWEST_PAIRS, compare, difference
from SpikeRegLib.text.json_text import read_json

SCHEMA = 1
_MARGINS = {"dice": 0.005}  # within which two methods count as equivalent, where no other margin is given
_MORE_IS_BETTER = ("dice",)
_BEFORE = ("before", "before_mm")  # registration: the same for all methods
_REMEDY = "give the evaluation.json of `spikereg evaluate RESULTS --out DIR`"


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read an evaluation.json.

    Raises:
        InputError: missing, malformed, or something else.
    """
    try:
        table = read_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); {_REMEDY}") from error
    try:
        if table["schema"] != SCHEMA:
            raise ValueError(f"schema {table['schema']}")
        for name, pair in table["pairs"].items():
            fixed, moving = pair["subjects"]
            if not all(isinstance(subject, str) for subject in (fixed, moving)):
                raise ValueError(f"subjects of {name}")
            if not all(value is None or isinstance(value, (int, float)) for value in pair["figures"].values()):
                raise ValueError(f"figures of {name}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: is no evaluation ({type(error).__name__}: {error}); {_REMEDY}") from error
    return table


def compare_evaluations(
    first: Mapping[str, Any], second: Mapping[str, Any], *, metric: str | None = None, margin: float | None = None
) -> dict[str, Any]:
    """`first` minus `second`: for every figure both have, over the pairs both have.

    Args:
        first, second: as `read_evaluation` returns them.
        metric: the figure of which equivalence is tested; `dice` by default, or else the first one there is.
        margin: of equivalence, in its unit; 0.005 of Dice by default.

    Returns:
        `metric`, `margin`, and `figures`: name -> the attributes of `paired_statistics.Comparison`. What needs a margin
        is there for `metric` only, if it has one; non-inferiority only where more is better.

    Raises:
        InputError: fewer than three common pairs, a figure that is unknown or not in both, no margin where there is
            no usual one, or SciPy is not installed.
    """
    common = sorted(first["pairs"].keys() & second["pairs"].keys())
    if len(common) < FEWEST_PAIRS:
        raise InputError(
            f"--compare: the evaluations have {len(common)} pairs in common and the tests need {FEWEST_PAIRS}; "
            "evaluate both methods on the same pairs"
        )
    subjects = {pair: (str(a), str(b)) for pair in common for a, b in [first["pairs"][pair]["subjects"]]}
    names = [name for name in FIGURES if not name.endswith(_BEFORE)]
    values = {name: both for name in names if (both := _values(name, common, first, second))}
    metric, margin = _chosen(metric, margin, list(values))
    figures: dict[str, dict[str, Any]] = {}
    for name, (one, other) in values.items():
        if name != metric or margin is None:
            figures[name] = difference(one, other, subjects=subjects)
            continue
        figures[name] = compare(one, other, margin=margin, subjects=subjects).as_result()
        if name not in _MORE_IS_BETTER:
            del figures[name]["non_inferiority_p"]
    return {"schema": SCHEMA, "metric": metric, "margin": margin, "figures": figures}


def _values(
    name: str, pairs: list[str], first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """The values of a figure in both, over the pairs in which both have one; None where these are too few."""
    columns = [{pair: table["pairs"][pair]["figures"].get(name) for pair in pairs} for table in (first, second)]
    there = [pair for pair in pairs if all(column[pair] is not None for column in columns)]
    if len(there) < FEWEST_PAIRS:
        return None
    one, other = ({pair: float(column[pair]) for pair in there} for column in columns)
    return one, other


def _chosen(metric: str | None, margin: float | None, there: list[str]) -> tuple[str, float | None]:
    if not there:
        raise InputError("--compare: the evaluations have no figure in common; evaluate both methods alike")
    name = metric or ("dice" if "dice" in there else there[0])
    if name not in there:
        raise InputError(f"--metric: {name} is not in both evaluations; choose among {', '.join(there)}")
    if margin is None and metric is not None and name not in _MARGINS:
        raise InputError(f"--margin: needed to test the equivalence of {name}; give it in the unit of that figure")
    return name, _MARGINS.get(name) if margin is None else margin


def comparison_lines(comparison: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """Lines with the difference, its intervals and p values, to be read.

    Args:
        comparison: as `compare_evaluations` returns it.
        names: of the two evaluations.
    """
    lines = [f"{names[0]} minus {names[1]}"]
    for name, found in comparison["figures"].items():
        digits = FIGURES[name].digits + 1
        (low, high), (wide_low, wide_high) = found["ci95"], found["subject_ci95"]
        lines.append(
            f"{FIGURES[name].title}: {found['mean']:+.{digits}f} ± {found['sd']:.{digits}f} ({found['pairs']} pairs), "
            f"95 % interval {low:+.{digits}f} to {high:+.{digits}f}, "
            f"by subjects {wide_low:+.{digits}f} to {wide_high:+.{digits}f}; "
            f"paired t p = {_p(found['difference_p'])}, Wilcoxon p = {_p(found['wilcoxon_p'])}"
        )
        if "tost_p" in found:
            verdict = "equivalent" if found["equivalent_by_subjects"] else "not shown to be equivalent"
            better = f", non-inferiority p = {_p(found['non_inferiority_p'])}" if "non_inferiority_p" in found else ""
            lines.append(
                f"  within {found['margin']:g}: TOST p = {_p(found['tost_p'])}, by signed ranks p = "
                f"{_p(found['wilcoxon_tost_p'])}{better}; by subjects {verdict}"
            )
    return lines


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
