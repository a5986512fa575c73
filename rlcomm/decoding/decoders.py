"""The decoders by name: which branches each reads, and its choice among an item's candidates or tokens.

Every decoder is a pure function of the branches' scores. Of candidates, one pass over the model serves all
decoders and every setting of their grids; token by token each decoder writes its own answer.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlcomm.decoding import contrastive, gacl, grids
from rlcomm.utils.errors import UserError

READS: dict[str, tuple[str, ...]] = {
    "greedy": ("joint",),
    "gacl": ("joint", "evidence"),
    "aad": ("joint", "no_audio"),
    "acd": ("joint", "noisy_audio"),
    "cad": ("joint", "evidence"),
    "vcd": ("joint", "noisy_video"),
    "icd": ("joint", "disturbed"),
    "avcd": ("joint", "no_media", "no_video", "no_audio"),
    **{name: (name,) for name in grids.PROMPTS},
}


@dataclass(frozen=True)
class Choice:
    """What a decoder chose.

    Attributes:
        prediction: number of the candidate; None: no branch gave a finite score.
        scores: the scores it was chosen by, (K,).
        sums: what the same rule makes of the summed log-probabilities, (K,): how sure it is. Those of a mean
            over tokens are as much too small as the labels are long.
        applies: False where a branch does not exist for this item (no picture to spoil): the joint answer
            stands.
        gate, reliability, alpha: of GACL, else None.
    """

    prediction: int | None
    scores: tuple[float, ...]
    applies: bool = True
    gate: bool | None = None
    reliability: float | None = None
    alpha: float | None = None
    sums: tuple[float, ...] = ()

    @property
    def confidence(self) -> float | None:
        """softmax of `sums` at the prediction, in [0, 1]; None where nothing was scored against it: of one
        candidate alone (the branches wrote the same) it would be 1 whatever the model thinks."""
        sums = self.sums or self.scores
        if self.prediction is None or len(sums) < 2 or not math.isfinite(max(sums)):
            return None
        return softmax_at(sums, self.prediction)


def summed(scores: Sequence[float], tokens: Sequence[int] | None) -> tuple[float, ...]:
    """Summed log-probabilities out of means over `tokens` tokens each; None: they are sums already."""
    if tokens is None:
        return tuple(scores)
    return tuple(score * number for score, number in zip(scores, tokens, strict=True))


def softmax_at(scores: Sequence[float], place: int) -> float:
    """softmax(scores)[place], in [0, 1]."""
    top = max(scores)
    return min(1.0, math.exp(scores[place] - top) / math.fsum(math.exp(score - top) for score in scores))


def branches(decoders: Iterable[str]) -> tuple[str, ...]:
    """The branches that these decoders read, each once, the joint one first.

    Raises:
        UserError: an unknown decoder.
    """
    found = {"joint": None}
    for decoder in decoders:
        if decoder not in READS:
            raise UserError(f"decoder {decoder!r} is unknown; use some of {', '.join(READS)}.")
        found.update(dict.fromkeys(READS[decoder]))
    return tuple(found)


def choose(
    decoder: str,
    scores: Mapping[str, Sequence[float] | None],
    settings: Mapping[str, Any] | None = None,
    stats: gacl.Stats | None = None,
    tokens: Mapping[str, Sequence[int]] | None = None,
) -> Choice:
    """The decision of one decoder on one item.

    Args:
        decoder: a key of `READS`.
        scores: branch -> (K,) candidate scores in nats, of `score.branch_scores`; None or missing: the item
            has no such branch.
        settings: keywords of `gacl.Settings`, or `a`, `b` (and `gate`) of a contrast; None: its defaults.
        stats: dev statistics for GACL's `center` and `zscore`.
        tokens: branch -> (K,) tokens that each score is the mean of (`omni.labels.label_tokens`); None: the
            scores are sums. Confidence and AVCD's entropy are those of the sums.

    Raises:
        UserError: an unknown decoder, or settings out of range.
    """
    wanted = branches([decoder]) if decoder not in grids.PROMPTS else READS[decoder]
    settings = dict(settings or {})
    sums = {
        name: summed(one, None if tokens is None else tokens[name])
        for name in wanted
        if (one := scores.get(name)) is not None
    }
    joint = tuple(scores.get("joint") or ())
    alone = Choice(_best(joint), joint, applies=False, sums=sums.get("joint", ()))
    if decoder == "gacl":
        return _arbitrated(scores, sums, gacl.Settings(**settings), stats, alone)
    if any(scores.get(name) is None for name in wanted):
        return alone
    means = [_log_softmax(scores[name] or ()) for name in wanted]
    whole = [_log_softmax(sums[name]) for name in wanted]
    if decoder == "avcd":
        doubt = contrastive.entropy(whole[0])
        chosen = contrastive.avcd(means[0], means[1], means[2], means[3], **settings, doubt=doubt)
        uncut = {**settings, "b": None}
        sure = contrastive.avcd(whole[0], whole[1], whole[2], whole[3], **uncut, doubt=doubt)
    elif decoder in contrastive.PRESETS:
        preset = contrastive.PRESETS[decoder]
        a, b = settings.get("a", preset.a), settings.get("b", preset.b)
        chosen = contrastive.contrast(means[0], means[1], a, b)
        sure = contrastive.contrast(whole[0], whole[1], a)
    else:
        chosen, sure = means[0], whole[0]
    sure = sure.masked_fill(chosen == -math.inf, -math.inf)  # what the plausibility cut took away
    return Choice(_best(chosen.tolist()), tuple(chosen.tolist()), sums=tuple(sure.tolist()))


def _arbitrated(
    scores: Mapping[str, Sequence[float] | None],
    sums: Mapping[str, tuple[float, ...]],
    settings: gacl.Settings,
    stats: gacl.Stats | None,
    alone: Choice,
) -> Choice:
    """GACL's choice; `alone` with its gate shut where the item has no evidence branch."""
    evidence = scores.get("evidence")
    if evidence is None:
        return replace(alone, gate=False, reliability=0.0, alpha=0.0)
    found = gacl.arbitrate(alone.scores, list(evidence), settings, stats)
    sure = alone.sums
    if found.alpha > 0:
        sure = tuple(
            gacl.mix(j, a, found.alpha)
            for j, a in zip(gacl.normalise(sums["joint"]), gacl.normalise(sums["evidence"]), strict=True)
        )
    return Choice(
        found.prediction, found.scores or alone.scores, True, found.gate, found.reliability, found.alpha, sure
    )


