"""Metrics over lists: pure functions, each giving `{"value", "n", "ci95": [lo, hi]}`.

Scoring (one item) and metrics (over items) are different things: the benchmarks score, this file counts. An
answer class is "yes", "no" or None; None is an unparsed answer, a class of its own that is never counted as
"no".

Here: shares, yes-no judgements, calibration, and the bootstrap they all use. Conflict and its repair are in
`influence` and `repair`, margins and sign flips in `margins`, reliance on a sense in `reliance`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

Metric = dict[str, Any]  # {"value": float | None, "n": int, "ci95": [float, float] | None}
Statistic = Callable[[np.ndarray], np.ndarray]  # sums (R, F) -> (R,), NaN where it is undefined

RESAMPLES = 2000
CHUNK = 200  # resamples drawn at once: bounds the memory to CHUNK x clips


def bootstrap_ci95(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[float] | None:
    """The percentile bootstrap interval of a mean, 2.5 % to 97.5 %.

    Args:
        values: one number an item, (N,).
        clusters: the clip each item is about, (N,). Whole clips are drawn, since several questions about one
            clip share its luck and are not independent draws; None: every item is a clip of its own.
        resamples: bootstrap draws.
        seed: of the draws; the same input gives the same interval, always.

    Returns:
        [lo, hi], or None for no values. An interval of constant values has no width: that is a limit of the
        bootstrap, not certainty.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    if len(values) == 0:
        return None
    return bootstrap_sums([[value, 1.0] for value in values], share_of_sums, clusters, resamples, seed)


