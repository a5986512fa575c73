"""AVHBench (Sung-Bin et al., ICLR 2025, arXiv 2410.18325): is one sense imagined from the other?

Three judgement tasks with the answers Yes and No, and captions, which are kept and not scored:

    Audio-driven Video Hallucination   1,136 rows   "Is the car visible in the video?"
    Video-driven Audio Hallucination   2,290 rows   "Is the car making sound in the audio?"
    AV Matching                        1,876 rows   "Are the contexts of audio and visual content matching?"
    AV Captioning                      1,106 rows

The official QA.json asks seven questions twice, two of them with both answers; they stay, so that the numbers
of rows are those of the papers.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "avhbench"
TASKS = {
    "Audio-driven Video Hallucination": "audio_driven",
    "Video-driven Audio Hallucination": "video_driven",
    "AV Matching": "matching",
    "AV Captioning": "captioning",
}
JUDGED = ("audio_driven", "video_driven", "matching")


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads the official QA.json.

    Args:
        path: JSON list of `{"video_id": "00191", "task", "text", "label": "Yes"}`.
        media_dir: folder of `<video_id>.mp4`.

    Returns:
        Samples of all four tasks, `meta["task"]` one of `TASKS.values()`; the gold answer of a judgement is
        "yes" or "no", that of a caption the caption.

    Raises:
        UserError: every wrong row and missing clip, by row and field, in one message.
    """
    find = Finder(media_dir)

    def read_row(row: dict, wrong: Wrong) -> Sample:
        name, video_id, text = wrong.text(row, "task"), wrong.text(row, "video_id"), wrong.text(row, "text")
        task = TASKS.get(name, "")
        if name and not task:
            wrong("task", f"{name!r} is none of {', '.join(TASKS)}")
        judged = task in JUDGED
        answer = common.gold_yes_no(row, "label", wrong) if judged else wrong.text(row, "label")
        clip = find(video_id, "video_id", wrong)
        meta: dict[str, Any] = {"video_id": common.clip_name(clip), "task": task}
        if judged:
            meta["candidates"] = list(common.YES_NO)
        return Sample(
            f"{Path(path).stem}-{wrong.row}", (Turn(text, answer, type=task),), clip, clip, meta=meta
        )

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`); a caption has no `class` and no `correct`."""
    fields = common.score(sample, reading)
    if sample.meta["task"] not in JUDGED:
        fields |= {"class": None, "parsed": reading.answer is not None, "correct": None, "why": None}
    return fields


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """Metrics of the judgement tasks.

    acc_<task>, yes_rate_<task>, unparsed_<task>    audio_driven, video_driven, matching
    precision_<task>, recall_<task>, f1_<task>      of the answer yes (`metrics.precision`, ...)
    acc_mean_2, acc_mean_3      unweighted mean of the tasks' accuracies: the two hallucination tasks, all
                                three; left out where one of the tasks has no record
    acc, precision, recall, f1, yes_rate, unparsed  over all judgement rows
    """
    part = [r for r in common.of(records, NAME) if r["task"] in JUDGED]
    if not part:
        return {}
    found = {**_counted(part, "")}
    for task in JUDGED:
        if chosen := [r for r in part if r["task"] == task]:
            found.update(_counted(chosen, f"_{task}"))
    for tasks in (JUDGED[:2], JUDGED):
        if all(f"acc_{task}" in found for task in tasks):
            several = [[r for r in part if r["task"] == task] for task in tasks]
            found[f"acc_mean_{len(tasks)}"] = metrics.macro_mean(
                [[bool(r["correct"]) for r in rows] for rows in several],
                [common.clips(rows) for rows in several],
            )
    return found


def _counted(records: Sequence[Record], ending: str) -> dict[str, Metric]:
    golds, classes = [r["gold"] for r in records], [r["class"] for r in records]
    clips = common.clips(records)
    return {
        f"acc{ending}": common.accuracy(records),
        f"precision{ending}": metrics.precision(golds, classes, clips),
        f"recall{ending}": metrics.recall(golds, classes, clips),
        f"f1{ending}": metrics.f1(golds, classes, clips),
        f"yes_rate{ending}": metrics.yes_rate(classes, clips),
        f"unparsed{ending}": metrics.unparsed_rate([r["parsed"] for r in records], clips),
    }
