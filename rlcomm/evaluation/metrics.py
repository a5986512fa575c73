"""Metrics over lists: pure functions, each giving `{"value", "n", "ci95": [lo, hi]}`.

Scoring (one item) and metrics (over items) are different things: the benchmarks score, this file counts. An
answer class is "yes", "no" or None; None is an unparsed answer, a class of its own that is never counted as
"no".
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Metric = dict[str, Any]  # {"value": float | None, "n": int, "ci95": [float, float] | None}

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
    numbers = np.asarray(values, dtype=np.float64)
    _, index = np.unique(
        [str(c) for c in clusters] if clusters is not None else np.arange(len(numbers)), return_inverse=True
    )
    sums, counts = np.bincount(index, weights=numbers), np.bincount(index).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=rows)  # (rows, clips)
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return [float(low), float(high)]


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


def accuracy(correct: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of correct items; an unparsed answer is an incorrect one. Range [0, 1]."""
    return mean([bool(c) for c in correct], clusters)


def accuracy_parsed(
    correct: Sequence[bool], parsed: Sequence[bool], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """Share of correct items among those whose answer could be read. Range [0, 1]."""
    return mean([bool(c) if p else None for c, p in zip(correct, parsed, strict=True)], clusters)


def yes_rate(classes: Sequence[str | None], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of items answered "yes", over all items, unparsed ones included. Range [0, 1]."""
    return mean([c == "yes" for c in classes], clusters)


def unparsed_rate(parsed: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of items whose answer could not be read. Range [0, 1]."""
    return mean([not p for p in parsed], clusters)


def sign_flip_rate(
    joint: Sequence[float | None], audio: Sequence[float | None], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """Share of repairable items: the same audio alone is right, the joint input wrong. Range [0, 1].

    With the margin M_b = s_b(gold) - s_b(other) of branch b in nats, an item flips iff M_A > 0 and M_J < 0; a
    tie (M = 0) is no flip. Items that miss one of the margins are left out.

    Args:
        joint: M_J of each item. For answers instead of scores, give +1 for right and -1 for wrong.
        audio: M_A of each item: the same audio, the conflicting modality removed.

    Source: GACL (arXiv 2606.05161), the sign-flip diagnosis; here J = audio + video and A = audio.
    """
    return mean(
        [None if j is None or a is None else a > 0 > j for j, a in zip(joint, audio, strict=True)], clusters
    )
