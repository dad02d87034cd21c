"""The area under the receiver operating characteristic."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def area_under_curve(score: np.ndarray, wrong: np.ndarray) -> float | None:
    """How often something wrong has the higher score than something right; a draw counts half.

    Args:
        score: [N].
        wrong: [N] bool.

    Returns:
        In [0, 1]; None where all are wrong or none is.
    """
    count = int(wrong.sum())
    if count in (0, len(wrong)):
        return None
    return float((rankdata(score)[wrong].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))
