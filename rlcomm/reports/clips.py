"""Clips of a report that one can watch and hear: which tell the story, and their files inside the page."""

import base64
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.evaluation.records import Record
from rlcomm.utils.errors import UserError

SAID = ("prompt_style", "completion", "answer", "hearing", "seeing", "correct", "a_acc", "v_acc")


def pick_clips(records: Mapping[str, Sequence[Record]], count: int = 5) -> list[dict[str, Any]]:
    """Chooses clips that tell the story, what is not solved included.

    In this order, each taken once and each of another clip where that is possible: a muted one that the last
    stage repaired, one that it still gets wrong, a replaced sound, a sounding control, another repaired one;
    then whatever muted items are left, in file order.

    Args:
        records: records of each stage, first stage first; joint view is used.
        count: how many.

    Returns:
        `{"video", "kind", "question", "gold", "visible", "sounding", "said": {stage: ...}}`.
    """
    joint = {
        stage: {(r["benchmark"], r["id"]): r for r in rows if r["view"] == "joint"}
        for stage, rows in records.items()
    }
    if not joint:
        return []
    stages = list(joint)
    first, last = joint[stages[0]], joint[stages[-1]]

    def keys(benchmark: str, before: bool | None = None, after: bool | None = None) -> list[tuple[str, str]]:
        return [
            key for key, r in last.items()
            if key[0] == benchmark
            and (before is None or first.get(key, {}).get("correct") is before)
            and (after is None or r.get("correct") is after)
        ]  # fmt: skip

    repaired = keys("avconfuse_muted", False, True)
    queues = [
        repaired,
        keys("avconfuse_muted", None, False),
        keys("avconfuse_modified"),
        keys("avconfuse_control"),
        repaired,
        keys("avconfuse_muted"),
        list(last),
    ]
    chosen: list[tuple[str, str]] = []
    for turn in range(count + len(queues)):
        seen = {last[key]["video_id"] for key in chosen}
        left = [key for key in queues[min(turn, len(queues) - 1)] if key not in chosen]
        left = [key for key in left if last[key]["video_id"] not in seen] or left
        if left and len(chosen) < count:
            chosen.append(left[0])
    return [
        _clip(last[key], {stage: rows[key] for stage, rows in joint.items() if key in rows}) for key in chosen
    ]


def _clip(record: Record, said: Mapping[str, Record]) -> dict[str, Any]:
    known = record.get("truth") or {}
    return {
        "video": record["video"],
        "kind": record["benchmark"],
        "question": record["question"],
        "gold": record["gold"],
        "visible": known.get("visible"),
        "sounding": _listed(known.get("audible")) + _listed(known.get("ambient")) if known else None,
        "said": {stage: {name: one.get(name) for name in SAID} for stage, one in said.items()},
    }


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(v) for v in value]


def embedded(clip: Mapping[str, Any]) -> dict[str, Any]:
    """A clip with its file inside.

    Args:
        clip: of `pick_clips`.

    Returns:
        The same with "data" (MP4) and "poster" (PNG, the first frame: seen before one presses play), both
        base64, and "width" and "height" in pixels.

    Raises:
        UserError: the file cannot be read; MediaError: it cannot be decoded.
    """
    try:
        data = base64.b64encode(Path(clip["video"]).read_bytes()).decode()
    except OSError as error:
        raise UserError(
            f"{clip['video']}: cannot be put into the report ({error.strerror}); build the data again or "
            "leave the clip out."
        ) from error
    frames = load_clip(clip["video"], None, MediaSettings()).frames
    assert frames is not None  # a picture was asked for, so its absence is a MediaError
    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "rgb24", Fraction(1)
    packets = encoder.encode(av.VideoFrame.from_ndarray(frames[0], format="rgb24")) + encoder.encode(None)
    poster = base64.b64encode(b"".join(bytes(packet) for packet in packets)).decode()
    return {**clip, "data": data, "poster": poster, "width": width, "height": height}
