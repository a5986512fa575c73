"""AVQA (Yang et al., ACM MM 2022): four-way questions about clips of real life.

Official file: `val_qa.json`, read by `rlcomm.data.sources.read_avqa`; `question_relation` says which sense
answers (View, Sound, Both), `question_type` what is asked (Which, Come From, Happening, Where, ...).
"""

import os
from collections.abc import Sequence
from typing import Any

from rlcomm.data.sample import Sample
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "avqa"


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads an official file; `meta["groups"]` holds its relation and type.

    Args:
        path: JSON list of `{"id", "video_name", "video_id", "question_text", "multi_choice": [4 texts],
            "answer": int, "question_relation": "Both", "question_type": "Which"}`.
        media_dir: folder of `<video_name>.mp4`.

    Raises:
        UserError: every wrong row and missing clip, by row and field, in one message.
    """
    from rlcomm.data.sources import read_avqa

    samples = common.whole(path, *read_avqa(path, media_dir))
    for sample in samples:
        parts = sample.turns[0].type.split("/")
        sample.meta["video_id"] = common.clip_name(sample.video)
        sample.meta["groups"] = dict(zip(("relation", "type"), parts, strict=False))
    return samples


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, and `acc_both`, `acc_sound`, `acc_which`, ... per relation and per type."""
    return common.accuracies(common.of(records, NAME))
