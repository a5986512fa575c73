"""What is diagnosed: one question with everything (joint) and without its distractor (reference).

    benchmark rows -> Sample -> Item(joint, reference) -> Pairs -> two EncodedPrompts -> a part's records

A part of `rlcomm diagnose` is a module with four functions:

    measure(policy, items, pairs=Pairs, batch_size=int, seed=int) -> one JSON-able record an item, in order
    summary(records) -> {name: {"value", "n", "ci95"}}, nested where that is natural; goes to diagnosis.json
    scalars(summary) -> {"<part>/...": number or None}, what is logged where it is measured during training
    section(summary, records) -> the inside of the part's section of diagnosis.html (`evaluation.page`), with
        the captions of its figures; "" for nothing to show

A record begins with `Item.fields()`. `measure` sees the items block by block, whole clips together and always
in the same blocks, each block once: so an interrupted run and several processes give the same bytes, as long
as a record rests on nothing outside its block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlcomm.data import controls
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.evaluation import margins
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.margins import rounded
from rlcomm.evaluation.records import LABEL_SCORED
from rlcomm.evaluation.runner import Clips
from rlcomm.omni.encode import EncodedPrompt, encode, reword, user_text
from rlcomm.omni.score import branch_scores

Record = dict[str, Any]  # what a part measured of one item or question: `Item.fields`, and its own


@dataclass(frozen=True)
class Item:
    """One question, asked with everything and asked without what may mislead.

    Attributes:
        key: "<task>/<sample id>/<distractor>", unique in a diagnosis.
        joint: the sample as its benchmark asks it.
        reference: the same question without the distractor; `video` or `audio` is None, or the text beside
            the question is gone. What is left is the evidence.
        distractor: what was left out: "text", "video" or "audio".
        labels: the candidates, two or more.
        gold: index of the right one.
        claimed: index of the label that the distractor claims, where it is the usual one and the benchmark
            says so.
        task: the benchmark's key, e.g. "mcr_aqa".
        condition: "adversarial", "faithful", "irrelevant" or "neutral"; "" where the benchmark has none.
        source: the clip; items of one clip are drawn and split together.
    """

    key: str
    joint: Sample
    reference: Sample
    distractor: str
    labels: tuple[str, ...]
    gold: int
    claimed: int | None
    task: str
    condition: str
    source: str

    def margin(self, scores: Sequence[float]) -> float:
        """How far the right label leads the one that the distractor claims, or the best other, in nats."""
        return margins.margin(scores, self.gold, self.claimed)

    def fields(self) -> dict[str, Any]:
        """What every record of a part begins with."""
        return {
            "key": self.key,
            "id": self.joint.id,
            "task": self.task,
            "condition": self.condition,
            "distractor": self.distractor,
            "source": self.source,
            "labels": list(self.labels),
            "gold": self.gold,
            "claimed": self.claimed,
            "answers": LABEL_SCORED,
        }


def items_of(task: str, samples: Iterable[Sample], distractor: str = "auto") -> list[Item]:
    """The items of one benchmark, in the order of its samples.

    Args:
        task: key of the benchmark.
        samples: its items; `meta["without_text"]` is a question without the text that may conflict.
        distractor: "text", "video" or "audio"; "auto": the text beside the question where an item has one,
            the sound where a picture is asked about in spite of it (AVHBench's audio-driven task), else the
            picture; "all": an item for each of the three that can be left out.

    Returns:
        Samples whose answer is not among their labels (open questions) or from which nothing can be left
        out (a question alone with its sound) give no item.
    """
    found = []
    for sample in samples:
        labels = common.candidates(sample)
        if sample.answer not in labels or len(labels) < 2:
            continue
        names = controls.PARTS if distractor == "all" else (distractor,)
        for name in (usual(sample) if name == "auto" else name for name in names):
            if (reference := controls.without(sample, name)) is None:
                continue
            claim = common.named(sample.meta.get("text_answer"), labels) if name == usual(sample) else None
            found.append(
                Item(
                    f"{task}/{sample.id}/{name}",
                    sample,
                    reference,
                    name,
                    labels,
                    labels.index(sample.answer),
                    None if claim is None else labels.index(claim),
                    task,
                    sample.meta.get("condition") or "",
                    controls.source(sample),
                )
            )
    return found


def usual(sample: Sample) -> str:
    """What may mislead about a sample, by the rule of `items_of`'s "auto"."""
    if sample.meta.get("without_text") is not None:
        return "text"
    return "audio" if sample.meta.get("task") == "audio_driven" else "video"


class Pairs:
    """The prompts of items: a clip is decoded once, and encoded once for each set of senses.

    The prompts of joint and reference share their media tensors (the same objects) where words alone are
    left out; `omni.score.branch_scores` then reads the media once for both.

    Args:
        policy: of `omni.policy.load_policy`.
        media: how clips are decoded.
        prompt_style: of `encode.user_text`; diagnoses score labels right behind the question: "direct".
        cache_dir: of decoded media.
        clips: so many of the clips used last are kept, with their prompts.
    """

    def __init__(
        self,
        policy: Any,
        media: MediaSettings | None = None,
        prompt_style: str = "direct",
        cache_dir: str | None = None,
        clips: int = 8,
    ):
        self.policy, self.prompt_style = policy, prompt_style
        self._clips = Clips(media or MediaSettings(), cache_dir, max(2, clips))
        self._prompts: dict[tuple, EncodedPrompt] = {}  # (clip, condition), whatever the words

    def __call__(self, item: Item) -> tuple[EncodedPrompt, EncodedPrompt]:
        """The joint and the reference prompt (tensors on the CPU).

        Raises:
            MediaError: the clip is missing or cannot be decoded; the message names the file.
        """
        joint = self.prompt(item.joint)
        if item.distractor == "text":
            reference = self.prompt(item.reference)
        else:
            reference = self.prompt(item.joint, f"no_{item.distractor}")
        assert joint is not None
        assert reference is not None
        return joint, reference

    def clip(self, sample: Sample) -> Clip:
        """The decoded clip of a sample."""
        clip = self._clips(sample)
        self._prompts = {key: one for key, one in self._prompts.items() if key[0] in self._clips.known}
        return clip

    def prompt(
        self, sample: Sample, condition: str = controls.FULL, donor: Sample | None = None
    ) -> EncodedPrompt | None:
        """The prompt of a sample whose clip is given under a condition of `data.controls`.

        Args:
            sample: what is asked, of which clip.
            condition: how its clip is given.
            donor: whose sound or picture stands in, for other_audio and other_video.

        Returns:
            None where the condition leaves the clip as it is. The questions about one clip share its media
            tensors under each condition, as long as the clip is kept.
        """
        words = user_text(sample.turns[0], self.prompt_style)
        key = ((sample.video, sample.audio), condition)
        clip = self.clip(sample)
        if key not in self._prompts:
            other = self.clip(donor) if donor is not None and condition in controls.OTHER.values() else None
            given = controls.changed(clip, condition, other)
            if given is None:
                return None
            self._prompts[key] = encode(self.policy, sample, given, self.prompt_style, text=words)
        return reword(self.policy, self._prompts[key], words)

    def forget(self) -> None:
        """Drops the prompts of all conditions but those an item's branches are asked under."""
        kept = (controls.FULL, *controls.BLIND)
        self._prompts = {key: prompt for key, prompt in self._prompts.items() if key[1] in kept}


def blocks(units: Sequence[Any], size: int) -> list[list[Any]]:
    """Units (`.source` names their clip) in blocks of whole clips, clips in the order of their first unit.

    Args:
        units: items or questions.
        size: a block is closed when it holds so many, or more where the last clip has more.
    """
    by_clip: dict[str, list[Any]] = {}
    for unit in units:
        by_clip.setdefault(unit.source, []).append(unit)
    found: list[list[Any]] = [[]]
    for several in by_clip.values():
        if len(found[-1]) >= size:
            found.append([])
        found[-1] += several
    return found if found[0] else []


def label_scores(
    policy: Any,
    prompts: Sequence[Sequence[EncodedPrompt]],
    labels: Sequence[Sequence[str]],
    batch_size: int,
) -> list[list[list[float]]]:
    """`omni.score.branch_scores`, so many at a time: mean log-probability of a label's tokens, in nats.

    Args:
        policy: of `omni.policy.load_policy`.
        prompts: per entry the prompts that are scored with the same labels.
        labels: per entry its labels.
        batch_size: entries a forward.

    Returns:
        Per entry, per prompt, one score per label, rounded: below that, one machine differs from another.
    """
    found = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        found += branch_scores(policy.model, policy.processor, prompts[part], labels[part])
    return [[rounded(row) for row in rows] for rows in found]
