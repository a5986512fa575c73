"""MUSIC-AVQA (Li et al., CVPR 2022): accuracy overall and per question type.

Types are a modality and a kind: {Audio, Visual, Audio-Visual} x {Existential, Location, Counting,
Comparative, Temporal}; the official files write them as '["Audio-Visual", "Existential"]'.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import Any

from rlcomm.data.sample import Sample
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks.common import accuracy, clip_name, clips, of, whole
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "music_avqa"
_KINDS = {"exis": "exist", "loca": "localis", "coun": "count", "comp": "comp", "temp": "temp"}
_SOURCES = {"audio": "audio", "visual": "visual", "audiovisual": "audio_visual"}


def read(path: str | os.PathLike, video_dir: str | os.PathLike) -> list[Sample]:
    """Reads an official file through `rlcomm.data.sources.read_music_avqa`.

    Raises:
        UserError: the rows that could not be read, all together: a benchmark is scored whole or not at all.
    """
    from rlcomm.data.sources import read_music_avqa

    samples = whole(path, *read_music_avqa(path, video_dir))
    for sample in samples:
        sample.meta["video_id"] = clip_name(sample.video)
    return samples


def type_key(value: Any) -> str | None:
    """The metric's name for a question type: '["Audio-Visual", "Counting"]' -> "audio_visual_count".

    Also read: a list, and "Audio-Visual/Counting". None where the type is unknown.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        value = json.loads(value)
    parts = value if isinstance(value, list) else re.split(r"[/,]", str(value or ""))
    if len(parts) != 2:
        return None
    source = _SOURCES.get(re.sub(r"[^a-z]", "", parts[0].lower()))
    kind = _KINDS.get(parts[1].strip().lower()[:4])
    return f"{source}_{kind}" if source and kind else None


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item: `type`, `parsed` (it says something), `correct` (as rewarded)."""
    from rlcomm.rewards.accuracy import judge

    said, correct = judge(reading.answer, sample)
    return {
        "parsed": said is not None,
        "type": type_key(sample.turns[0].type or sample.meta.get("question_type")),
        "correct": correct,
    }


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """Metrics of `music_avqa`: `acc`, `unparsed`, and `acc_<source>_<kind>` per type.

    Grouped as the papers do: RL-CoMM's five columns (Exist, Localis, Count, Comp, Temp) are `acc_exist` ...
    over all sources, MUSIC-AVQA's three (Audio, Visual, Audio-Visual) `acc_audio`, `acc_visual` and
    `acc_audio_visual` over all kinds.
    """
    part = of(records, NAME)
    if not part:
        return {}
    result = {
        "acc": accuracy(part),
        "unparsed": metrics.unparsed_rate([r["parsed"] for r in part], clips(part)),
    }
    for kind in _KINDS.values():
        chosen = [r for r in part if (r["type"] or "").endswith(f"_{kind}")]
        if chosen:
            result[f"acc_{kind}"] = accuracy(chosen)
    for source in _SOURCES.values():
        chosen = [r for r in part if (r["type"] or "").rpartition("_")[0] == source]
        if chosen:
            result[f"acc_{source}"] = accuracy(chosen)
        for kind in _KINDS.values():
            chosen = [r for r in part if r["type"] == f"{source}_{kind}"]
            if chosen:
                result[f"acc_{source}_{kind}"] = accuracy(chosen)
    return result
