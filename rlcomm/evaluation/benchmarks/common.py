"""What several benchmark files share: reading whole files, labels, and counting by group.

A sample's labels (`candidates`) are its options, or `meta["candidates"]` where the file's own question does
not list them. Other fields of `meta` that the records carry:

    video_id      the clip (`clip_name`): its items share its luck (rlcomm.evaluation.metrics.bootstrap_ci95)
    groups        {axis: value}: accuracy is also given per value, as `acc_<value>`
    task          the task of a benchmark that has several
    condition     neutral, faithful, adversarial or irrelevant: what the text in the question says
    pair          items that differ in their condition (or their probe) alone share it
    text_answer   the answer that the text in the question claims, where it is not the gold answer
    without_text  the question without that text, for the same-audio branch
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Wrong, named_option, read_samples, without_letters
from rlcomm.data.sample import Sample, report
from rlcomm.evaluation import metrics
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record
from rlcomm.utils.errors import UserError

YES_NO = ("yes", "no")
CONDITIONS = ("neutral", "faithful", "adversarial", "irrelevant")


def read_whole(
    path: str | os.PathLike, read: Callable[[dict, Wrong], Sample | list[Sample] | None]
) -> list[Sample]:
    """`rlcomm.data.rows.read_samples`, all or nothing: a benchmark is scored whole or not at all.

    Raises:
        UserError: the wrong rows, all together, by row and field; or a file without rows.
    """
    return whole(path, *read_samples(path, read))


def whole(path: str | os.PathLike, samples: list[Sample], problems: list[str]) -> list[Sample]:
    """`samples`, if nothing is wrong with their file.

    Raises:
        UserError: there are problems, or no samples.
    """
    if problems:
        raise UserError(report(path, problems))
    if not samples:
        raise UserError(f"{path}: has no rows; give the benchmark's file.")
    return samples


def clip_name(media: str | os.PathLike | None) -> str:
    """The name of a clip: its media path without folder and suffix; "" for none.

    One rule for all benchmarks, so that a clip several of them ask about is one clip, to the intervals and to
    the dev split. (A modified clip of AV-ConfuseBench has the name of the clip it was made of.)
    """
    return Path(media or "").stem


def choices(row: dict, field: str, answer: str, wrong: Wrong) -> tuple[str, tuple[str, ...]]:
    """The gold option and the options of a multiple-choice row.

    An option that stands there twice (27 rows of MMAU) is shown once, an empty one (4 rows of MMAR) not at
    all: neither could be told apart by its letter or scored as a label. The gold answer is looked for as a
    text first: among the options "G", "C", "D", "A" the answer "A" is the last.

    Args:
        row: of the file.
        field: of the options: a list, or a list written as JSON.
        answer: field of the gold answer: the text or the letter of an option.
        wrong: of the row.

    Returns:
        (gold, options); gold is "" if something is wrong.
    """
    gold = wrong.text(row, answer)
    if row.get(field) is None:
        wrong(field, "is missing")
        return "", ()
    options = [option for option in dict.fromkeys(without_letters(wrong.listed(row, field))) if option]
    if len(options) < 2:
        wrong(field, f"must hold at least two different options, these are {options}")
    found = gold if gold in options else named_option(gold, options)
    if gold and options and found is None:
        wrong(answer, f"{gold!r} is none of the {len(options)} options, neither as a text nor as a letter")
    return found or "", tuple(options)


def gold_yes_no(row: dict, field: str, wrong: Wrong) -> str:
    """The gold answer of a yes/no row, "yes" or "no"; "" if something is wrong."""
    gold = wrong.text(row, field).lower()
    if gold and gold not in YES_NO:
        wrong(field, f'must be "yes" or "no", this is {row.get(field)!r}')
    return gold if gold in YES_NO else ""


def label_set(answers: Iterable[str]) -> tuple[str, ...]:
    """The different answers, in the order of their first spelling ("Yes" and "yes." are one)."""
    from rlcomm.rewards.accuracy import normalise

    found: dict[str, str] = {}
    for answer in answers:
        found.setdefault(normalise(answer), answer)
    return tuple(found.values())


def named(answer: str | None, labels: Sequence[str]) -> str | None:
    """The label that is this answer, whole (`rlcomm.rewards.accuracy.text_index`); None: none is."""
    from rlcomm.rewards.accuracy import text_index

    index = text_index(answer or "", labels)
    return None if index is None else labels[index]


def with_candidates(sample: Sample, labels: Sequence[str]) -> Sample:
    """The sample with `labels` as its candidates, its gold answer spelled as one of them."""
    gold = named(sample.answer, labels) or sample.answer
    return dataclasses.replace(
        sample,
        turns=(dataclasses.replace(sample.turns[0], answer=gold), *sample.turns[1:]),
        meta={**sample.meta, "candidates": list(labels)},
    )


def candidates(sample: Sample) -> tuple[str, ...]:
    """The labels to be scored for one item, each once, the gold answer among them; () for an open one."""
    return tuple(dict.fromkeys(sample.meta.get("candidates") or sample.options))


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item with one gold answer.

    Returns:
        class: the predicted label: "yes" or "no", an option, one of the candidates; for an answer that is
            none of an open label set the normalised answer itself; None: unparsed.
        parsed, correct: whether there is a class, and whether it is the gold answer (as rewarded).
        why: both in words.
        type, task, condition, pair, groups, candidates, text_answer: of the sample; None where it has none.
    """
    from rlcomm.rewards.accuracy import judge

    labels = candidates(sample)
    found, correct = judge(reading.answer, sample)
    return {
        "class": found,
        "parsed": found is not None,
        "correct": correct,
        "why": f"{found or 'unparsed'}, and the answer is {sample.answer}",
        "type": sample.turns[0].type or None,
        **{name: sample.meta.get(name) for name in ("task", "condition", "pair", "groups", "text_answer")},
        "candidates": list(labels),
    }


