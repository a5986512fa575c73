"""Exchanged rows of which nothing is known but the clips and some names.

pairs of clips, drawn blindly --> every name asked of the sound of one and of the picture of the other
    --> heard x seen: four kinds, as often each --> questions about the sound, answered by the sound alone
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence

from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.sample import Sample, Turn

YES_NO = ("yes", "no")
KINDS = ((False, True), (True, False), (True, True), (False, False))  # (heard, seen); unheard first
Ask = Callable[[Sequence[Sample], Sequence[Sequence[str]]], list[tuple[str, float | None]]]


def blind_rows(samples: Sequence[Sample], recipe: ReferenceRecipe, ask: Ask) -> list[Sample]:
    """Rows of exchanged clips, with questions whose answer the sound alone gives.

    A name that a branch is not sure of (`label_margin`) is not asked of that pair; a pair that has no name of
    the kind whose turn it is gives one of the next kind.

    Args:
        samples: their clips are paired; their questions and answers are not looked at.
        recipe: `names`, `pairs`, `heard_question`, `seen_question`, `label_margin`, `seed`.
        ask: as `labels.Branches.ask`.

    Returns:
        At most two rows a pair, `meta["kind"]` saying whether the thing is heard and seen.
    """
    rng = random.Random(recipe.seed)
    clips = list({(s.video, s.audio): s for s in samples if s.video and s.audio}.values())
    if len(clips) < 2:
        return []
    drawn = [tuple(rng.sample(clips, 2)) for _ in range(recipe.pairs)]
    heard = _present({b.audio: b.without("video") for _, b in drawn}, recipe.heard_question, recipe, ask)
    seen = _present({a.video: a.without("audio") for a, _ in drawn}, recipe.seen_question, recipe, ask)
    rows: list[Sample] = []
    for number, (a, b) in enumerate(drawn):
        kinds: dict[tuple[bool, bool], list[str]] = {kind: [] for kind in KINDS}
        for name in recipe.names:
            is_heard, is_seen = heard[b.audio, name], seen[a.video, name]
            if is_heard is not None and is_seen is not None:
                kinds[is_heard, is_seen].append(name)
        for _ in range(2):
            turn = len(rows) % len(KINDS)
            kind = next(
                (k for k in itertools.islice(itertools.cycle(KINDS), turn, turn + 4) if kinds[k]), None
            )
            if kind is None:
                break
            name = kinds[kind].pop(rng.randrange(len(kinds[kind])))
            question = Turn(recipe.heard_question.format(name), YES_NO[not kind[0]], type=recipe.heard_type)
            meta = {
                "kind": {"heard": kind[0], "seen": kind[1]},
                "label": {"by": "audio", "model": recipe.policy_model},
            }
            made = Sample(f"pair-{number}-{name}", (question,), a.video, b.audio, meta=meta)
            rows.append(made)
    return rows


def _present(
    branches: dict[str | None, Sample], question: str, recipe: ReferenceRecipe, ask: Ask
) -> dict[tuple[str | None, str], bool | None]:
    """(file, name) -> whether it is there, by a branch; None where the branch is not sure enough."""
    asked = [
        (file, name, dataclasses.replace(sample, turns=(Turn(question.format(name), ""),)))
        for file, sample in branches.items()
        for name in recipe.names
    ]
    found = ask([sample for *_, sample in asked], [YES_NO] * len(asked))
    return {
        (file, name): None if (lead or 0.0) < recipe.label_margin else answer == "yes"
        for (file, name, _), (answer, lead) in zip(asked, found, strict=True)
    }
