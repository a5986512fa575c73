"""GACL, gated audio counterfactual logit correction: repair a joint answer with the same audio's own answer.

Two branches score the same candidates: J (joint: audio + text) and A (the same audio, the conflicting text
left out). Where A is sure of another answer, the joint scores are moved towards A's, never beyond them:

    s_J, s_A -> y_J, y_A -> gate N_out, reliability R_A -> alpha -> s_J + alpha (s_A - s_J) -> prediction

The rule knows no modality: with A = the video without the text it arbitrates between vision and text, with
A = the audio without the video between audio and vision.

Source: Beyond Text Following (arXiv 2606.05161), the correction rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from rlcomm.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ScoreNorm = Literal["log_softmax", "none", "center", "zscore"]


@dataclass(frozen=True)
class Settings:
    """The knobs of GACL.

    Attributes:
        lam: lambda >= 0, how far a fully reliable A moves the joint scores; 0 is the joint answer.
        tau: tau_A, the margin of A (in units of the scores, nats for log-probabilities) that counts as fully
            reliable; 0 or less makes reliability a yes or no: any margin at all.
        alpha_max: upper bound of alpha in [0, 1]; above 1 would extrapolate beyond A.
        score_norm: what is done to a branch's scores first (`normalise`).

    Raises:
        UserError: a value out of range.
    """

    lam: float = 0.5
    tau: float = 0.5
    alpha_max: float = 1.0
    score_norm: ScoreNorm = "log_softmax"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha_max <= 1:
            raise UserError(
                f"GACL's alpha_max is {self.alpha_max}, outside [0, 1], where the scores would no longer lie "
                "between the two branches; set a number from 0 (joint only) to 1."
            )
        if not (self.lam >= 0 and math.isfinite(self.lam)):
            raise UserError(
                f"GACL's lambda is {self.lam}, which cannot scale a correction towards the audio; set a "
                "finite number of 0 or more."
            )
        if not math.isfinite(self.tau):
            raise UserError(
                f"GACL's tau is {self.tau}, which no margin can be measured by; set a finite number "
                "(0 or less accepts any margin)."
            )
        if self.score_norm not in get_args(ScoreNorm):
            raise UserError(
                f"GACL's score_norm is {self.score_norm!r}, which is not known; set one of "
                f"{', '.join(get_args(ScoreNorm))}."
            )


@dataclass(frozen=True)
class BranchStats:
    """Mean and standard deviation of one branch's scores on a dev split, for `center` and `zscore`.

    Attributes:
        mean: (1,) pooled over items and candidates, or (K,) one for each candidate of a fixed label list.
        std: of the same length; the population's (divided by n).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Stats:
    """`BranchStats` of both branches: they differ, or there would be no conflict to repair."""

    joint: BranchStats
    audio: BranchStats


@dataclass(frozen=True)
class Arbitration:
    """What GACL decided about one item, and why.

    Attributes:
        prediction: index of the chosen candidate; None iff the joint branch has no answer.
        alpha: weight of A, [0, alpha_max].
        gate: N_out, A has an answer and it is another one than J's.
        reliability: R_A, [0, 1].
        scores: s_GACL, (K,), of the normalised scores.
        joint: y_J, or None.
        audio: y_A, or None.
        margin: s_A(y_A) - max of the others, in units of the normalised scores, +inf where A rules all others
            out; None without an A or without others.
    """

    prediction: int | None
    alpha: float
    gate: bool
    reliability: float
    scores: tuple[float, ...]
    joint: int | None
    audio: int | None
    margin: float | None


@dataclass(frozen=True)
class TokenArbitration:
    """`Arbitration` of a batch of next-token distributions, as tensors.

    Attributes:
        prediction: (B,) int64; -1 where the joint branch has no answer.
        alpha: (B,).
        gate: (B,) bool.
        reliability: (B,).
        scores: (B, V).
    """

    prediction: "Tensor"
    alpha: "Tensor"
    gate: "Tensor"
    reliability: "Tensor"
    scores: "Tensor"


def fit_stats(scores: Sequence[Sequence[float]], per_candidate: bool = False) -> BranchStats:
    """The statistics of one branch on a dev split, over its finite scores.

    Args:
        scores: raw scores of each dev item, (N, K); K may vary unless `per_candidate`.
        per_candidate: one mean and deviation for each position of a label list that all items share (a
            label's prior), instead of one for all.

    Returns:
        The statistics, of length 1 or K.

    Raises:
        UserError: no finite score to fit on, or label lists of several lengths with `per_candidate`.
    """
    if per_candidate and len({len(row) for row in scores}) > 1:
        raise UserError(
            "the dev split has label lists of several lengths, which share no statistics per candidate; fit "
            "pooled statistics, or split the items by label list."
        )
    columns = list(zip(*scores, strict=True)) if per_candidate else [tuple(s for row in scores for s in row)]
    means, deviations = [], []
    for column in columns:
        finite = [s for s in column if math.isfinite(s)]
        if not finite:
            raise UserError(
                "the dev split has no finite score to fit score_norm's statistics on; give it scored items, "
                "or set score_norm to log_softmax."
            )
        mean = math.fsum(finite) / len(finite)
        means.append(mean)
        deviations.append(math.sqrt(math.fsum((s - mean) ** 2 for s in finite) / len(finite)))
    if not means:
        raise UserError("the dev split is empty, so score_norm has nothing to fit; give it items.")
    return BranchStats(tuple(means), tuple(deviations))


