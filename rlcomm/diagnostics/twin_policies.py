"""Answers on counterfactual twins that ignore a sense, or the question: what the reward of twins pays them.

    pairs of rows -> a policy's two answers, each behind honest reasoning -> the recipe's own reward of twins

A pair pays such a policy where its answer happens to be right of both clips: what can be said about the pairs
is therefore how they should be mixed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlcomm import steps
from rlcomm.data.sample import Sample
from rlcomm.data.twins import twin_rows
from rlcomm.diagnostics.degenerate import HEARS_NOTHING, SEES_NOTHING, heard, seen
from rlcomm.rewards.accuracy import matches

Pair = tuple[Sample, Sample]  # the clip with its own sound first, where one of them is
Answers = tuple[str, str]

MEANING = {
    "never_changes": "right of the first clip, the same of its twin",
    "always_changes": "right of the first clip, anything else of its twin",
    "by_picture": "as the picture's own clip is answered",
    "by_sound": "as the sound's own clip is answered",
}
MEND = {
    "never_changes": "add pairs whose answers differ",
    "always_changes": "add pairs whose answer stays the same",
    "by_picture": "add pairs whose sound is exchanged and changes the answer",
    "by_sound": "add pairs whose picture is exchanged and changes the answer",
}


def pairs(samples: Sequence[Sample]) -> list[Pair]:
    """The twins among rows, each pair once."""
    found = [(samples[a], samples[b]) for a, b in twin_rows(samples).items() if a < b]
    return [(q, p) if _own(q) and not _own(p) else (p, q) for p, q in found]


def answers(name: str, samples: Sequence[Sample], among: Sequence[Pair]) -> list[Answers | None]:
    """What a policy answers of both clips of each pair; None where nothing tells what it would.

    Args:
        name: of MEANING.
        samples: all rows: those with their own sound say how a picture, or a sound, is answered.
        among: the pairs.
    """
    if name == "never_changes":
        return [(p.answer, p.answer) for p, _ in among]
    if name == "always_changes":
        return [(p.answer, _other(p, q)) for p, q in among]
    sense = {"by_picture": "video", "by_sound": "audio"}[name]
    known = {(s.video, s.question): s.answer for s in samples if _own(s)}
    said = [[known.get((getattr(s, sense), s.question)) for s in pair] for pair in among]
    return [(a, b) if a is not None and b is not None else None for a, b in said]


def scores(samples: Sequence[Sample], reward: Callable[..., list[float | None]]) -> dict[str, Any]:
    """What every policy earns of the reward of twins.

    Args:
        samples: the recipe's rows.
        reward: as `rlcomm.rewards.adapters` makes it.

    Returns:
        {"pairs", "changing": share of the pairs whose gold answers differ, or None, "policies": {name:
        {"pairs" that tell what it answers, "accuracy", "consistency"}}}; honest answers earn 1. Means are
        None where no pair tells.
    """
    among = pairs(samples)
    differ = [not matches(p.answer, q.answer, q.options) for p, q in among]
    found: dict[str, Any] = {}
    for name in MEANING:
        said = answers(name, samples, among)
        used = [(pair, both) for pair, both in zip(among, said, strict=True) if both is not None]
        right = [
            matches(a, s.answer, s.options) for pair, both in used for s, a in zip(pair, both, strict=True)
        ]
        earned = [value for pair, both in used for value in _earned(reward, pair, both)]
        found[name] = {"pairs": len(used), "accuracy": _mean(right), "consistency": _mean(earned)}
    return {"pairs": len(among), "changing": _mean(differ), "policies": found}


def findings(found: Mapping[str, Any], reaches: float) -> list[str]:
    """A sentence for every policy that earns so large a share of what honest answers earn."""
    return [
        f"{name} ({MEANING[name]}) earns {one['consistency']:.0%} of the honest consistency on "
        f"{one['pairs']} pairs, of which answers change on {found['changing']:.0%} of all; {MEND[name]}."
        for name, one in found["policies"].items()
        if one["consistency"] is not None and one["consistency"] >= reaches
    ]  # fmt: skip


def _own(sample: Sample) -> bool:
    """Whether a clip is heard with its own sound."""
    return sample.video is not None and sample.video == sample.audio


def _other(p: Sample, q: Sample) -> str:
    """An answer that is not p's: q's where that is another one."""
    if not matches(q.answer, p.answer, p.options):
        return q.answer
    wrong = [option for option in p.options or ("yes", "no") if not matches(option, p.answer, p.options)]
    return wrong[0]


def _earned(reward: Callable[..., list[float | None]], pair: Pair, both: Answers) -> list[float]:
    texts = [
        steps.build(heard(s) or HEARS_NOTHING, seen(s) or SEES_NOTHING, answer)
        for s, answer in zip(pair, both, strict=True)
    ]
    twin = [(pair[1], [texts[1]]), (pair[0], [texts[0]])]
    found = reward(prompts=[""] * 2, completions=texts, sample=list(pair), twin=twin)
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
