"""What each decoder answers to an item, out of the scores of its branches or in its own words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlcomm.data.controls import source
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders, gacl, grids
from rlcomm.evaluation import margins
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import GENERATED, LABEL_SCORED, Answer, Answers, Raw, Reading, read

EVIDENCE = "evidence"


@dataclasses.dataclass(frozen=True)
class Item:
    """One item with what the branches say of it.

    Attributes:
        sample: what is asked.
        raw: its raw record.
        dev: whether settings may be chosen on it.
    """

    sample: Sample
    raw: Raw
    dev: bool

    @property
    def clip(self) -> str:
        """What it is drawn with in intervals, and told dev from test by."""
        return source(self.sample)

    @property
    def condition(self) -> str | None:
        return self.sample.meta.get("condition")


@dataclasses.dataclass(frozen=True)
class Decided:
    """One decoder's answer to one item.

    Attributes:
        choice: among the candidates; None: it was written freely.
        text: the answer in words, or None.
        fields: as its benchmark scores it.
    """

    choice: decoders.Choice | None
    text: str | None
    fields: dict[str, Any]

    @property
    def correct(self) -> bool:
        return bool(self.fields["correct"])

    @property
    def answers(self) -> Answers:
        """How it was obtained: chosen among scored candidates, or written freely."""
        return GENERATED if self.choice is None else LABEL_SCORED

    @property
    def applies(self) -> bool:
        """Whether the decoder did anything, or lacked a branch and left the joint answer as it was."""
        return self.choice is None or self.choice.applies

    @property
    def confidence(self) -> float | None:
        """How sure the decoder is of its answer, in [0, 1]; None where nothing was scored against it."""
        return None if self.choice is None else self.choice.confidence

    def record(self) -> Answer:
        """As it stands in a record."""
        found: Answer = {
            "answers": self.answers,
            "answer": self.text,
            "class": self.fields.get("class"),
            "parsed": self.fields["parsed"],
            "correct": self.fields["correct"],
            "why": self.fields.get("why"),
            "confidence": self.confidence,
        }
        if "a_acc" in self.fields:
            found |= {"a_acc": self.fields["a_acc"], "v_acc": self.fields["v_acc"]}
        if (choice := self.choice) is not None:
            found |= {
                "applies": choice.applies,
                "gate": choice.gate,
                "reliability": choice.reliability,
                "alpha": choice.alpha,
            }
        return found


class Scorer:
    """A decoder's answer to an item, with its benchmark's score; every answer is scored once."""

    def __init__(self, one: Set, plan: Plan, stats: gacl.Stats | None) -> None:
        self.one, self.plan, self.stats = one, plan, stats
        self.known: dict[tuple[str, str, str | None], dict[str, Any]] = {}

    def __call__(self, item: Item, decoder: str, settings: Mapping[str, Any]) -> Decided:
        raw = item.raw
        if decoder in raw["texts"]:
            reading = read(raw["texts"][decoder], self.plan.prompt_style)
            return Decided(None, reading.answer, self._fields(item, reading))
        stats = self.stats if decoder == "gacl" else None
        choice = decoders.choose(decoder, raw["scores"], settings, stats, raw.get("tokens"))
        there = [
            b
            for b in decoders.READS[decoder]
            if b == "joint" or raw["scores"].get(b) or b in raw["reasoning"]
        ]
        if len(there) == len(decoders.READS[decoder]) and not choice.applies:
            # the branch is there and never came to an answer: its own is unparsed, else the joint one stands
            own = decoder in grids.PROMPTS
            choice = decoders.Choice(None, ()) if own else dataclasses.replace(choice, applies=True)
        text = raw["candidates"][choice.prediction] if choice.prediction is not None else None
        return Decided(choice, text, self._fields(item, self._reading(item, choice.prediction)))

    def _reading(self, item: Item, prediction: int | None) -> Reading:
        """A candidate as something to be scored: by itself, or in the words in which a branch gave it."""
        if prediction is None:
            return Reading("", None, "", "")
        if item.raw["completions"]:
            return read(item.raw["completions"][prediction], self.plan.prompt_style)
        text = item.raw["candidates"][prediction]
        return Reading(text, text, text, text)

    def _fields(self, item: Item, reading: Reading) -> dict[str, Any]:
        key = item.sample.id, reading.text, reading.answer
        if key not in self.known:
            self.known[key] = self.one.score(item.sample, reading)
        return self.known[key]

    def branch(self, item: Item, branch: str) -> Decided:
        """The answer of one branch by itself: the best of its scores."""
        scores = item.raw["scores"].get(branch)
        prediction = max(range(len(scores)), key=scores.__getitem__) if scores else None
        text = item.raw["candidates"][prediction] if prediction is not None else None
        tokens = item.raw["tokens"][branch] if scores and "tokens" in item.raw else None
        sums = decoders.summed(scores or (), tokens)
        choice = decoders.Choice(prediction, tuple(scores or ()), sums=sums)
        return Decided(choice, text, self._fields(item, self._reading(item, prediction)))


def margin(item: Item, branch: str) -> float | None:
    """M_b = s_b(gold) - s_b(what the text claims), or the best other candidate where it claims none; None
    where the gold answer was not scored, or nothing else was.

    Source: GACL (arXiv 2606.05161), the sign-flip diagnosis.
    """
    scores, labels = item.raw["scores"].get(branch), list(item.raw["candidates"])
    gold = common.named(item.sample.answer, labels)
    if not scores or gold is None or len(labels) < 2:
        return None
    claimed = common.named(item.sample.meta.get("text_answer"), labels)
    return margins.margin(scores, labels.index(gold), None if claimed is None else labels.index(claimed))
