"""Paired comparison of two methods on the same pairs: mean difference, intervals, equivalence and its p values.

The pairs of a cohort share subjects and so are not independent: the pair bootstrap and the t tests treat them as if
they were. The subject bootstrap does not: it draws subjects with replacement and weights a pair by the product of how
often its fixed and its moving subject were drawn (the "pigeonhole" bootstrap of crossed data, Owen 2007), which errs
on the wide side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES, SEED = 10_000, 0


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


def tost(differences: np.ndarray, margin: float) -> float:
    """The larger p of the two one-sided t tests of mean > -margin and mean < margin."""
    lower = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(lower, upper))


def wilcoxon_tost(differences: np.ndarray, margin: float) -> float:
    """The larger p of the two one-sided signed-rank tests of a centre above -margin and below margin."""
    lower = stats.wilcoxon(differences + margin, alternative="greater").pvalue
    upper = stats.wilcoxon(differences - margin, alternative="less").pvalue
    return float(max(lower, upper))


def pair_bootstrap(differences: np.ndarray) -> np.ndarray:
    """[RESAMPLES] means of pairs drawn with replacement."""
    random = np.random.default_rng(SEED)
    return differences[random.integers(0, len(differences), (RESAMPLES, len(differences)))].mean(1)


def subject_bootstrap(differences: np.ndarray, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Means with subjects drawn with replacement, fixed and moving role alike; draws without a pair are left out."""
    names = sorted({name for pair in pairs for name in pair})
    random = np.random.default_rng(SEED)
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    fixed, moving = ([names.index(pair[role]) for pair in pairs] for role in (0, 1))
    weights = times[:, fixed] * times[:, moving]
    weights = weights[weights.sum(1) > 0]
    return (weights * differences).sum(1) / weights.sum(1)


def compare(first: dict[str, float], second: dict[str, float], *, margin: float) -> Comparison:
    """`first` minus `second` over the pairs both have.

    Args:
        first, second: "fixed_moving" -> score.
        margin: within which two methods count as equivalent, in the unit of the score.

    Raises:
        ValueError: fewer than three common pairs.
    """
    common = sorted(first.keys() & second.keys())
    if len(common) < 3:
        raise ValueError(f"{len(common)} common pairs; a comparison needs at least three")
    differences = np.array([first[pair] - second[pair] for pair in common])
    by_pair = pair_bootstrap(differences)
    names = [pair.split("_") for pair in common]
    by_subject = subject_bootstrap(differences, [(fixed, moving) for fixed, moving in names])
    within = np.abs(np.percentile(by_subject, (5, 95))).max() < margin
    return Comparison(
        pairs=len(common),
        mean=float(differences.mean()),
        sd=float(differences.std(ddof=1)),
        ci95=_interval(by_pair),
        subject_ci95=_interval(by_subject),
        tost_p=tost(differences, margin),
        wilcoxon_tost_p=wilcoxon_tost(differences, margin),
        non_inferiority_p=float(stats.ttest_1samp(differences, -margin, alternative="greater").pvalue),
        difference_p=float(stats.ttest_1samp(differences, 0.0).pvalue),
        wilcoxon_p=float(stats.wilcoxon(differences).pvalue),
        margin=margin,
        equivalent_by_subjects=bool(within),
    )


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)
