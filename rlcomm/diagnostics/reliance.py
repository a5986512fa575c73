"""How much of a score needs a sense at all: the same questions with, without and with parts of it.

    question -> full, no_audio, no_video, no_media, silent, strange (`data.controls`) -> scores of its labels
             -> fragments k of N of a sense, for the questions that are right in full and wrong without it

Asked are the questions that stand alone: those with a text beside them are what flips are about. A model is
asked by the scores of its labels, right behind the question. With no media at all the towers do not run: what
answers then is the language model alone.

Source: All That Glitters Is Not Audio (arXiv 2604.24401); formulas: `rlcomm.evaluation.reliance`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcomm.data import controls
from rlcomm.data.sample import Sample
from rlcomm.diagnostics.items import Pairs, Record, label_scores
from rlcomm.evaluation import metrics
from rlcomm.evaluation import reliance as formulas
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.margins import right
from rlcomm.evaluation.records import LABEL_SCORED
from rlcomm.reports.charts import drawn
from rlcomm.reports.diagnosis_charts import stacked
from rlcomm.reports.page import Block
from rlcomm.reports.tables import Column, by_name

WHOLE = (controls.FULL, *controls.NAMES)
KINDS = {
    "ts": ("TS: right without it", "c0"),
    "fs": ("FS: a fragment suffices", "c1"),
    "xs": ("XS: takes the whole", "c4"),
    "ah": ("AH: it harms", "c5"),
    "un": ("UN: unsolved", "c7"),
}
COLUMNS = (
    Column("acc_full", ("acc", "full"), "Full", "high"),
    Column("acc_no_audio", ("no", "audio"), "No audio", ""),
    Column("acc_silent_audio", ("silent", "audio"), "Silence", ""),
    Column("acc_other_audio", ("other", "audio"), "Another clip's audio", ""),
    Column("acc_no_video", ("no", "video"), "No video", ""),
    Column("acc_black_video", ("black", "video"), "Black video", ""),
    Column("acc_static_video", ("static", "video"), "Still frame", ""),
    Column("acc_other_video", ("other", "video"), "Another clip's video", ""),
    Column("acc_no_media", ("no", "media"), "Question alone", ""),
)
SHARES = (
    Column("r_tp", ("R_TP", ""), "R_TP (accuracy kept without it)", ""),
    Column("lost", ("lost", ""), "Lost without it (reliance)", ""),
    Column("ts", ("TS", ""), "TS", ""),
    Column("an", ("AN", ""), "AN", ""),
    Column("ah", ("AH", ""), "AH", "low"),
    Column("un", ("UN", ""), "UN", "low"),
    Column("whole_needed", ("XS/AN", ""), "XS / AN", ""),
    Column("fragment_suffices", ("FS*", ""), "FS / AN above chance", ""),
)


@dataclass(frozen=True)
class Question:
    """One question that stands alone, and whose sound and picture stand in for its own.

    Attributes:
        key: "<task>/<sample id>".
        sample: what is asked.
        donor: a sample about another clip; None: there is none.
        labels: the candidates, two or more.
        gold: index of the right one.
        task: the benchmark's key.
        condition: as in `items.Item`.
        source: the clip.
    """

    key: str
    sample: Sample
    donor: Sample | None
    labels: tuple[str, ...]
    gold: int
    task: str
    condition: str
    source: str

    def fields(self) -> dict[str, Any]:
        """What every record begins with."""
        return {
            "key": self.key,
            "id": self.sample.id,
            "task": self.task,
            "condition": self.condition,
            "source": self.source,
            "labels": list(self.labels),
            "gold": self.gold,
            "answers": LABEL_SCORED,
        }


def questions_of(task: str, samples: Sequence[Sample]) -> list[Question]:
    """The questions of one benchmark that have labels and no text beside them, in its order."""
    donors = controls.donors(samples)
    found = []
    for sample in samples:
        labels = common.candidates(sample)
        beside = sample.meta.get("without_text")
        if sample.answer not in labels or len(labels) < 2 or beside not in (None, sample.question):
            continue
        clip = controls.source(sample)
        found.append(
            Question(
                f"{task}/{sample.id}",
                sample,
                donors.get(clip),
                labels,
                labels.index(sample.answer),
                task,
                sample.meta.get("condition") or "",
                clip,
            )
        )
    return found


def measure(
    policy: Any, items: Sequence[Question], *, pairs: Pairs, batch_size: int = 16, seed: int = 0
) -> list[Record]:
    """Scores of every question's labels under every condition that changes something about its clip.

    Fragments of a sense are run for the questions that are right in full and wrong without it: the others'
    are not counted.

    Returns:
        Per question its fields and `scores`, condition -> scores of the labels in nats.
    """
    records = [{**item.fields(), "scores": {}} for item in items]
    clips: dict[tuple, dict[tuple[str, ...], list[int]]] = {}
    for i, item in enumerate(items):
        groups = clips.setdefault((item.sample.video, item.sample.audio), {})
        groups.setdefault(item.labels, []).append(i)
    for groups in clips.values():
        for group in groups.values():  # a clip's conditions are the rows of a forward, its questions one row
            _add(policy, items, records, pairs, batch_size, WHOLE, group)
            for sense in controls.SENSES:
                needed = [i for i in group if needs(records[i], sense)]
                _add(policy, items, records, pairs, batch_size, fragments(sense), needed)
        pairs.forget()
    return records


def _add(
    policy: Any,
    items: Sequence[Question],
    records: Sequence[Record],
    pairs: Pairs,
    batch_size: int,
    conditions: Sequence[str],
    rows: Sequence[int],
) -> None:
    """Scores of some questions about one clip, with the same labels, under some conditions."""
    asked = {
        condition: [pairs.prompt(items[i].sample, condition, items[i].donor) for i in rows]
        for condition in (conditions if rows else ())
    }
    asked = {condition: prompts for condition, prompts in asked.items() if prompts[0] is not None}
    if not asked:
        return
    labels = [list(items[rows[0]].labels)] * len(asked)
    scored = label_scores(policy, list(asked.values()), labels, batch_size)  # type: ignore[arg-type]
    for condition, values in zip(asked, scored, strict=True):
        for i, scores in zip(rows, values, strict=True):
            records[i]["scores"][condition] = scores


def fragments(sense: str) -> list[str]:
    """The 14 fragments of a sense, as conditions."""
    return [controls.fragment(sense, k, n) for k, n in formulas.FRAGMENT_RUNS]


def answered(record: Record, condition: str) -> bool | None:
    """Whether a question is answered right under a condition; None: it was not asked."""
    scores = record["scores"].get(condition)
    return None if scores is None else right(scores, record["gold"])


def needs(record: Record, sense: str) -> bool:
    """Right in full, wrong without the sense (AN)."""
    return bool(answered(record, controls.FULL)) and answered(record, f"no_{sense}") is False


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Accuracy under every condition, and per sense what is left without it and which parts of it suffice.

    Returns:
        `{"groups": {name: {metric: ...}}, "audio": {name: {...}}, "video": {name: {...}}}`, the names "all",
        every task, and `<task>/<condition>` where a task has several. In `groups`: acc_<condition> over the
        questions that have it (in "all" only where all have it), changed_<condition>, the share of answers
        that differ from the full one, and r_tp_text = Acc_no_media / Acc_full. Per sense, over the questions
        that have it: r_tp, lost = AN / (TS + AN), ts, fs, xs, an, ah, un (`evaluation.reliance.shares`),
        whole_needed = XS / AN and fragment_suffices (corrected for chance). Rates in [0, 1] but r_tp,
        r_tp_text >= 0 and fragment_suffices <= 1.
    """
    groups: dict[str, list[Record]] = {"all": list(records)}
    for record in records:
        groups.setdefault(record["task"], []).append(record)
    for record in records:
        conditions = {r["condition"] for r in groups[record["task"]]}
        if len(conditions) > 1:
            groups.setdefault(f"{record['task']}/{record['condition'] or 'none'}", []).append(record)
    found: dict[str, Any] = {"groups": {name: _accuracies(part) for name, part in groups.items()}}
    every = found["groups"]["all"]  # a condition that only some benchmarks have would be over other questions
    found["groups"]["all"] = {name: metric for name, metric in every.items() if metric["n"] == len(records)}
    for sense in controls.SENSES:
        parts = {
            name: [r for r in part if answered(r, f"no_{sense}") is not None] for name, part in groups.items()
        }
        found[sense] = {name: _sense(part, sense) for name, part in parts.items() if part}
    return found