def of(records: Sequence[Record], name: str, view: str = "joint") -> list[Record]:
    """The records of one benchmark in one view."""
    return [r for r in records if r["benchmark"] == name and r["view"] == view]


def clips(records: Sequence[Record]) -> list[str]:
    """The clip of each record."""
    return [r["video_id"] for r in records]


def accuracy(records: Sequence[Record]) -> Metric:
    """Share of correct records, clips drawn whole for the interval."""
    return metrics.accuracy([r["correct"] for r in records], clips(records))


def accuracies(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, `acc_<condition>` and `acc_<value>` of every group; {} for no records."""
    if not records:
        return {}
    found = {
        "acc": accuracy(records),
        "unparsed": metrics.unparsed_rate([r["parsed"] for r in records], clips(records)),
    }
    for condition in CONDITIONS:
        if part := [r for r in records if r["condition"] == condition]:
            found[f"acc_{condition}"] = accuracy(part)
    for value, part in by_group(records).items():
        found[f"acc_{value}"] = accuracy(part)
    return found


def by_group(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of every group value, in the metric's spelling: "mix-sound-music" -> "mix_sound_music"."""
    found: dict[str, list[Record]] = {}
    for record in records:
        for value in filter(slug, (record["groups"] or {}).values()):
            found.setdefault(slug(value), []).append(record)
    return dict(sorted(found.items()))


def slug(value: str) -> str:
    """A metric's name for a value: lower case, everything but letters and digits to "_"."""
    return re.sub(r"[\W_]+", "_", value.lower()).strip("_")


def perception(records: Sequence[Record], ending: str = "") -> dict[str, Metric]:
    """`pa<ending>` and `hr<ending>` of yes/no records, as far as there are records of that gold answer.

    `metrics.perception_accuracy` and `metrics.hallucination_resistance`.
    """
    judged = [r["gold"] for r in records], [r["class"] for r in records], clips(records)
    found = {
        f"pa{ending}": metrics.perception_accuracy(*judged),
        f"hr{ending}": metrics.hallucination_resistance(*judged),
    }
    return {name: metric for name, metric in found.items() if metric["n"]}
