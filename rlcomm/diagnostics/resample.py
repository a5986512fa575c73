"""Intervals of statistics that are no function of sums: rank correlation, area under a curve.

`evaluation.metrics` holds the rest. Whole clusters are drawn here as well.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.stats import rankdata

from rlcomm.evaluation.metrics import Metric

RESAMPLES = 1000


def resampled(
    statistic: Callable[[np.ndarray], float],
    clusters: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metric:
    """A statistic of items with its percentile bootstrap interval, 2.5 % to 97.5 %.

    Args:
        statistic: the numbers of the drawn items (n,), some several times, to its value; NaN: undefined.
        clusters: the clip of each item, (N,); whole clips are drawn.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        `{"value", "n", "ci95"}`; an undefined value is None and has no interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    size = len(clusters)
    value = float(statistic(np.arange(size))) if size else float("nan")
    if np.isnan(value):
        return {"value": None, "n": size, "ci95": None}
    _, index = np.unique([str(c) for c in clusters], return_inverse=True)
    members = [np.flatnonzero(index == number) for number in range(index.max() + 1)]
    rng = np.random.default_rng(seed)
    values = np.array(
        [
            statistic(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
            for _ in range(resamples)
        ]
    )
    defined = values[~np.isnan(values)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (value, value)
    return {"value": value, "n": size, "ci95": [float(low), float(high)]}


def spearman(x: Sequence[float], y: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """Spearman's rank correlation, in [-1, 1], ties by their mean rank; undefined where one is constant."""
    left, right = np.asarray(x, float), np.asarray(y, float)

    def of(drawn: np.ndarray) -> float:
        if len(drawn) < 2 or np.ptp(left[drawn]) == 0 or np.ptp(right[drawn]) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(left[drawn]), rankdata(right[drawn]))[0, 1])

    return resampled(of, clusters)


def auc(positive: Sequence[bool], scores: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """The share of pairs in which the positive has the higher score, ties half; 0.5 is chance.

    Undefined where all are positive or none is.
    """
    of_class, values = np.asarray(positive, bool), np.asarray(scores, float)

    def of(drawn: np.ndarray) -> float:
        chosen = of_class[drawn]
        many, few = int(chosen.sum()), int((~chosen).sum())
        if not many or not few:
            return float("nan")
        ranks = rankdata(values[drawn])[chosen].sum()
        return float((ranks - many * (many + 1) / 2) / (many * few))

    return resampled(of, clusters)
