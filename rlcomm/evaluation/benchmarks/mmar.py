"""MMAR (Ma et al., NeurIPS 2025, arXiv 2505.13032): deep reasoning about speech, sound, music and their mix.

Official file: `MMAR-meta.jsonl`, 1,000 rows. Its hints (`thinking`, `cue`, `rubric`) never reach a prompt.
"""

import os
from collections.abc import Sequence
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "mmar"


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads an official file.

    Args:
        path: JSON Lines (or a JSON list) of `{"id", "audio_path": "./audio/<id>.wav", "question", "choices":
            [texts], "answer": text, "modality": "mix-sound-speech", "category": "Semantic Layer",
            "sub-category", ...}`; `choices` may also be a list written as JSON.
        media_dir: folder that `audio_path` starts at.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message.
    """
    find = Finder(media_dir)

    def read_row(row: dict, wrong: Wrong) -> Sample:
        question, modality = wrong.text(row, "question"), wrong.text(row, "modality")
        category = wrong.text(row, "category")
        answer, options = common.choices(row, "choices", "answer", wrong)
        audio = find(wrong.text(row, "audio_path"), "audio_path", wrong)
        return Sample(
            wrong.text(row, "id"),
            (Turn(question, answer, options, type=modality),),
            audio=audio,
            meta={
                "video_id": common.clip_name(audio),
                "groups": {"modality": modality, "category": category},
                "sub_category": row.get("sub-category"),
            },
        )

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, `acc_sound`, `acc_mix_sound_speech`, ... and `acc_signal_layer`, ..."""
    return common.accuracies(common.of(records, NAME))
