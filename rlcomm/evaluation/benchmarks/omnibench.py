"""OmniBench (Li et al., arXiv 2409.15272): multiple choice that needs a picture and a sound together.

Official file: `dataset/batch-5_1142_20240817.jsonl`, 1,142 rows. The written descriptions of both media
(`audio content`, `image content`) never reach a prompt.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "omnibench"


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads an official file.

    Args:
        path: JSON Lines of `{"index", "task type", "audio type", "question", "options": [4 texts], "answer":
            text, "audio_path": "1_24.mp3", "image_path": "1_024.png", ...}`.
        media_dir: the official `mm_data`, with the folders audio and image; or one folder of all files.

    Returns:
        Samples whose `video` is the image and whose `audio` is the sound, which names the clip.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message.
    """
    find = Finder(
        *[p for p in (Path(media_dir) / "audio", Path(media_dir) / "image") if p.is_dir()], media_dir
    )

    def read_row(row: dict, wrong: Wrong) -> Sample:
        question, task = wrong.text(row, "question"), wrong.text(row, "task type")
        sound = wrong.text(row, "audio type").lower()
        answer, options = common.choices(row, "options", "answer", wrong)
        audio = find(wrong.text(row, "audio_path"), "audio_path", wrong)
        image = find(wrong.text(row, "image_path"), "image_path", wrong)
        return Sample(
            wrong.text(row, "index"),
            (Turn(question, answer, options, type=task),),
            image,
            audio,
            meta={"video_id": common.clip_name(audio), "groups": {"audio": sound, "task": task}},
        )

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, `acc_speech`, `acc_sound_event`, `acc_music`, and `acc_<task type>`."""
    return common.accuracies(common.of(records, NAME))