def token_rule(
    decoder: str, settings: Mapping[str, Any] | None = None
) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """One decoder as a rule over next-token logits, for `branching.generate_branched`.

    A row that no token can be chosen for (GACL's joint branch is invalid) has -inf throughout. An item that
    lacks one of the branches (None of `branch_prompts`) is not for this rule: its joint greedy answer
    stands, as in `choose`, and the caller sees to it.

    Args:
        decoder: a key of `READS`.
        settings: keywords of `gacl.Settings`, or `a`, `b` (and `gate`) of a contrast; None: its defaults.

    Returns:
        Logits (B, V) of the branches `READS[decoder]`, in that order -> scores (B, V); only their order
        within a row means something.

    Raises:
        UserError: an unknown decoder, or settings out of range, already here.
    """
    branches([decoder])
    settings = dict(settings or {})
    rule: Callable[[list[torch.Tensor]], torch.Tensor]
    if decoder == "gacl":
        chosen = gacl.Settings(**settings)

        def rule(logits):
            joint, evidence = logits
            return gacl.arbitrate_tokens(joint, evidence, chosen).scores

    elif decoder == "avcd":

        def rule(logits):
            full, *others = logits
            return contrastive.avcd(full, *others, **settings)

    elif decoder in contrastive.PRESETS:
        preset = replace(contrastive.PRESETS[decoder], **settings)

        def rule(logits):
            full, reference = logits
            return contrastive.contrast(full, reference, preset.a, preset.b)

    else:

        def rule(logits):
            (own,) = logits
            return own

    rule([torch.zeros(1, 2)] * len(READS[decoder]))  # settings out of range are told now
    return rule


def _log_softmax(scores: Sequence[float]) -> torch.Tensor:
    return torch.tensor(scores, dtype=torch.float64).log_softmax(-1)


def _best(scores: Sequence[float]) -> int | None:
    """The first of the best finite scores; None: there is none."""
    finite = [i for i, score in enumerate(scores) if score == score and abs(score) != float("inf")]
    return max(finite, key=lambda i: scores[i], default=None)
