"""Where a judge model scores the modified set: its judgements put in place of the keyword judge's."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, cast

from rlcomm.data.sample import Sample
from rlcomm.evaluation import judge_model
from rlcomm.evaluation.benchmarks import avconfuse
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.judge import Judgement, halves
from rlcomm.evaluation.records import Raw, Reading, Record, read


def name(judge: dict[str, Any] | None) -> str:
    """Who scores the modified set, for the results: the keyword judge, or a model and the prompt it gets."""
    return f"{judge['model']}, prompt {judge_model.PROMPT_VERSION}" if judge else "keywords"


def judge_records(
    records: Sequence[Record], model: str, cache: str | os.PathLike, **options: Any
) -> list[Record]:
    """Records of `generated.collect`, those of the modified set scored by a judge model.

    Args:
        records: as they are.
        model: the judge's name at its endpoint.
        cache: JSON Lines of judgements, resumed.
        **options: of `judge_model.judge_all`.

    Raises:
        UserError: as `judge_model.judge_all`.
    """
    part = [r for r in records if r["benchmark"] == avconfuse.MODIFIED and r["view"] == "joint"]
    asked = []
    for r in part:
        heard, seen = _parts(
            Reading(r["completion"], r["answer"], r["hearing"], r["seeing"]), r["prompt_style"]
        )
        asked.append(judge_model.Item(r["id"], r["question"], r["gold"], heard, seen))
    found = dict(
        zip([r["id"] for r in part], judge_model.judge_all(asked, model, cache, **options), strict=True)
    )
    return [
        cast(Record, {**r, **_fields(found[r["id"]])})
        if r["benchmark"] == avconfuse.MODIFIED and r["id"] in found
        else r
        for r in records
    ]


def judge_set(
    one: Set, raw: Sequence[Raw], prompt_style: str, model: str, cache: str | os.PathLike, **options: Any
) -> Set:
    """The modified set with its scorer asking a judge model, everything any decoder may answer judged first.

    Args:
        one: the opened set of `avconfuse_modified`.
        raw: of `scored.collect`.
        prompt_style: of the answers.
        model, cache, **options: as in `judge_records`.
    """
    samples = {sample.id: sample for sample in one.samples}
    asked: dict[tuple[str, str], judge_model.Item] = {}
    for record in raw:
        if record["set"] != one.key:
            continue
        for text in (*record["texts"].values(), *record["completions"]):
            reading = read(text, prompt_style)
            asked.setdefault(
                (record["id"], reading.text), _item(samples[record["id"]], reading, prompt_style)
            )
    judged = judge_model.judge_all(list(asked.values()), model, cache, **options)
    known = dict(zip(asked, judged, strict=True))

    def score(sample: Sample, reading: Reading) -> dict[str, Any]:
        fields = one.score(sample, reading)
        judgement = known.get((sample.id, reading.text))
        return fields if judgement is None else {**fields, **_fields(judgement)}

    return dataclasses.replace(one, score=score)


def _item(sample: Sample, reading: Reading, prompt_style: str) -> judge_model.Item:
    heard, seen = _parts(reading, prompt_style)
    return judge_model.Item(sample.id, sample.question, sample.answer, heard, seen)


def _parts(reading: Reading, prompt_style: str) -> tuple[str, str]:
    """What is said to be heard, and to be seen."""
    if prompt_style == "direct" or reading.hearing == reading.text:
        return halves(reading.text)
    return reading.hearing, reading.seeing


def _fields(judgement: Judgement) -> dict[str, Any]:
    return {"a_acc": judgement.a_acc, "v_acc": judgement.v_acc, "why": judgement.why}