def normalise(
    scores: Sequence[float], score_norm: ScoreNorm = "log_softmax", stats: BranchStats | None = None
) -> list[float]:
    """One branch's scores on a scale on which the two branches can be mixed.

        log_softmax   s - log sum_y exp s(y)      over the item's candidates
        none          s
        center        s - mean                    mean, std: of this branch on a dev split
        zscore        (s - mean) / std

    A shift that is the same for all candidates of a branch changes neither its margins nor any argmax of
    the mix, so `log_softmax`, `none` and a pooled `center` always predict the same; `zscore` changes the
    scale (and with it what tau means), and statistics per candidate change the ranking.

    Args:
        scores: (K,); -inf stays -inf.
        score_norm: as above.
        stats: needed by `center` and `zscore`.

    Returns:
        (K,) floats.

    Raises:
        UserError: statistics missing, of another length than the candidates, or without spread for `zscore`.
    """
    if score_norm == "none":
        return [float(s) for s in scores]
    if score_norm == "log_softmax":
        top = max(scores, default=-math.inf)
        if not math.isfinite(top):
            return [float(s) for s in scores]  # nothing to normalise: all -inf, or a broken branch
        total = top + math.log(math.fsum(math.exp(s - top) for s in scores))
        return [s - total for s in scores]
    if stats is None:
        raise UserError(
            f"score_norm is {score_norm!r}, which needs statistics, and none were fitted; evaluate on a dev "
            "split first, or set score_norm to log_softmax."
        )
    if len(stats.mean) not in (1, len(scores)) or len(stats.mean) != len(stats.std):
        raise UserError(
            f"score_norm's statistics are of {len(stats.mean)} candidates and the item has {len(scores)}; "
            "fit them on the same label list, or pooled."
        )
    if score_norm == "zscore" and not all(deviation > 0 for deviation in stats.std):
        raise UserError(
            "score_norm is 'zscore' and the dev scores have no spread to divide by; use more dev items, or "
            "set score_norm to center."
        )
    pooled = len(stats.mean) == 1
    result = []
    for i, score in enumerate(scores):
        j = 0 if pooled else i
        scale = stats.std[j] if score_norm == "zscore" else 1.0
        result.append((score - stats.mean[j]) / scale)
    return result


def arbitrate(
    joint: Sequence[float],
    audio: Sequence[float],
    settings: Settings | None = None,
    stats: Stats | None = None,
) -> Arbitration:
    """GACL on the candidate scores of one item.

        y_J = argmax s_J ;  y_A = argmax s_A
        N_out  = 1[y_A valid and y_A != y_J]
        R_A    = clip((s_A(y_A) - max_{y != y_A} s_A(y)) / tau, 0, 1)
                 tau <= 0: 1[margin > 0];  one candidate: 0
        alpha  = clip(lambda R_A N_out, 0, alpha_max)
        s_GACL = s_J + alpha (s_A - s_J) ;  prediction = argmax s_GACL

    Edges. An argmax takes the first of equals; a tie at the top of A has margin 0, so R_A = 0. A branch is
    valid iff it has a finite score and no NaN or +inf: an invalid A (or none, an empty list) leaves the joint
    scores as they are, an invalid J gives no prediction, since GACL repairs an answer and does not invent
    one. A score of -inf rules a candidate out, in the mix too (0 < alpha < 1); where the branches leave no
    candidate in common there is nothing to mix and alpha is 0. alpha = 0 gives s_J and alpha = 1 gives s_A
    to the bit.

    Args:
        joint: s_J, (K,), summed or length-normalised log-probabilities of the candidates.
        audio: s_A, (K,), of the same candidates in the same order; empty: the branch was not scored.
        settings: lambda, tau, alpha_max, score_norm; None: the paper's.
        stats: the dev statistics of `center` and `zscore`.

    Returns:
        The decision with its parts.

    Raises:
        ValueError: the branches score different numbers of candidates.
        UserError: `score_norm` cannot be computed (`normalise`).

    Source: arXiv 2606.05161, the correction rule; one candidate, ties and invalid branches are our choices.
    """
    settings = settings or Settings()
    if audio and joint and len(joint) != len(audio):
        raise ValueError(f"the joint branch scores {len(joint)} candidates, the audio branch {len(audio)}")
    s_j = normalise(joint, settings.score_norm, stats.joint if stats else None) if joint else []
    s_a = normalise(audio, settings.score_norm, stats.audio if stats else None) if audio else []
    y_j, y_a = _argmax(s_j), _argmax(s_a)
    others = [s for i, s in enumerate(s_a) if i != y_a]
    margin = s_a[y_a] - max(others) if y_a is not None and others else None
    reliability = 0.0
    if margin is not None:
        reliability = min(max(margin / settings.tau, 0.0), 1.0) if settings.tau > 0 else float(margin > 0)
    gate = y_j is not None and y_a is not None and y_a != y_j
    alpha = min(max(settings.lam * reliability * gate, 0.0), settings.alpha_max)
    if alpha == 1:
        scores = s_a
    elif alpha == 0:
        scores = s_j
    else:
        scores = [mix(j, a, alpha) for j, a in zip(s_j, s_a, strict=True)]
        if _argmax(scores) is None:
            alpha, scores = 0.0, s_j
    return Arbitration(
        prediction=_argmax(scores),
        alpha=alpha,
        gate=gate,
        reliability=reliability,
        scores=tuple(scores),
        joint=y_j,
        audio=y_a,
        margin=margin,
    )


