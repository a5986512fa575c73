"""Controls of what a model is given: a clip without a sense, with a dead or a strange one, or a part of one.

    full                        the clip as it is
    no_audio  no_video  no_media    left out: no placeholder of it stands in the prompt
    silent_audio                zeros of the same length
    black_video  static_video   black frames; the first frame throughout
    other_audio  other_video    those of another clip, cut or looped to the same length
    audio_1of3  video_2of2      fragment k of N (k from 1, N from 2) alone, the other sense whole

A sense that is there is changed and nothing else is: what the other tower reads stays the same, byte for
byte.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample
from rlcomm.utils.errors import UserError

FULL = "full"
SENSES = ("audio", "video")
PARTS = ("text", "video", "audio")  # of a question: what may mislead, and can be left out
BLIND = ("no_audio", "no_video", "no_media")
DEAD = {"audio": ("silent_audio",), "video": ("black_video", "static_video")}
OTHER = {"audio": "other_audio", "video": "other_video"}
NAMES = (*BLIND, *DEAD["audio"], *DEAD["video"], *OTHER.values())
_FRAGMENT = re.compile(r"(audio|video)_(\d+)of(\d+)$")
_LEAST_SAMPLES = 1600  # of a fragment: a tenth of a second, below which the audio tower has nothing to pool


def fragment(sense: str, k: int, n: int) -> str:
    """The name of fragment `k` (from 0) of `n`."""
    return f"{sense}_{k + 1}of{n}"


def check(names: Iterable[str], field: str = "conditions") -> None:
    """Raises where a name is no condition.

    Raises:
        UserError: an unknown name, or a fragment that is not there, such as audio_4of3.
    """
    for name in names:
        parts = _FRAGMENT.match(name)
        inside = parts is not None and 1 <= int(parts[2]) <= int(parts[3]) and int(parts[3]) >= 2
        if name != FULL and name not in NAMES and not inside:
            raise UserError(
                f"{field} has {name!r}, which is no condition; use {', '.join(NAMES)}, or a fragment such as "
                "audio_1of2 (the first half) or video_3of5."
            )


def changed(clip: Clip, condition: str, other: Clip | None = None) -> Clip | None:
    """The clip under a condition.

    Args:
        clip: as decoded.
        condition: of the names above.
        other: another clip, for `other_audio` and `other_video`.

    Returns:
        A new clip that shares what is not changed; None where the condition has nothing to change: the sense
        is not there, the other clip lacks it, or a single picture has no fragments.

    Raises:
        UserError: an unknown condition.
    """
    check([condition])
    if condition == FULL:
        return clip
    if condition == "no_media":
        bare = clip.audio is None and clip.frames is None
        return None if bare else dataclasses.replace(clip, audio=None, frames=None)
    sense = "audio" if "audio" in condition else "video"
    own = clip.audio if sense == "audio" else clip.frames
    if own is None:
        return None
    new: np.ndarray | None
    if condition.startswith("no_"):
        new = None
    elif condition in ("silent_audio", "black_video"):
        new = np.zeros_like(own)
    elif condition == "static_video":
        new = np.repeat(own[:1], len(own), axis=0)
        if len(own) == 1:
            return None
    elif condition in OTHER.values():
        given = None if other is None else other.audio if sense == "audio" else other.frames
        if given is None or len(given) == 0:
            return None
        times = -(-len(own) // len(given))
        new = np.concatenate([given] * times)[: len(own)]
    else:
        found = _FRAGMENT.match(condition)
        assert found is not None
        k, n = int(found[2]) - 1, int(found[3])
        if sense == "video" and len(own) == 1:
            return None
        new = _samples(own, k, n) if sense == "audio" else _frames(own, k, n)
    if sense == "audio":
        return dataclasses.replace(clip, audio=new)
    return dataclasses.replace(clip, frames=new)


def _samples(audio: np.ndarray, k: int, n: int) -> np.ndarray:
    """Samples [k N/n, (k+1) N/n), at least a tenth of a second of them where there is as much."""
    start, stop = k * len(audio) // n, (k + 1) * len(audio) // n
    start = max(0, min(start, len(audio) - _LEAST_SAMPLES))
    return audio[start : max(stop, start + _LEAST_SAMPLES)].copy()


def _frames(frames: np.ndarray, k: int, n: int) -> np.ndarray:
    """The frames of [k F/n, (k+1) F/n), the last one doubled where their number is odd (they go in pairs)."""
    start = k * len(frames) // n
    part = frames[start : max(start + 1, -(-(k + 1) * len(frames) // n))]
    return np.concatenate([part, part[-1:]]) if len(part) % 2 else part.copy()


def without(sample: Sample, part: str) -> Sample | None:
    """The sample without its "text" (`meta["without_text"]` is its question then), "video" or "audio".

    Returns:
        None where that is not there, or nothing is left to answer from: no other sense.
    """
    if part == "text":
        question = sample.meta.get("without_text")
        if question is None or question == sample.question:
            return None
        turns = (dataclasses.replace(sample.turns[0], question=question), *sample.turns[1:])
        return dataclasses.replace(sample, turns=turns)
    other = {"video": sample.audio, "audio": sample.video}[part]
    if getattr(sample, part) is None or other is None:
        return None
    return sample.without(part)


def donors(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Whose sound and picture stand in for a sample's: by its clip, a sample of the next clip of the list.

    Args:
        samples: of one benchmark; `meta["video_id"]` names their clip, else their media file does.

    Returns:
        clip (`source`) -> a sample about another one; {} where all are about one clip.
    """
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(source(sample), sample)
    if len(first) < 2:
        return {}
    names = list(first)
    return {name: first[names[(i + 1) % len(names)]] for i, name in enumerate(names)}


def source(sample: Sample) -> str:
    """The clip of a sample: its `meta["video_id"]`, else its pair, else itself."""
    return str(sample.meta.get("video_id") or sample.meta.get("pair") or sample.id)
