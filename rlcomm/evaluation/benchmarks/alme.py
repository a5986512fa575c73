"""ALME (Billa, arXiv 2602.11488): 57,602 spoken sentences, each with a transcript that contradicts them.

Eight languages; one fact of the transcript is changed (`flip_type`: number_swap, negation_add, ...) and asked
for. The text dominance ratio (TDR) is the share of conflicts decided for the text, among those decided for
text or audio.

    neutral       the audio alone                       official: audio_only
    faithful      audio and its right transcript        official: audio_text_aligned
    adversarial   audio and the changed transcript      official: audio_text_conflict
"""

import os
from collections.abc import Sequence
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation import influence, metrics
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record
from rlcomm.utils.errors import UserError

NAME = "alme"
CONDITIONS = ("neutral", "faithful", "adversarial")
# As in the official prompts, only the conflict is announced; the words are ours, the answer format our own.
PROMPTS = {
    "neutral": "{question}",
    "faithful": "Transcript of the audio: {text}\n{question}",
    "adversarial": (
        "Transcript of the audio, which may contain errors: {text}\n"
        "Where they differ, trust what you hear, not the transcript.\n{question}"
    ),
}


def read(
    path: str | os.PathLike, media_dir: str | os.PathLike, conditions: Sequence[str] = CONDITIONS
) -> list[Sample]:
    """Reads the official `stimuli.jsonl`.

    Args:
        path: JSON Lines of `{"stimulus_id", "audio_path": "en/clips/common_voice_en_1.mp3", "ref_text",
            "conflict_text", "language": "EN", "question": {"question_text", "choices": [2 texts],
            "correct_answer": text, "flip_type": "number_swap"}}`.
        media_dir: folder that `audio_path` starts at (the Common Voice corpus).
        conditions: of `CONDITIONS`; each gives one sample a row, all of one `meta["pair"]`.

    Returns:
        Samples in the order of the file; `meta["text_answer"]` of an adversarial item is the choice the text
        claims: the first that is not the right one, as in the official scoring.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message; or an unknown
            condition.
    """
    if unknown := [name for name in conditions if name not in CONDITIONS]:
        raise UserError(f"conditions: {unknown} are not of ALME; choose of {', '.join(CONDITIONS)}.")
    find = Finder(media_dir)

    def read_row(row: dict, wrong: Wrong) -> list[Sample]:
        identity, language = wrong.text(row, "stimulus_id"), wrong.text(row, "language")
        texts = {
            "neutral": "",
            "faithful": wrong.text(row, "ref_text"),
            "adversarial": wrong.text(row, "conflict_text"),
        }
        audio = find(wrong.text(row, "audio_path"), "audio_path", wrong)
        inner = row.get("question")
        if not isinstance(inner, dict):
            wrong("question", f"must be an object, this is {inner!r:.60}")
            return []
        asked = {f"question.{name}": value for name, value in inner.items()}
        question, flip = wrong.text(asked, "question.question_text"), wrong.text(asked, "question.flip_type")
        answer, options = common.choices(asked, "question.choices", "question.correct_answer", wrong)
        meta: dict[str, Any] = {
            "video_id": common.clip_name(audio),
            "pair": identity,
            "without_text": question,
            "groups": {"language": language, "flip_type": flip},
        }
        claimed = next((option for option in options if option != answer), None)
        return [
            Sample(
                f"{identity}-{condition}",
                (
                    Turn(
                        PROMPTS[condition].format(text=texts[condition], question=question),
                        answer,
                        options,
                        type=condition,
                    ),
                ),
                audio=audio,
                meta={**meta, "condition": condition}
                | ({"text_answer": claimed} if condition == "adversarial" else {}),
            )
            for condition in conditions
        ]

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """Metrics of ALME.

    acc_<condition>, unparsed      neutral, faithful, adversarial; no accuracy is taken across them
    acc_conflict_<value>           adversarial items of one language or flip type
    tdr, tdr_<value>               text / (text + audio) of the adversarial items (`influence.text_dominance`)
    """
    part = common.of(records, NAME)
    if not part:
        return {}
    found = {
        "unparsed": metrics.unparsed_rate([r["parsed"] for r in part], common.clips(part)),
    }
    for condition in CONDITIONS:
        if chosen := [r for r in part if r["condition"] == condition]:
            found[f"acc_{condition}"] = common.accuracy(chosen)
    conflict = [r for r in part if r["condition"] == "adversarial"]
    if conflict:
        found["tdr"] = _text_dominance(conflict)
    for value, group in common.by_group(conflict).items():
        found[f"acc_conflict_{value}"] = common.accuracy(group)
        found[f"tdr_{value}"] = _text_dominance(group)
    return found


def _text_dominance(records: Sequence[Record]) -> Metric:
    return influence.text_dominance([_side(r) for r in records], common.clips(records))


def _side(record: Record) -> str | None:
    """Whom an answer to a conflict follows: "audio", "text", or None for neither."""
    if record["correct"]:
        return "audio"
    return "text" if record["parsed"] and record["class"] == record["text_answer"] else None
