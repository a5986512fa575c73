"""MCR-BENCH (Wang et al., arXiv 2508.15407): does a model believe its ears or the text beside them?

One file a task, about 1,000 rows each: AQA (audio questions, of ClothoAQA), SER (emotions, of MELD) and VSC
(vocal sounds, of VocalSound). Every row is asked four times about the same audio:

    neutral       the question alone
    faithful      with a description that is right
    adversarial   with one that contradicts the audio
    irrelevant    with one about something else
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record
from rlcomm.utils.errors import UserError

NAMES = {"AQA": "mcr_aqa", "SER": "mcr_ser", "VSC": "mcr_vsc"}
VOCAL_SOUNDS = ("Laughter", "Sigh", "Cough", "Throat clearing", "Sneeze", "Sniff")
PROMPT = "Description of the audio: {description}\n{question}"  # ours: the release gives no template


def read(
    path: str | os.PathLike, media_dir: str | os.PathLike | None = None, task: str | None = None
) -> list[Sample]:
    """Reads the official file of one task.

    Args:
        path: JSON list of `{"audio", "gt", "faithful", "adversarial", "irrelevant", "neutral"}`; `neutral` is
            the question without a description. A description that already holds the question is taken as
            the whole prompt, otherwise `PROMPT` joins the two. Two fields that the release does not have are
            read too: `options` (the labels of this row) and `adversarial_answer` (the label that the
            adversarial text claims).
        media_dir: folder that `audio` starts at, and the folder <task> in it; the folders of the file itself
            are tried after them.
        task: "AQA", "SER" or "VSC"; None: the name of the file.

    Returns:
        Four samples a row, of one `meta["pair"]`. Their `meta["candidates"]` are the row's options; else the
        six vocal sounds where every gold answer of a VSC file is one; else the different gold answers of the
        file. `meta["text_answer"]` of an adversarial item is `adversarial_answer`; without it, in SER and
        VSC, the one other label that the description names as a whole word, else None.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message; or an unknown task.
    """
    task = (task or Path(path).stem).upper()
    if task not in NAMES:
        raise UserError(
            f"{path}: {task!r} is no task of MCR-BENCH; name the file AQA.json, SER.json or VSC.json, or "
            "give its task."
        )
    beside = Path(path).parent
    folders = [beside, beside.parent]
    if media_dir is not None:
        inside = Path(media_dir) / task
        folders = [*([inside] if inside.is_dir() else []), Path(media_dir), *folders]
    find = Finder(*dict.fromkeys(folders))

    def read_row(row: dict, wrong: Wrong) -> list[Sample]:
        gold, question = wrong.text(row, "gt"), wrong.text(row, "neutral")
        texts = {name: wrong.text(row, name) for name in common.CONDITIONS[1:]}
        audio = find(wrong.text(row, "audio"), "audio", wrong)
        given = wrong.listed(row, "options") if row.get("options") is not None else []
        labels = list(common.label_set(str(option) for option in given))
        if labels and not common.named(gold, labels):
            wrong("gt", f"{gold!r} is none of the options {labels}")
        pair = f"{task.lower()}-{wrong.row}"
        meta: dict[str, Any] = {
            "video_id": common.clip_name(audio),
            "task": task,
            "pair": pair,
            "without_text": question,
            "candidates": labels,
        }
        asked = {"neutral": question} | {name: _prompt(text, question) for name, text in texts.items()}
        claimed = {"adversarial_answer": row.get("adversarial_answer"), "adversarial": texts["adversarial"]}
        return [
            Sample(
                f"{pair}-{condition}",
                (Turn(prompt, gold, type=condition),),
                audio=audio,
                meta={**meta, "condition": condition}
                | ({"claimed": claimed} if condition == "adversarial" else {}),
            )
            for condition, prompt in asked.items()
        ]

    samples = common.read_whole(path, read_row)
    labels = common.label_set(sample.answer for sample in samples)
    if task == "VSC" and all(common.named(label, VOCAL_SOUNDS) for label in labels):
        labels = VOCAL_SOUNDS
    return [_finished(sample, labels) for sample in samples]


def training_rows(
    path: str | os.PathLike, media_dir: str | os.PathLike | None = None, limit: int | None = None
) -> list[Sample]:
    """The items of a file that have a text beside the question: rows of SFT, answered by the sound.

    Args:
        path, media_dir: as in `read`.
        limit: the first so many items, the three texts of a row together; None: all.

    Raises:
        UserError: as in `read`, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(
            f"limit: {limit} rows would leave nothing to import; give a number above 0 or leave it out."
        )
    return [sample for sample in read(path, media_dir) if sample.meta["condition"] != "neutral"][:limit]


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record], task: str) -> dict[str, Metric]:
    """`acc`, `unparsed` and `acc_<condition>` of one task: "AQA", "SER" or "VSC"."""
    return common.accuracies(common.of(records, NAMES[task]))


def _prompt(description: str, question: str) -> str:
    def plain(text: str) -> str:
        return " ".join(text.casefold().split())

    if plain(question) in plain(description):
        return description
    return PROMPT.format(description=description, question=question)


def _finished(sample: Sample, labels: Sequence[str]) -> Sample:
    """The sample with its candidates and, if it is adversarial, the label its text claims."""
    claimed = sample.meta.pop("claimed", None)
    sample = common.with_candidates(sample, sample.meta["candidates"] or labels)
    if claimed is not None:
        candidates = common.candidates(sample)
        claim = common.named(str(claimed["adversarial_answer"] or ""), candidates)
        if claim is None and sample.meta["task"] != "AQA":
            claim = _only_other(claimed["adversarial"], sample.answer, candidates)
        sample.meta["text_answer"] = claim
    return sample


def _only_other(text: str, gold: str, labels: Sequence[str]) -> str | None:
    """The one label other than `gold` that `text` names as a whole word; None for none or several."""
    named = [
        label
        for label in labels
        if label != gold and re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None
