"""The accuracy reward, and the one place that decides what an answer says and whether it is right.

Rewards and evaluation both ask `judge`, so that what is rewarded is what is measured. Answers are compared
whole, never by substring: "no" is in "piano", "one" is in "saxophone", and an empty answer is in everything.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rlcomm.rewards.lead import plain
from rlcomm.rewards.options import option, text_index
from rlcomm.rewards.spelling import normalise
from rlcomm.rewards.yes_no import bare, yes_no
from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample

__all__ = ["Verdict", "judge", "matches", "normalise", "score", "text_index", "verdict", "yes_no"]


class Verdict(NamedTuple):
    """What an answer says, and whether that is right.

    Attributes:
        said: an option, a label, "yes" or "no", or of an open question the normalised answer; None: unparsed,
            a class of its own, never "no".
        right: whether it is the gold answer.
    """

    said: str | None
    right: bool


def judge(answer: str | None, sample: "Sample") -> Verdict:
    """What an answer to the sample's (first) question says, and whether it is the gold answer.

    Args:
        answer: as parsed; None: there was none.
        sample: its question, gold answer, options and labels (`meta["candidates"]`).
    """
    labels = () if sample.options else tuple(sample.meta.get("candidates") or ())
    return verdict(answer, sample.answer, sample.options, labels, sample.question)


def verdict(
    answer: str | None,
    gold: str,
    options: Sequence[str] = (),
    labels: Sequence[str] = (),
    question: str = "",
) -> Verdict:
    """What an answer says, and whether it is the gold answer (o3 = y of RL-CoMM).

    Multiple choice: the option named by its text, its letter or both (`options.option`). A closed set of
    labels that were not shown: the label with this text. Yes/no questions, which are those whose gold answer
    or whose labels are yes and no: `yes_no`. Open questions: equality of the normalised texts. In each,
    "the answer is" and its like, markup and "because ..." do not count.

    Args:
        answer: as parsed; None or nothing visible says nothing and is never right.
        gold: the gold answer; of multiple choice also the letter.
        options: the options' texts, in the order shown; () for an open question.
        labels: the closed set of an item without options.
        question: what was asked, where it is known (`yes_no`).
    """
    if not answer:
        return Verdict(None, False)
    shown = tuple(options) or tuple(labels)
    right = option(gold, options) if options else text_index(gold, labels)
    if right is not None or labels:
        found = option(answer, options) if options else _label(answer, labels)
        if found is None and (classes := _classes(shown)) and (said := yes_no(answer, question)):
            found = classes.index(said)
        if found is not None:
            return Verdict(shown[found], found == right)
        if options or _classes(shown):
            return Verdict(None, False)
    elif (asked := bare(gold)) is not None and not options:
        said = yes_no(answer, question)
        return Verdict(said, said == asked)
    texts = [text for text in (normalise(answer), normalise(plain(answer))) if text]
    said = next((text for text in texts if text == normalise(gold)), texts[0] if texts else None)
    if right is not None:
        return Verdict(texts[0] if texts else None, False)  # of a label set, and none of the labels
    return Verdict(said, said is not None and said == normalise(gold))


def matches(
    candidate: str | None,
    gold: str,
    options: Sequence[str] = (),
    labels: Sequence[str] = (),
    question: str = "",
) -> bool:
    """Whether `candidate` is the gold answer (`verdict`)."""
    return verdict(candidate, gold, options, labels, question).right


def score(steps: Steps, sample: "Sample") -> float:
    """r_acc = 1[o3 = y], the reward of plain GRPO and a term of ARR and AVC.

    Args:
        steps: a parsed completion; without an answer segment it is wrong.
        sample: gold answer and options of its first turn.

    Returns:
        0.0 or 1.0.
    """
    return float(steps.answer.found and judge(steps.answer.text, sample).right)


def _label(answer: str, labels: Sequence[str]) -> int | None:
    """The label with this text, as it stands or without what is said around it."""
    found = text_index(answer, labels)
    return text_index(plain(answer), labels) if found is None else found


def _classes(labels: Sequence[str]) -> list[str] | None:
    """ "yes" and "no" in the order of two labels that mean them; None: these are others."""
    classes = [bare(label) for label in labels]
    return [name for name in classes if name] if sorted(map(str, classes)) == ["no", "yes"] else None
