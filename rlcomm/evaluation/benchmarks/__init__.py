"""One benchmark a file: read the official files, score one item, count over the records.

A benchmark file knows its own format and metrics and nothing else: paths come in as arguments, the truth
about a clip (what really sounds) is optional, and no file knows which model or which data set it will meet.
"""

from dataclasses import dataclass
from typing import Any

from rlcomm.data.sample import Sample

Record = dict[str, Any]  # one evaluated item and view, a JSON object; its fields: rlcomm.evaluation.runner


@dataclass(frozen=True)
class Benchmark:
    """The items of one benchmark file and how they are to be asked.

    Attributes:
        name: "avconfuse_muted", "avconfuse_control", "avconfuse_modified" or "music_avqa".
        samples: the items; `meta["video_id"]` names the clip.
        views: "joint" (picture and sound) and, where asked for, "audio_only" (the same sound, no picture).
        candidates: labels to be scored under both views for the margins; empty: no margins.
    """

    name: str
    samples: list[Sample]
    views: tuple[str, ...] = ("joint",)
    candidates: tuple[str, ...] = ()


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
