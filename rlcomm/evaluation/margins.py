"""How far the right label leads, and what it means that everything together takes the lead away.

    M_b = s_b(gold) - s_b(claimed)              the margin of branch b, in nats, where a text claims a label
        = s_b(gold) - max s_b(other labels)     where nothing is claimed; above 0 the right label wins

    right      M_J > 0, M_A > 0
    flip       M_J < 0 < M_A     reversed: the evidence alone (A) is right, with everything (J) it loses
    missing    M_J < 0, M_A < 0  the evidence is not there to be repaired
    other      the rest: right because of what was left out, or a tie

Every evaluation and diagnosis takes its margins and sign flips from here.

Source: GACL (arXiv 2606.05161), the sign-flip diagnosis.
"""

from collections.abc import Hashable, Sequence
from typing import Literal

from rlcomm.evaluation.metrics import Metric, mean

DIGITS = 6  # of a stored score: below that, one machine's sums differ from another's
Quadrant = Literal["right", "flip", "missing", "other"]


def rounded(scores: Sequence[float]) -> list[float]:
    """Scores as they are stored."""
    return [round(float(score), DIGITS) for score in scores]


def margin(scores: Sequence[float], gold: int, claimed: int | None = None) -> float:
    """M = s(gold) - s(what a text claims), or the best other score, in nats; above 0 the gold label wins.

    With more than two labels a margin against a claim may be above 0 though a third label beats both: ask
    `right` whether the answer is right.

    Args:
        scores: of the labels, (K,), K >= 2.
        gold: index of the right label.
        claimed: index of the label that a text claims; None, or the gold label itself: the best other one.
    """
    others = [i for i in range(len(scores)) if i != gold]
    against = others if claimed is None or claimed == gold else [claimed]
    return round(float(scores[gold] - max(scores[i] for i in against)), DIGITS)


def right(scores: Sequence[float], gold: int) -> bool:
    """Whether the gold label is the answer: it beats all others (a tie is no answer)."""
    return margin(scores, gold) > 0


def is_flip(joint: float | None, alone: float | None) -> bool:
    """Whether an item is a sign flip, M_A > 0 > M_J; a tie is none, nor is an item without both margins."""
    return joint is not None and alone is not None and alone > 0 > joint


def quadrant(joint: float, alone: float) -> Quadrant:
    """Where the two margins of an item lie."""
    if is_flip(joint, alone):
        return "flip"
    if joint < 0 and alone < 0:
        return "missing"
    return "right" if joint > 0 and alone > 0 else "other"


def sign_flip_rate(
    joint: Sequence[float | None], alone: Sequence[float | None], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """Share of sign flips: the same evidence alone is right, the joint input wrong. Range [0, 1].

    Items that miss one of the margins are left out.

    Args:
        joint: M_J of each item. For answers instead of scores, give +1 for right and -1 for wrong.
        alone: M_A of each item: the same evidence, the conflicting modality removed.
        clusters: as in `metrics.bootstrap_ci95`.
    """
    pairs = zip(joint, alone, strict=True)
    return mean([None if j is None or a is None else is_flip(j, a) for j, a in pairs], clusters)
