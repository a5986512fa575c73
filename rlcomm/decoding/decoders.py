"""The decoders by name: which branches each reads, and its choice among an item's candidates or tokens.

Every decoder is a pure function of the branches' scores. Of candidates, one pass over the model serves all
decoders and every setting of their grids; token by token each decoder writes its own answer.
"""

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
) -> Choice:
    """The decision of one decoder on one item.

    Args:
        decoder: a key of `READS`.
        scores: branch -> (K,) candidate scores in nats, of `tree.branch_scores`; None or missing: the item
            has no such branch.
        settings: keywords of `gacl.Settings`, or `a`, `b` (and `gate`) of a contrast; None: its defaults.
        stats: dev statistics for GACL's `center` and `zscore`.

    Raises:
        UserError: an unknown decoder, or settings out of range.
    """
    wanted = branches([decoder]) if decoder not in grids.PROMPTS else READS[decoder]
    settings = dict(settings or {})
    joint = tuple(scores.get("joint") or ())
    given = [scores.get(name) for name in wanted]
    if decoder == "gacl" and scores.get("evidence") is None:
        return Choice(_best(joint), joint, applies=False, gate=False, reliability=0.0, alpha=0.0)
    if decoder == "gacl":
        found = gacl.arbitrate(joint, list(scores.get("evidence") or ()), gacl.Settings(**settings), stats)
        return Choice(
            found.prediction, found.scores or joint, True, found.gate, found.reliability, found.alpha
        )
    if any(one is None for one in given):
        return Choice(_best(joint), joint, applies=False)
    full, *others = (torch.tensor(one, dtype=torch.float64).log_softmax(-1) for one in given)
    if decoder == "avcd":
        full = contrastive.avcd(full, others[0], others[1], others[2], **settings)
    elif decoder in contrastive.PRESETS:
        preset = contrastive.PRESETS[decoder]
        settings = {"a": preset.a, "b": preset.b, **settings}
        full = contrastive.contrast(full, others[0], **settings)
    chosen = tuple(full.tolist())
    return Choice(_best(chosen), chosen)


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


def _best(scores: Sequence[float]) -> int | None:
    """The first of the best finite scores; None: there is none."""
    finite = [i for i, score in enumerate(scores) if score == score and abs(score) != float("inf")]
    return max(finite, key=lambda i: scores[i], default=None)