def bootstrap_sums(
    features: Sequence[Sequence[float]] | np.ndarray,
    statistic: Statistic,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[float] | None:
    """The percentile bootstrap interval of a function of sums over items, 2.5 % to 97.5 %.

    A share, a ratio of shares, an F1, an area under a frontier: each is a function of a few sums. Whole
    clusters are drawn, their sums added up and the function taken anew, so numerator and denominator vary
    together.

    Args:
        features: what each item adds to each sum, (N, F).
        statistic: the sums of every draw (R, F) to its value (R,); NaN: undefined (a denominator of 0).
        clusters: as in `bootstrap_ci95`.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        [lo, hi] over the draws in which the statistic is defined; None if there is no item or no such draw.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    items = np.asarray(features, dtype=np.float64)
    if len(items) == 0:
        return None
    _, index = np.unique(
        [str(c) for c in clusters] if clusters is not None else np.arange(len(items)), return_inverse=True
    )
    sums = [np.bincount(index, weights=column) for column in items.T]  # F arrays, (clusters,)
    count = len(sums[0])
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=rows)
        weights = drawn.astype(np.float64)  # (rows, clusters)
        values.append(statistic(np.stack([weights @ column for column in sums], axis=1)))
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    if len(defined) == 0:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return [float(low), float(high)]


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator elementwise, NaN (undefined) where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=np.asarray(denominator) != 0
    )


def share_of_sums(sums: np.ndarray) -> np.ndarray:
    """The statistic sum_0 / sum_1: (R, 2) -> (R,)."""
    return divide(sums[:, 0], sums[:, 1])


def of_sums(
    features: Sequence[Sequence[float]] | np.ndarray,
    statistic: Statistic,
    n: int,
    clusters: Sequence[Hashable] | None = None,
) -> Metric:
    """A function of sums over items, with its interval (`bootstrap_sums`).

    Args:
        features: what each item adds to each sum, (N, F).
        statistic: the sums (R, F) to values (R,), NaN where undefined.
        n: the number of items the value rests on.
        clusters: as in `bootstrap_ci95`.

    Returns:
        `{"value", "n", "ci95"}`; an undefined value is None and has no interval.
    """
    items = np.asarray(features, dtype=np.float64)
    value = float(statistic(items.sum(axis=0, keepdims=True))[0]) if len(items) else np.nan
    if np.isnan(value):
        return {"value": None, "n": n, "ci95": None}
    return {"value": value, "n": n, "ci95": bootstrap_sums(items, statistic, clusters)}


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """sum of numerators / sum of denominators over the same items.

    Returns:
        `{"value", "n", "ci95"}`; n counts the items with a denominator, and a sum of 0 gives no value.
    """
    pairs = [[float(a), float(b)] for a, b in zip(numerators, denominators, strict=True)]
    return of_sums(pairs, share_of_sums, sum(b != 0 for _, b in pairs), clusters)


def mean(values: Sequence[float | bool | None], clusters: Sequence[Hashable] | None = None) -> Metric:
    """The mean of what applies: None values (not applicable) are left out of value and n.

    Returns:
        `{"value", "n", "ci95"}`; nothing applicable gives `{"value": None, "n": 0, "ci95": None}`.
    """
    kept = [i for i, value in enumerate(values) if value is not None]
    numbers = [float(values[i]) for i in kept]  # type: ignore[arg-type]
    groups = [clusters[i] for i in kept] if clusters is not None else None
    return {
        "value": float(np.mean(numbers)) if numbers else None,
        "n": len(numbers),
        "ci95": bootstrap_ci95(numbers, groups),
    }


def macro_mean(several: Sequence[Sequence[float | bool]], clusters: Sequence[Sequence[Hashable]]) -> Metric:
    """The mean of several sets' means, each of equal weight.

    Args:
        several: values of the items of each set.
        clusters: the clip of each item of each set; one that stands in several sets is drawn with all its
            items.

    Returns:
        `{"value", "n", "ci95"}`, n the items of all sets; no value if a set has no item.
    """
    sizes = [len(values) for values in several]
    features = np.zeros((sum(sizes), 2 * len(several)))
    row = 0
    for number, values in enumerate(several):
        features[row : row + len(values), 2 * number] = np.asarray(values, float)
        features[row : row + len(values), 2 * number + 1] = 1.0
        row += len(values)

    def of(sums: np.ndarray) -> np.ndarray:
        return divide(sums[:, 0::2], sums[:, 1::2]).mean(axis=1)

    return of_sums(features, of, len(features), [clip for some in clusters for clip in some])


def accuracy(correct: Sequence[bool | None], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of correct items; an unparsed answer is an incorrect one. Range [0, 1]."""
    return mean([bool(c) for c in correct], clusters)


def accuracy_parsed(
    correct: Sequence[bool | None], parsed: Sequence[bool], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """Share of correct items among those whose answer could be read. Range [0, 1]."""
    return mean([bool(c) if p else None for c, p in zip(correct, parsed, strict=True)], clusters)


def yes_rate(classes: Sequence[str | None], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of items answered "yes", over all items, unparsed ones included. Range [0, 1]."""
    return mean([c == "yes" for c in classes], clusters)


def precision(
    golds: Sequence[str],
    classes: Sequence[str | None],
    clusters: Sequence[Hashable] | None = None,
    positive: str = "yes",
) -> Metric:
    """Share of gold positives among the items answered so: TP / (TP + FP). Range [0, 1].

    Args:
        golds: "yes" or "no", (N,).
        classes: the answers, "yes", "no" or None (unparsed: an answer of neither class), (N,).
        clusters: as in `bootstrap_ci95`.
        positive: the class asked about.

    Returns:
        `{"value", "n", "ci95"}`, n the items answered `positive`; none of them: no value.

    Raises:
        ValueError: a gold that is neither "yes" nor "no".

    Source: van Rijsbergen, Information Retrieval (1979), chapter 7; used by AVHBench (arXiv 2410.18325).
    """
    hits, predicted, _ = _judgements(golds, classes, positive)
    return ratio(hits, predicted, clusters)


def recall(
    golds: Sequence[str],
    classes: Sequence[str | None],
    clusters: Sequence[Hashable] | None = None,
    positive: str = "yes",
) -> Metric:
    """Share of the gold positives that are answered so: TP / (TP + FN). Range [0, 1].

    An unparsed answer to a gold positive is a miss. Arguments, errors and source as in `precision`; n is the
    number of gold positives.
    """
    hits, _, actual = _judgements(golds, classes, positive)
    return ratio(hits, actual, clusters)


def f1(
    golds: Sequence[str],
    classes: Sequence[str | None],
    clusters: Sequence[Hashable] | None = None,
    positive: str = "yes",
) -> Metric:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN). Range [0, 1].

    An unparsed answer to a gold positive counts in FN, one to a gold negative nowhere. Arguments, errors and
    source as in `precision`; n counts the items that are positive by gold or by answer, and none of them
    gives no value (not 0).
    """
    hits, predicted, actual = _judgements(golds, classes, positive)
    return ratio([2 * hit for hit in hits], [p + a for p, a in zip(predicted, actual, strict=True)], clusters)


def perception_accuracy(
    golds: Sequence[str], classes: Sequence[str | None], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """PA, accuracy on the items whose gold is "yes": what is there is perceived. Range [0, 1].

    Source: The Curse of Multi-Modalities (CMM, arXiv 2410.12787).
    """
    return recall(golds, classes, clusters, positive="yes")


def hallucination_resistance(
    golds: Sequence[str], classes: Sequence[str | None], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """HR, accuracy on the items whose gold is "no": what is not there is denied. Range [0, 1].

    An unparsed answer denies nothing, so it lowers HR. Source: CMM (arXiv 2410.12787).
    """
    return recall(golds, classes, clusters, positive="no")


def unparsed_rate(parsed: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of items whose answer could not be read. Range [0, 1]."""
    return mean([not p for p in parsed], clusters)


def reliability_bins(
    confidences: Sequence[float | None], correct: Sequence[bool], bins: int = 10
) -> list[dict[str, Any]]:
    """The bars of a reliability diagram: M bins ((m-1)/M, m/M] of equal width; 0 belongs to the first.

    Args:
        confidences: of the given answer, in [0, 1], (N,); None (no confidence) leaves the item out.
        correct: (N,).
        bins: M >= 1.

    Returns:
        M dicts `{"low", "high", "n", "confidence", "accuracy"}`; the means of an empty bin are None.

    Raises:
        ValueError: a confidence outside [0, 1].

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2.
    """
    sums = _calibration_features(confidences, correct, bins).sum(axis=0).reshape(3, bins)
    return [
        {
            "low": m / bins,
            "high": (m + 1) / bins,
            "n": int(count),
            "confidence": float(confidence / count) if count else None,
            "accuracy": float(right / count) if count else None,
        }
        for m, (count, confidence, right) in enumerate(sums.T)
    ]


def expected_calibration_error(
    confidences: Sequence[float | None],
    correct: Sequence[bool],
    clusters: Sequence[Hashable] | None = None,
    bins: int = 10,
) -> Metric:
    """ECE = sum_m n_m / n |acc_m - conf_m| over `reliability_bins`. Range [0, 1], 0 is calibrated.

    Resampling adds noise to every bin, so the interval of a well calibrated model lies above its ECE; a small
    set shows an ECE above 0 for the same reason.

    Args:
        confidences: in [0, 1], (N,); None leaves the item out.
        correct: (N,).
        clusters: as in `bootstrap_ci95`.
        bins: M >= 1.

    Raises:
        ValueError: a confidence outside [0, 1].

    Source: Guo et al. (arXiv 1706.04599), eq. 3.
    """
    features = _calibration_features(confidences, correct, bins)  # (kept, 3 M)
    kept = (
        [c for c, confidence in zip(clusters, confidences, strict=True) if confidence is not None]
        if (clusters is not None)
        else None
    )

    def statistic(sums: np.ndarray) -> np.ndarray:
        count, confidence, right = sums[:, :bins], sums[:, bins : 2 * bins], sums[:, 2 * bins :]
        return divide(np.abs(right - confidence).sum(axis=1), count.sum(axis=1))

    return of_sums(features, statistic, len(features), kept)


def _judgements(
    golds: Sequence[str], classes: Sequence[str | None], positive: str
) -> tuple[list[int], list[int], list[int]]:
    """Of each item: is it a true positive, is it answered positive, is it gold positive; 0 or 1."""
    for i, gold in enumerate(golds):
        if gold not in ("yes", "no"):
            raise ValueError(f"gold {i} is {gold!r}, and a judgement's gold is 'yes' or 'no'")
    predicted = [int(c == positive) for c in classes]
    actual = [int(g == positive) for g in golds]
    return [p * a for p, a in zip(predicted, actual, strict=True)], predicted, actual


def _calibration_features(
    confidences: Sequence[float | None], correct: Sequence[bool], bins: int
) -> np.ndarray:
    """(kept, 3 M): of each item with a confidence, its count, confidence and correctness in its bin."""
    pairs = [(c, bool(r)) for c, r in zip(confidences, correct, strict=True) if c is not None]
    features = np.zeros((len(pairs), 3, bins))
    edges = np.arange(1, bins) / bins
    for i, (confidence, right) in enumerate(pairs):
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence {confidence} is outside [0, 1]")
        m = int(np.digitize(confidence, edges, right=True))  # edges[m-1] < confidence <= edges[m]
        features[i, :, m] = 1.0, confidence, float(right)
    return features.reshape(len(pairs), 3 * bins)
