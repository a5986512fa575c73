"""Degenerate policies: ways to fill the three segments without looking, without listening, or without either.

    row -> (what is honestly heard, what is honestly seen, the gold answer) -> completion text

Every policy carries the answer it is given (`always_no` alone has its own), so that answer and format credit
hide nothing of what its reasoning earns. Pure text, no model: `rlcomm.diagnostics.audit` scores them, and
`shares` recognises them among the completions of a policy that trains.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlcomm.data.sample import Sample
from rlcomm.data.vocabulary import listed
from rlcomm.rewards.accuracy import normalise
from rlcomm.steps import Steps, parse

SEES_NOTHING, HEARS_NOTHING = "I see something.", "I hear something."
_TO_SIGHT = {
    "hear": "see", "hears": "sees", "heard": "seen", "hearing": "seeing", "audible": "visible",
    "audibly": "visibly", "inaudible": "invisible", "listen": "look", "listens": "looks",
    "listened": "looked", "listening": "looking",
}  # fmt: skip
_TO_HEARING = {seeing: hearing for hearing, seeing in _TO_SIGHT.items()} | {"saw": "heard"}


@dataclass(frozen=True)
class Story:
    """What is honest on a row.

    Attributes:
        sample: the row.
        heard: the honest a-think, `heard(sample)`.
        seen: the honest v-think, `seen(sample)`.
    """

    sample: Sample
    heard: str
    seen: str


Policy = Callable[[Story, str, Story], str]  # a row's story, the answer, another row's story -> completion


def _write(audio: str, video: str, answer: str) -> str:
    return f"<a-think> {audio} </a-think> <v-think> {video} </v-think> <answer> {answer} </answer>"


def _turned(text: str, words: dict[str, str]) -> str:
    """`text` with the words of one sense turned into those of the other; capitals stay."""

    def turn(found: re.Match[str]) -> str:
        word = words[found.group().lower()]
        return word.capitalize() if found.group()[0].isupper() else word

    return re.sub(rf"\b(?:{'|'.join(words)})\b", turn, text, flags=re.IGNORECASE)


def as_seen(text: str) -> str:
    """What is heard, told as if it were seen: "I hear a drum." is "I see a drum."; else `text` itself."""
    return _turned(text, _TO_SIGHT)


def as_heard(text: str) -> str:
    """What is seen, told as if it were heard: "I see a drum." is "I hear a drum."; else `text` itself."""
    return _turned(text, _TO_HEARING)


def honest(row: Story) -> str:
    """The completion that says what is heard, what is seen, and the gold answer."""
    return _write(row.heard, row.seen, row.sample.answer)


POLICIES: dict[str, Policy] = {
    "v_into_a": lambda s, y, o: _write(s.seen, s.seen, y),
    "v_told_as_heard": lambda s, y, o: _write(as_heard(s.seen), s.seen, y),
    "a_told_as_seen": lambda s, y, o: _write(s.heard, as_seen(s.heard), y),
    "reference_echoed": lambda s, y, o: _write(s.heard, s.heard, y),
    "another_row": lambda s, y, o: _write(o.heard, o.seen, y),
    "another_view": lambda s, y, o: _write(s.heard, o.seen, y),
    "question_echoed": lambda s, y, o: _write(s.sample.question, s.sample.question, y),
    "gold_everywhere": lambda s, y, o: _write(y, y, y),
    "v_says_nothing": lambda s, y, o: _write(s.heard, SEES_NOTHING, y),
    "both_say_nothing": lambda s, y, o: _write(HEARS_NOTHING, SEES_NOTHING, y),
    "empty_segments": lambda s, y, o: _write("", "", y),
    "tags_repeated": lambda s, y, o: f"{_write(s.heard, s.seen, y)} {_write(s.heard, s.seen, y)}",
    "always_no": lambda s, y, o: _write(s.heard, s.seen, "no"),
}
"""By name. The copies put one sense into both segments: word for word (v_into_a, reference_echoed) or in the
words of the other sense (v_told_as_heard, a_told_as_seen). another_row and another_view tell of another clip,
the next five of none; tags_repeated says everything twice; always_no reasons honestly and answers "no"."""

OWN_ANSWER = frozenset({"always_no"})
_NEED_ANOTHER_ROW = frozenset({"another_row", "another_view"})
MEANING = {
    "v_into_a": "the v-think in both segments, word for word",
    "v_told_as_heard": "what is seen, told as heard",
    "a_told_as_seen": "what is heard, told as seen",
    "reference_echoed": "the a-think in both segments, word for word",
    "another_row": "the reasoning of another row",
    "another_view": "the v-think of another row",
    "question_echoed": "the question in both segments",
    "gold_everywhere": "the answer in every segment",
    "v_says_nothing": f"v-think: {SEES_NOTHING}",
    "both_say_nothing": f"{HEARS_NOTHING} {SEES_NOTHING}",
    "empty_segments": "nothing in both segments",
    "tags_repeated": "all three segments twice",
    "always_no": "honest reasoning, the answer no",
}


def heard(sample: Sample) -> str | None:
    """The honest a-think of a row: its reference, else the a-think of its own target; None: neither."""
    return sample.reference or _of_target(sample, "audio")


def seen(sample: Sample) -> str | None:
    """The honest v-think of a row: the v-think of its own target, else the ground truth (`meta["visible"]`,
    listed in a sentence), else its `sight`; None: nothing tells what is seen."""
    names = sample.meta.get("visible")
    shown = f"I see {listed(sorted(names))}." if names else None
    return _of_target(sample, "video") or shown or sample.sight


def stories(samples: Sequence[Sample]) -> list[Story]:
    """The rows of which both honest segments are known, in order."""
    found = ((sample, heard(sample), seen(sample)) for sample in samples)
    return [Story(sample, a, v) for sample, a, v in found if a and v]


def others(rows: Sequence[Story]) -> list[Story]:
    """For each row the next one (around the end) about another clip that tells something else in both
    segments; the next one where no row does."""
    found = []
    for i, row in enumerate(rows):
        following = (rows[(i + step) % len(rows)] for step in range(1, len(rows)))
        found.append(next(filter(functools.partial(_is_another, row), following), rows[(i + 1) % len(rows)]))
    return found


def _is_another(row: Story, other: Story) -> bool:
    another_clip = (row.sample.video, row.sample.audio) != (other.sample.video, other.sample.audio)
    return another_clip and row.heard != other.heard and row.seen != other.seen


def differs(name: str, row: Story, other: Story) -> bool:
    """Whether the policy says anything else here than the honest completion: where the senses agree, what is
    heard told as seen is simply true."""
    return _read(POLICIES[name](row, row.sample.answer, other)) != _read(honest(row))


def shows(name: str, steps: Steps, sample: Sample) -> bool:
    """Whether a completion does what the policy does: given the completion's own two texts and its answer as
    the honest ones, the policy writes it again. Never so for policies that borrow another row's text."""
    if name in _NEED_ANOTHER_ROW or not steps.answer.found:
        return False
    if name != "empty_segments" and not (steps.audio.found and steps.video.found):
        return False
    told = Story(sample, steps.audio.text, steps.video.text)
    return _read(POLICIES[name](told, steps.answer.text, told)) == _read(steps.text)