def arbitrate_tokens(joint: "Tensor", audio: "Tensor", settings: Settings | None = None) -> TokenArbitration:
    """`arbitrate` on the next-token logits of a batch: the candidates are the vocabulary.

    The same rule row by row, edges included; it agrees with the list version. Half precision is raised to
    float32 first. With lambda = 1 and tau = 0 every row predicts A's token (where A has no tie); with lambda
    or alpha_max = 0 every row predicts J's.

    Args:
        joint: logits of J, (B, V).
        audio: logits of A, (B, V).
        settings: as in `arbitrate`; `score_norm` is log_softmax, the logits having no dev statistics.

    Returns:
        The decisions as tensors on the logits' device.

    Raises:
        ValueError: tensors of different shapes, or not (B, V).
        UserError: another `score_norm`.

    Source: our variant of arXiv 2606.05161, which scores whole answers.
    """
    settings = settings or Settings()
    if settings.score_norm != "log_softmax":
        raise UserError(
            f"score_norm is {settings.score_norm!r}, and next-token logits have no dev statistics and no "
            "scale of their own; leave it at log_softmax for token decoding."
        )
    if joint.dim() != 2 or joint.shape != audio.shape:
        raise ValueError(f"need two (B, V) tensors, not {tuple(joint.shape)} and {tuple(audio.shape)}")
    s_j, valid_j = _log_softmax(joint)  # (B, V), (B,)
    s_a, valid_a = _log_softmax(audio)
    y_j, y_a = s_j.argmax(-1), s_a.argmax(-1)  # the first of equals
    if s_a.shape[-1] > 1:
        best = s_a.topk(2, dim=-1).values
        margin = (best[:, 0] - best[:, 1]).masked_fill(~valid_a, 0.0)
        reliability = (margin / settings.tau).clamp(0, 1) if settings.tau > 0 else (margin > 0).to(s_a.dtype)
    else:
        reliability = s_a.new_zeros(len(s_a))
    gate = valid_j & valid_a & (y_a != y_j)
    alpha = (settings.lam * reliability * gate).clamp(0, settings.alpha_max)
    common = s_j.isfinite() & s_a.isfinite()  # (B, V)
    alpha = alpha.masked_fill((alpha < 1) & ~common.any(-1), 0.0)
    weight = alpha.unsqueeze(-1)
    mixed = (s_j + weight * (s_a - s_j)).masked_fill(~common, -math.inf)
    scores = s_a.where(weight == 1, s_j.where(weight == 0, mixed))
    prediction = scores.argmax(-1).masked_fill(~valid_j, -1)
    return TokenArbitration(prediction, alpha, gate, reliability, scores)


def _argmax(scores: Sequence[float]) -> int | None:
    """The first of the best scores; None for a branch that is empty, all -inf, or has a NaN or +inf."""
    if any(math.isnan(s) or s == math.inf for s in scores) or not any(math.isfinite(s) for s in scores):
        return None
    return max(range(len(scores)), key=scores.__getitem__)


def mix(joint: float, audio: float, alpha: float) -> float:
    """s_J + alpha (s_A - s_J); a candidate that one branch rules out stays ruled out."""
    if math.isinf(joint) or math.isinf(audio):
        return -math.inf
    return joint + alpha * (audio - joint)


def _log_softmax(logits: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Log-softmaxed rows (B, V), and which of them are valid (B,); the scores of invalid rows are -inf."""
    logits = logits if logits.element_size() >= 4 else logits.float()
    valid = logits.isfinite().any(-1) & ~(logits.isnan() | logits.isposinf()).any(-1)
    scores = logits.masked_fill(~valid.unsqueeze(-1), 0.0).log_softmax(-1)
    return scores.masked_fill(~valid.unsqueeze(-1), -math.inf), valid
