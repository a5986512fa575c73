"""What a text beside the question does to answers: how many it flips, and whose side they take.

Shares unless said otherwise; every metric gives `{"value", "n", "ci95"}`, its interval from whole clips
(`metrics.bootstrap_sums`).
"""

from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import numpy as np

from rlcomm.evaluation.metrics import Metric, divide, mean, of_sums, ratio

Clusters = Sequence[Hashable] | None
Condition = Literal["adversarial", "faithful", "irrelevant"]


def text_influence(
    condition: Condition,
    neutral_correct: Sequence[bool | None],
    correct: Sequence[bool | None],
    changed: Sequence[bool] | None = None,
    clusters: Clusters = None,
) -> dict[str, Metric]:
    """TIR, the share of answers that a text flips, against the same row without text. Range [0, 1].

        adversarial   right -> wrong
        faithful      wrong -> right
        irrelevant    any other answer than before, right or wrong

        tir_all             flips / rows
        tir_given_correct   flips among the rows right without text / those rows
        tir_given_wrong     (faithful only) flips among the rows wrong without text / those rows

    A faithful flip starts from a wrong answer, so `tir_given_correct` could only be 0 there: it has no value,
    and `tir_given_wrong` is its counterpart. An unparsed answer is wrong.

    Args:
        condition: what the text does.
        neutral_correct: is the answer without text right, (N,).
        correct: is the same row's answer with the text right, (N,).
        changed: is it another answer (unparsed is one of its own), (N,); needed for irrelevant text.
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        The metrics by name.

    Raises:
        ValueError: an unknown condition, or irrelevant text without `changed`.

    Source: MCR-BENCH (arXiv 2508.15407), text influence rate.
    """
    if condition not in get_args(Condition):
        raise ValueError(f"condition {condition!r} is none of {', '.join(get_args(Condition))}")
    before = [bool(c) for c in neutral_correct]
    after = [bool(c) for c in correct]
    pairs = list(zip(before, after, strict=True))
    if condition == "irrelevant":
        if changed is None:
            raise ValueError("irrelevant text flips any answer, so say which answers changed")
        flips = [bool(c) for c, _ in zip(changed, pairs, strict=True)]
    elif condition == "adversarial":
        flips = [b and not a for b, a in pairs]
    else:
        flips = [a and not b for b, a in pairs]
    result = {"tir_all": mean(flips, clusters)}
    if condition == "faithful":
        result["tir_given_correct"] = {"value": None, "n": 0, "ci95": None}
        result["tir_given_wrong"] = ratio(flips, [not b for b in before], clusters)
    else:
        result["tir_given_correct"] = ratio(
            [f and b for f, b in zip(flips, before, strict=True)], before, clusters
        )
    return result


def norm_acc(
    correct: Sequence[bool | None], neutral_correct: Sequence[bool | None], clusters: Clusters = None
) -> Metric:
    """NormAcc_c = Acc_c / Acc_neutral: accuracy under condition c, in units of that without text.

    Range [0, inf); above 1 the text helps.

    Args:
        correct: under the condition, row by row, (N,); None: the row was not asked so.
        neutral_correct: without text, the same rows, (N,).
        clusters: as in `metrics.bootstrap_ci95`; None: every row is one, its conditions drawn together.

    Returns:
        `{"value", "n", "ci95"}`, n the rows asked under the condition; no value if nothing neutral is right.

    Source: MCR-BENCH (arXiv 2508.15407).
    """
    features = _accuracy_sums(correct, neutral_correct)
    return of_sums(features, lambda s: divide(_acc(s, 0), _acc(s, 1)), _asked(correct), clusters)


def robustness(
    adversarial: Sequence[bool | None],
    irrelevant: Sequence[bool | None],
    neutral_correct: Sequence[bool | None],
    clusters: Clusters = None,
) -> Metric:
    """MRS = 0.8 NormAcc_adversarial + 0.2 NormAcc_irrelevant, the modality robustness score.

    Range [0, inf); 1: text moves nothing on balance.

    Args:
        adversarial: is the row's answer right beside adversarial text, (N,); None: not asked so.
        irrelevant: beside irrelevant text, the same rows.
        neutral_correct: without text, the same rows.
        clusters: as in `norm_acc`.

    Returns:
        `{"value", "n", "ci95"}`, n the rows asked with either text; no value if one of the three was never
        asked, or nothing neutral is right.

    Source: MCR-BENCH (arXiv 2508.15407).
    """
    features = _accuracy_sums(adversarial, irrelevant, neutral_correct)
    n = sum(a is not None or i is not None for a, i in zip(adversarial, irrelevant, strict=True))
    return of_sums(features, lambda s: divide(0.8 * _acc(s, 0) + 0.2 * _acc(s, 1), _acc(s, 2)), n, clusters)


def text_dominance(sides: Sequence[str | None], clusters: Clusters = None) -> Metric:
    """TDR = text / (text + audio): of the answers that take a side, the share that takes the text's.

    Range [0, 1]; 0.5 is no preference.

    Args:
        sides: "text", "audio", or anything else (a third answer, None for an unparsed one): no side, (N,).
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        `{"value", "n", "ci95"}`, n the answers that take a side.

    Source: ALME, text-dominance ratio.
    """
    return ratio([s == "text" for s in sides], [s in ("text", "audio") for s in sides], clusters)


def _asked(correct: Sequence[bool | None]) -> int:
    return sum(c is not None for c in correct)


def _accuracy_sums(*columns: Sequence[bool | None]) -> np.ndarray:
    """(N, 2 C): of each row and column, is it right and was it asked."""
    rows = list(zip(*columns, strict=True))
    features = [[x for c in row for x in (float(bool(c)), float(c is not None))] for row in rows]
    return np.asarray(features, dtype=np.float64).reshape(len(rows), 2 * len(columns))


def _acc(sums: np.ndarray, column: int) -> np.ndarray:
    """Accuracy of a column of `_accuracy_sums`, summed: (R,); NaN where nothing was asked."""
    return divide(sums[:, 2 * column], sums[:, 2 * column + 1])
