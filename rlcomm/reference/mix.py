"""Which rows, and how often each: a mix of question types, of answers and of exchanged clips.

    rows --(their margins: exchanged share, least share of a type, answers alike within a type)--> weights
         --(systematic sampling)--> copies of each row

In ordinary clips some types are rare and some have one answer alone ("Is this sound from the instrument in
the video?": always yes), so that rows drawn as they come teach that answer and unlearn the rare types. The
weights are raked to the margins (iterative proportional fitting; Deming and Stephan, 1940).
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcomm.data.sample import Sample
from rlcomm.rewards.accuracy import normalise
from rlcomm.utils.errors import UserError

MOST_COPIES = 4  # of one row; beyond that a rare answer is learned by heart
_ROUNDS = 200  # of raking; it stands still long before where the margins can be met


def copies(
    samples: Sequence[Sample],
    total: int,
    *,
    exchanged: Sequence[bool] | None = None,
    exchanged_share: float | None = None,
    min_type_share: float = 0.0,
    balance_answers: bool = False,
    seed: int = 0,
) -> list[int]:
    """How often each row is taken, so that `total` rows come out and the margins hold as far as rows allow.

    Args:
        samples: to draw from; the first question of each counts.
        total: rows to take; above their number some are repeated.
        exchanged: of each row whether its senses are of two clips. exchanged_share: of `total`; None: as it
            comes.
        min_type_share: no question type shall be rarer. balance_answers: within a type every answer is as
            frequent, over both kinds of rows together.
        seed: of the draw.

    Returns:
        Copies of each row, 0 to `MOST_COPIES`; their sum is `total`.

    Raises:
        UserError: more rows are wanted than there are copies, or the types cannot all have their share.
    """
    if total > MOST_COPIES * len(samples):
        raise UserError(
            f"{total} rows are asked for, and {len(samples)} rows give at most {MOST_COPIES * len(samples)}, "
            f"each {MOST_COPIES} times; ask for fewer or give more rows."
        )
    types, of_type = np.unique([sample.turns[0].type for sample in samples], return_inverse=True)
    if min_type_share * len(types) > 1:
        raise UserError(
            f"min_type_share is {min_type_share:g}, and {len(types)} question types cannot each have that "
            f"much; set at most {1 / len(types):.2g}."
        )
    answers = [(int(t), normalise(s.answer)) for t, s in zip(of_type, samples, strict=True)]
    _, of_answer = np.unique([f"{t}\n{answer}" for t, answer in answers], return_inverse=True)
    type_of_answer = np.zeros(of_answer.max() + 1, int)
    type_of_answer[of_answer] = of_type
    strange = np.array(exchanged if exchanged is not None else [False] * len(samples), int)
    weights = np.full(len(samples), total / len(samples))
    kinds = exchanged_share is not None and 0 < strange.sum() < len(samples)
    of_kind = total * np.array([1 - (exchanged_share or 0.0), exchanged_share or 0.0])
    for number in range(2 * _ROUNDS):
        if kinds:
            weights = _fitted(weights, strange, of_kind)
        if balance_answers and number < _ROUNDS:  # goes behind the shares where not all can be met
            per_type = np.bincount(of_type, weights) / np.bincount(type_of_answer, minlength=len(types))
            weights = _fitted(weights, of_answer, per_type[type_of_answer])
        weights = _fitted(weights, of_type, _floored(np.bincount(of_type, weights), min_type_share))
        weights = _capped(weights, total)
    return _systematic(weights, total, list(zip(strange, of_type, of_answer, strict=True)), seed)


def again(row: Sample, number: int) -> Sample:
    """The row as it stands in the file for the `number`th time."""
    return row if number == 1 else dataclasses.replace(row, id=f"{row.id}#{number}")


def described(samples: Sequence[Sample], taken: Sequence[int]) -> dict[str, Any]:
    """What a mix came to.

    Returns:
        {"rows", "distinct", "repeated" (rows beyond the first of each), "types": {type: share},
        "answers": {type: {answer: rows}} of types with at most eight}.
    """
    total = sum(taken)
    types: Counter[str] = Counter()
    answers: dict[str, Counter[str]] = {}
    for sample, times in zip(samples, taken, strict=True):
        if times:
            types[sample.turns[0].type] += times
            answers.setdefault(sample.turns[0].type, Counter())[normalise(sample.answer)] += times
    return {
        "rows": total,
        "distinct": sum(times > 0 for times in taken),
        "repeated": sum(times - 1 for times in taken if times),
        "types": {name: round(count / total, 4) for name, count in sorted(types.items())},
        "answers": {
            name: dict(sorted(found.items())) for name, found in sorted(answers.items()) if len(found) <= 8
        },
    }


def _capped(weights: np.ndarray, total: float) -> np.ndarray:
    """Weights (N,) of sum `total`, none above `MOST_COPIES`: what is cut off goes to the others alike."""
    weights = np.minimum(weights * total / weights.sum(), MOST_COPIES)
    while (missing := total - weights.sum()) > 1e-9 * total and (free := weights < MOST_COPIES).any():
        weights = np.where(free, weights * (1 + missing / weights[free].sum()), weights)
        weights = np.minimum(weights, MOST_COPIES)
    return weights


def _fitted(weights: np.ndarray, group: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Weights (N,) scaled so that each group's sum is what is wanted of it, (G,)."""
    have = np.bincount(group, weights, minlength=len(wanted))
    return weights * np.divide(wanted, have, out=np.ones_like(have), where=have > 0)[group]


def _floored(sums: np.ndarray, least: float) -> np.ndarray:
    """The sums of the types, those below `least` of the whole raised to it and the others lowered alike."""
    low = np.zeros(len(sums), bool)
    wanted = sums
    while least > 0 and (now := wanted < least * sums.sum() * (1 - 1e-9)).any():
        low |= now
        rest = sums.sum() * (1 - least * low.sum())
        wanted = np.where(low, least * sums.sum(), sums * rest / max(sums[~low].sum(), 1e-12))
    return wanted


def _systematic(weights: np.ndarray, total: int, strata: list[tuple], seed: int) -> list[int]:
    """Whole numbers within one of the weights (N,), their sum `total`; so is the sum of every stratum."""
    rng = random.Random(seed)
    order = sorted(range(len(weights)), key=lambda i: (strata[i], rng.random()))
    ends = np.cumsum(weights[order])
    ends = np.floor(ends * total / ends[-1] + rng.random() * 0.999 + 5e-4).astype(int)
    taken = [0] * len(weights)
    for i, times in zip(order, np.diff(ends, prepend=0), strict=True):
        taken[i] = int(times)
    return taken
