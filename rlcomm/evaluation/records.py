"""The record: one question, what was answered and why that counts as right. What every evaluation writes.

    generated       the model wrote its answer freely, and it was read out of the words
    label_scored    the model was given the answer's labels, and the one with the best score is its answer

The same questions may be right 93 times of a hundred by one and 95 times by the other, so every record and
every metric of results.json says by its `answers` which of them it is.

The fields of a record, a JSON object a line of records.jsonl; what does not apply is null or not there:

    asked       benchmark, set (the key it was opened by), id, video_id, video, view ("joint" | "audio_only"),
                prompt_style, question, gold, type, task, condition, pair, groups, text_answer, truth
    labels      candidates, scores {branch or view: nats of each candidate}, margin | margins {branch: nats}
    answered    answers, answer, class (as the benchmark reads it), parsed, completion, hearing, seeing
    right       correct, why, a_acc, v_acc, format_ok, hearing_exact, seeing_exact
    decoders    {name: answers, answer, class, parsed, correct, why, confidence, ...}: where several answered
                one question, this stands in place of the fields of one answer; beside it split ("dev" |
                "test"), texts {decoder: its own words} and reasoning {branch: the words before its answer}
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from rlcomm import steps
from rlcomm.data.sample import read_text
from rlcomm.utils.errors import UserError

Answers = Literal["generated", "label_scored"]
GENERATED: Answers = "generated"
LABEL_SCORED: Answers = "label_scored"
Scores = dict[str, list[float] | None]

Answer = TypedDict(
    "Answer",
    {
        "answers": Answers,
        "answer": str | None,
        "class": str | None,
        "parsed": bool,
        "correct": bool | None,
        "why": str | None,
        "a_acc": float | None,
        "v_acc": float | None,
        "confidence": float | None,
        "applies": bool,
        "gate": bool | None,
        "reliability": float | None,
        "alpha": float | None,
    },
    total=False,
)
"""One answer, and why it counts as right."""


class Record(Answer, total=False):
    """One question, with one answer or those of several decoders; the fields are told above."""

    benchmark: str
    set: str
    id: str
    video_id: str
    video: str | None
    view: str
    media: str
    split: str
    prompt_style: str
    question: str
    gold: str
    type: str | None
    task: str | None
    condition: str | None
    pair: str | None
    groups: dict[str, str] | None
    metric: str
    text_answer: str | None
    truth: dict[str, Any] | None
    candidates: list[str]
    scores: Scores
    margin: float | None
    margins: dict[str, float | None]
    completion: str
    hearing: str
    seeing: str
    format_ok: bool | None
    hearing_exact: bool | None
    seeing_exact: bool | None
    texts: dict[str, str]
    reasoning: dict[str, str]
    decoders: dict[str, Answer]


class Raw(TypedDict, total=False):
    """What the model said of one question, before any decoder: what the journal of `scored` holds.

    `candidates` are the labels, or the hypotheses that the branches wrote (then `completions` are the words
    each stood in); `scores` are theirs, by branch, and `tokens` how many tokens each is the mean of (not
    there where they are sums); `reasoning` are the words before a branch's answer (of every branch that there
    is, all it wrote, where none gave a hypothesis); `texts` what a decoder wrote itself; `media` the
    condition of `data.controls`, where the clip was changed.
    """

    benchmark: str
    set: str
    id: str
    candidates: list[str]
    completions: list[str]
    scores: Scores
    tokens: dict[str, list[int]]
    reasoning: dict[str, str]
    texts: dict[str, str]
    media: str


@dataclass(frozen=True)
class Reading:
    """What was read out of one completion.

    Attributes:
        text: the completion.
        answer: the final answer; None: none was found.
        hearing: the hearing part: the a-think; the whole text under the direct prompt; "" if missing.
        seeing: the seeing part likewise.
    """

    text: str
    answer: str | None
    hearing: str
    seeing: str


def read(completion: str, prompt_style: str) -> Reading:
    """Reads one completion leniently: its answer and what it says it hears and sees (never raises)."""
    answer = steps.answer_of(completion, prompt_style)
    if prompt_style == "direct":
        return Reading(completion, answer, completion, completion)
    parts = steps.parse(completion)
    return Reading(
        completion,
        answer,
        parts.audio.text if parts.audio.found else "",
        parts.video.text if parts.video.found else "",
    )


def marked(found: Mapping[str, dict[str, Any]], answers: Answers) -> dict[str, dict[str, Any]]:
    """Metrics, each saying how the answers behind it were obtained; one that says so already keeps it."""
    return {name: {**metric, "answers": metric.get("answers", answers)} for name, metric in found.items()}


def read_records(path: str | os.PathLike) -> list[Any]:
    """Reads the records of an earlier evaluation (or any other JSON Lines).

    Raises:
        UserError: the file is missing or a row is not JSON.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # a U+2028 inside a text ends no row
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(
                f"{path}, row {number}: is not valid JSON ({error}); run the evaluation again."
            ) from error
    return rows
