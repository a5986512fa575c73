"""Intervals of statistics that are no function of sums: rank correlation, area under a curve.

`evaluation.metrics` holds the rest. Whole clips are drawn here as well.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import rankdata

from rlcomm.evaluation.metrics import Metric, divide

RESAMPLES = 1000


def draws(clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each item is drawn in each resample, (R, N), whole clusters drawn with replacement.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    _, index = np.unique([str(c) for c in clusters], return_inverse=True)
    count = int(index.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, index]


def spearman(x: Sequence[float], y: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """Spearman's rank correlation, in [-1, 1], ties by their mean rank; undefined where one is constant.

    Args:
        x: one number an item, (N,).
        y: another, (N,).
        clusters: the clip of each item, (N,).

    Returns:
        `{"value", "n", "ci95"}`, 2.5 % to 97.5 % of the resamples in which it is defined.
    """
    left, right = np.asarray(x, float), np.asarray(y, float)

    def of(chosen: np.ndarray) -> float:
        a, b = left[chosen], right[chosen]
        if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])

    places = np.arange(len(left))
    value = of(places)
    if np.isnan(value):
        return {"value": None, "n": len(left), "ci95": None}
    return _metric(value, np.array([of(np.repeat(places, times)) for times in draws(clusters)]), len(left))


def auc(positive: Sequence[bool], scores: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """The share of pairs in which the positive item has the higher score, ties half; 0.5 is chance.

    Args:
        positive: the class of each item, (N,).
        scores: higher for the positive, (N,).
        clusters: the clip of each item, (N,).

    Returns:
        `{"value", "n", "ci95"}` as in `spearman`; undefined where all items are positive or none is.
    """
    chosen, values = np.asarray(positive, bool), np.asarray(scores, float)
    if not chosen.any() or chosen.all():
        return {"value": None, "n": len(values), "ci95": None}
    up, down = values[chosen][:, None], values[~chosen][None]
    wins = (up > down) + 0.5 * (up == down)
    drawn = draws(clusters).astype(float)
    many, few = drawn[:, chosen], drawn[:, ~chosen]
    resampled = divide(((many @ wins) * few).sum(1), many.sum(1) * few.sum(1))
    return _metric(float(wins.mean()), resampled, len(values))


def _metric(value: float, resampled: np.ndarray, size: int) -> Metric:
    defined = resampled[~np.isnan(resampled)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (value, value)
    return {"value": value, "n": size, "ci95": [float(low), float(high)]}
