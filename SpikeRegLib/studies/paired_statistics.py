"""Paired comparison of two methods on the same pairs: mean difference, intervals, equivalence and its p values.

The pairs of a cohort share subjects and so are not independent: the pair bootstrap and the t tests treat them as if
they were. The subject bootstrap does not: it draws subjects with replacement and weights a pair by the product of how
often its fixed and its moving subject were drawn (the "pigeonhole" bootstrap of crossed data, Owen 2007), which errs
on the wide side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SpikeRegLib.errors import InputError

RESAMPLES, SEED = 10_000, 0
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Comparison:
    """The difference of two methods over the same pairs.

    Attributes:
        pairs: how many.
        mean: of the differences.
        sd: their standard deviation.
        ci95: bootstrap over pairs (percentiles).
        subject_ci95: bootstrap over subjects, see the module.
        tost_p: two one-sided paired t tests (Schuirmann 1987): the larger p; small says |mean| < margin.
        wilcoxon_tost_p: the same with signed-rank tests instead.
        non_inferiority_p: one-sided paired t test of mean > -margin.
        difference_p, wilcoxon_p: two-sided paired t and signed-rank test of no difference.
        margin: of equivalence.
        equivalent_by_subjects: the 90 % subject bootstrap lies inside the margin: equivalence at 5 % in which pairs
            that share a subject do not count as independent.
    """

    pairs: int
    mean: float
    sd: float
    ci95: tuple[float, float]
    subject_ci95: tuple[float, float]
    tost_p: float
    wilcoxon_tost_p: float
    non_inferiority_p: float
    difference_p: float
    wilcoxon_p: float
    margin: float
    equivalent_by_subjects: bool

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


def scipy_stats() -> Any:
    """`scipy.stats`, which only comparisons need.

    Raises:
        InputError: SciPy is not installed; says how to install it.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise InputError(
            "--compare: the tests of two methods need SciPy; install it with `pip install spikereg[studies]`"
        ) from error
    return stats


def tost(differences: np.ndarray, margin: float) -> float:
    """The larger p of the two one-sided t tests of mean > -margin and mean < margin; `differences` is [pairs]."""
    return max(_t_test(differences, -margin, "greater"), _t_test(differences, margin, "less"))


def wilcoxon_tost(differences: np.ndarray, margin: float) -> float:
    """The larger p of the two one-sided signed-rank tests of a centre above -margin and below margin."""
    return max(_signed_rank(differences + margin, "greater"), _signed_rank(differences - margin, "less"))


def _t_test(differences: np.ndarray, centre: float, alternative: str) -> float:
    """p of Student's t test of the mean against `centre`; that of the limit where all differences are equal."""
    above = float(differences.mean()) - centre
    if np.ptp(differences) == 0:
        true = {"greater": above > 0, "less": above < 0, "two-sided": above != 0}[alternative]
        return 0.0 if true else 1.0
    return float(scipy_stats().ttest_1samp(differences, centre, alternative=alternative).pvalue)


def _signed_rank(differences: np.ndarray, alternative: str) -> float:
    """p of Wilcoxon's signed-rank test against 0; 1 where nothing differs."""
    return float(scipy_stats().wilcoxon(differences, alternative=alternative).pvalue) if differences.any() else 1.0


def pair_bootstrap(differences: np.ndarray) -> np.ndarray:
    """[RESAMPLES] means of pairs drawn with replacement."""
    random = np.random.default_rng(SEED)
    return differences[random.integers(0, len(differences), (RESAMPLES, len(differences)))].mean(1)


def subject_bootstrap(differences: np.ndarray, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Means with subjects drawn with replacement, fixed and moving role alike; draws without a pair are left out.

    Args:
        differences: [pairs].
        pairs: fixed and moving subject of each. A pair inside one subject counts as often as that one is drawn.

    Returns:
        Up to RESAMPLES means.
    """
    names = sorted({name for pair in pairs for name in pair})
    random = np.random.default_rng(SEED)
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    fixed, moving = ([names.index(pair[role]) for pair in pairs] for role in (0, 1))
    weights = times[:, fixed] * np.where(np.equal(fixed, moving), 1, times[:, moving])
    weights = weights[weights.sum(1) > 0]
    return (weights * differences).sum(1) / weights.sum(1)


def compare(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    margin: float,
    subjects: Mapping[str, tuple[str, str]] | None = None,
) -> Comparison:
    """`first` minus `second` over the pairs both have.

    Args:
        first, second: pair -> score.
        margin: within which two methods count as equivalent, in the unit of the score.
        subjects: pair -> its fixed and its moving subject; by default the pairs are named "fixed_moving".

    Raises:
        ValueError: fewer than three common pairs.
        InputError: SciPy is not installed.
    """
    differences, by_subject = _drawn(first, second, subjects)
    within = np.abs(np.percentile(by_subject, (5, 95))).max() < margin
    return Comparison(
        **_difference(differences, by_subject),
        tost_p=tost(differences, margin),
        wilcoxon_tost_p=wilcoxon_tost(differences, margin),
        non_inferiority_p=_t_test(differences, -margin, "greater"),
        margin=margin,
        equivalent_by_subjects=bool(within),
    )


def difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    subjects: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Those attributes of a `Comparison` that need no margin; arguments and errors as in `compare`."""
    return _difference(*_drawn(first, second, subjects))


def _drawn(
    first: Mapping[str, float], second: Mapping[str, float], subjects: Mapping[str, tuple[str, str]] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The differences of the common pairs, and their means when subjects are drawn."""
    common = sorted(first.keys() & second.keys())
    if len(common) < FEWEST_PAIRS:
        raise ValueError(f"{len(common)} common pairs; a comparison needs at least three")
    differences = np.array([first[pair] - second[pair] for pair in common])
    if subjects is None:
        subjects = {pair: (fixed, moving) for pair in common for fixed, moving in [pair.split("_")]}
    return differences, subject_bootstrap(differences, [subjects[pair] for pair in common])


def _difference(differences: np.ndarray, by_subject: np.ndarray) -> dict[str, Any]:
    return {
        "pairs": len(differences),
        "mean": float(differences.mean()),
        "sd": float(differences.std(ddof=1)),
        "ci95": _interval(pair_bootstrap(differences)),
        "subject_ci95": _interval(by_subject),
        "difference_p": _t_test(differences, 0.0, "two-sided"),
        "wilcoxon_p": _signed_rank(differences, "two-sided"),
    }


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)