def _accuracies(records: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for condition in WHOLE:
        part = [r for r in records if condition in r["scores"]]
        if part:
            clips = [r["source"] for r in part]
            found[f"acc_{condition}"] = metrics.accuracy([bool(answered(r, condition)) for r in part], clips)
            if condition != controls.FULL:
                found[f"changed_{condition}"] = metrics.mean(
                    [_answer(r, condition) != _answer(r, controls.FULL) for r in part], clips
                )
    part = [r for r in records if "no_media" in r["scores"]]
    if part:
        found["r_tp_text"] = formulas.text_prior(
            [bool(answered(r, "no_media")) for r in part],
            [bool(answered(r, controls.FULL)) for r in part],
            [r["source"] for r in part],
        )
    return found


def _answer(record: Record, condition: str) -> int:
    scores = record["scores"][condition]
    return max(range(len(scores)), key=scores.__getitem__)


def _sense(records: Sequence[Record], sense: str) -> dict[str, Any]:
    full = [bool(answered(r, controls.FULL)) for r in records]
    none = [bool(answered(r, f"no_{sense}")) for r in records]
    parts = [[bool(answered(r, run)) for run in fragments(sense) if run in r["scores"]] for r in records]
    clips = [r["source"] for r in records]
    chance = [1 / len(r["labels"]) for r in records]
    return {
        **formulas.of_sense(full, none, parts, clips),
        "fragment_suffices": formulas.fragment_suffices(full, none, parts, chance, clips),
    }


def scalars(found: Mapping[str, Any]) -> dict[str, float | None]:
    """What is logged during training: accuracy under every condition, R_TP, reliance and harm by sense."""
    logged = {
        f"reliance/{group}/{name}": metric["value"]
        for group, values in found["groups"].items()
        for name, metric in values.items()
        if name.startswith("acc_") or name == "r_tp_text"
    }
    for sense in controls.SENSES:
        for group, values in found[sense].items():
            logged |= {
                f"reliance/{group}/{name}_{sense}": values[name]["value"] for name in ("r_tp", "lost", "ah")
            }
    return logged


def section(found: Mapping[str, Any], records: Sequence[Record]) -> list[Block]:
    """The partition by sense as bars, then accuracy under every condition and the shares as tables."""
    asked = [sense for sense in controls.SENSES if found[sense]]
    shown = []
    for sense in asked:
        shares = {
            group: {name: values[name]["value"] for name in KINDS} for group, values in found[sense].items()
        }
        shown.append(stacked(f"What the {sense} is needed for", shares, KINDS))
    tables = [
        dataclasses.replace(by_name("group", found[sense], SHARES), title=sense.capitalize())
        for sense in asked
    ]
    return [drawn(shown), by_name("accuracy, %", found["groups"], COLUMNS), *tables]
