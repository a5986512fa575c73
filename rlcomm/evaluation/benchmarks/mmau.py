"""MMAU (Sakshi et al., ICLR 2025, arXiv 2410.19168): multiple choice about sound, speech and music.

Official file: `mmau-test-mini.json`, 1,000 rows; the 9,000 rows of the test split have no answers and cannot
be scored here. The official script looks for the words of the answer anywhere in the output; here the answer
must name the option (rlcomm.rewards.accuracy.matches).
"""

import os
from collections.abc import Sequence
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "mmau"


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads an official file.

    Args:
        path: JSON list of `{"id", "audio_id": "./test-mini-audios/<id>.wav", "question", "choices": [texts],
            "answer": text, "task": "sound", "category", "sub-category", "difficulty": "easy", ...}`;
            `choices` may also be a list written as JSON.
        media_dir: folder that `audio_id` starts at.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message.
    """
    find = Finder(media_dir)

    def read_row(row: dict, wrong: Wrong) -> Sample:
        question, task = wrong.text(row, "question"), wrong.text(row, "task")
        difficulty = wrong.text(row, "difficulty")
        answer, options = common.choices(row, "choices", "answer", wrong)
        audio = find(wrong.text(row, "audio_id"), "audio_id", wrong)
        return Sample(
            wrong.text(row, "id"),
            (Turn(question, answer, options, type=task),),
            audio=audio,
            meta={
                "video_id": common.clip_name(audio),
                "groups": {"task": task, "difficulty": difficulty},
                "sub_category": row.get("sub-category"),
            },
        )

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, `acc_sound`, `acc_speech`, `acc_music`, and `acc_easy`, `acc_medium`, `acc_hard`."""
    return common.accuracies(common.of(records, NAME))