def shares(completions: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """How many of a policy's completions are each exploit.

    Args:
        completions: texts, N.
        samples: their rows, N.

    Returns:
        {policy: share in [0, 1] of the completions on rows where it is no honest thing to say}; 0 where
        there is no such row. `another_row` and `another_view`, which cannot be recognised, are left out.
    """
    names = [name for name in POLICIES if name not in _NEED_ANOTHER_ROW]
    counted: dict[str, list[bool]] = {name: [] for name in names}
    for text, sample in zip(completions, samples, strict=True):
        a, v = heard(sample), seen(sample)
        story = Story(sample, a, v) if a and v else None
        steps = parse(text)
        for name in names:
            if story is None or differs(name, story, story):
                counted[name].append(shows(name, steps, sample))
    return {name: sum(found) / len(found) if found else 0.0 for name, found in counted.items()}


@functools.lru_cache(maxsize=1 << 16)  # a policy that trains says the same things over and over
def _read(text: str) -> tuple[tuple[bool, str], ...]:
    """What a completion says, segment by segment, and which of them stand there more than once."""
    steps = parse(text)
    parts = (steps.audio, steps.video, steps.answer)
    return tuple((part.status == "repeated", normalise(part.text)) for part in parts)


def _of_target(sample: Sample, segment: str) -> str | None:
    """The text of a segment of the row's own target."""
    target = sample.turns[0].target
    part = getattr(parse(target), segment) if target else None
    return part.text if part is not None and part.found else None
