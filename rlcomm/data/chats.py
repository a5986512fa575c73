"""The warm-up JSON released with RL-CoMM, and chat files like it -> Samples."""

import os
import re
from collections.abc import Iterator
from typing import Any

from rlcomm import steps
from rlcomm.data.rows import VIDEO_ENDINGS, Finder, Wrong, read_rows
from rlcomm.data.sample import Sample, Turn

MEDIA_TAG = re.compile(r"<(?:video|audio|image)>\s*")
_KINDS = ("video", "image", "audio")
_BESIDE = ("video", "videos", "image", "images", "audio", "audios")  # keys of a chat, beside its turns
_SAME = {f"{kind}{ending}": kind for kind in _KINDS for ending in ("", "_url", "s")} | {
    "input_audio": "audio", "input_image": "image", "input_video": "video", "input_text": "text",
}  # fmt: skip


def read_warmup(path: str | os.PathLike, media_dir: str | os.PathLike) -> tuple[list[Sample], list[str]]:
    """Reads the warm-up JSON released with RL-CoMM, and chat files like it.

    The released file is one flat list of chat turns, user and assistant by turns:

        {"role": "user", "content": [{"type": "audio", "audio_url": "./00000238.mp4"},
                                     {"type": "text", "text": "How many instruments are sounding?"}]}
        {"role": "assistant", "content": "<a-think> ... </a-think> <v-think> ... </v-think> <answer> two ..."}

    Also read: a list of conversations, each a list of turns or an object with "messages" or "conversations"
    (`from`/`value` or `role`/`content`) and its media beside them ("video", "videos", "audio", "audios").

    Args:
        path: JSON list or JSON Lines; a row is a turn of a flat list, or a conversation.
        media_dir: folder of the clips. A clip with a video extension is seen and heard, however it is
            labelled.

    Returns:
        (samples, problems): one sample per question, `Turn.target` the completion in the one format of
        rlcomm.steps. Turns without their partner and completions without all three segments are problems.
    """
    find = Finder(media_dir)
    samples: list[Sample] = []
    problems: list[str] = []
    for chat in _chats(path, problems):
        waiting: tuple[int, dict] | None = None
        for at, turn in chat["turns"]:
            wrong = Wrong(at, problems)
            role = turn.get("role") or turn.get("from")
            role = {"human": "user", "gpt": "assistant"}.get(str(role), role)
            if role == "user":
                if waiting is not None:
                    Wrong(waiting[0], problems)("role", "a question without an answer after it")
                waiting = (at, turn)
            elif role == "assistant":
                if waiting is None:
                    wrong("role", "an answer without a question before it")
                    continue
                identity = f"warmup-{len(samples) + 1}"
                sample = _warmup_pair(identity, waiting[1], turn, chat, find, wrong)
                waiting = None
                if sample is not None:
                    samples.append(sample)
            elif role != "system":
                wrong("role", f"must be user or assistant, this is {role!r}")
        if waiting is not None:
            Wrong(waiting[0], problems)("role", "a question without an answer after it")
    return samples, problems


def _chats(path: str | os.PathLike, problems: list[str]) -> Iterator[dict]:
    """{"turns": [(row, turn)], "row": the object} of each chat; a flat list of turns is one."""
    flat: list[tuple[int, dict]] = []
    for number, row in read_rows(path, problems):
        if isinstance(row, dict) and ("role" in row or "from" in row):
            flat.append((number, row))
            continue
        turns = row if isinstance(row, list) else None
        if isinstance(row, dict):
            turns = row.get("messages") or row.get("conversations")
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            problems.append(
                f"row {number}: is neither a chat turn nor holds a list of them under 'messages' or "
                "'conversations'"
            )
            continue
        yield {"turns": [(number, turn) for turn in turns], "row": row if isinstance(row, dict) else {}}
    if flat:
        yield {"turns": flat, "row": {}}


def _warmup_pair(
    identity: str, user: dict, assistant: dict, chat: dict, find: Finder, wrong: Wrong
) -> Sample | None:
    texts, media = _parts(_content(user), wrong)
    for key in _BESIDE:
        value = chat["row"].get(key)
        media += [(key, one) for one in (value if isinstance(value, list) else [value]) if one is not None]
    question = MEDIA_TAG.sub("", "\n".join(texts)).strip()
    if not question:
        wrong("content", "the question has no text")
    video, audio = _clip(media, find, wrong)
    answer = " ".join(_parts(_content(assistant), wrong)[0])
    parsed = steps.parse(answer)
    for name, segment in (("a-think", parsed.audio), ("v-think", parsed.video), ("answer", parsed.answer)):
        if segment.status != "ok":
            wrong("content", f"the completion's <{name}> is {segment.status.replace('_', ' ')}")
    if wrong.any:
        return None
    target = steps.build(parsed.audio.text, parsed.video.text, parsed.answer.text)
    return Sample(
        identity,
        (Turn(question, parsed.answer.text, target=target),),
        video,
        audio,
        meta={"source": "warmup", "row": wrong.row},
    )


def _content(turn: dict) -> Any:
    """What a turn says: `content`, or `value` of the ShareGPT form."""
    return turn["content"] if turn.get("content") is not None else turn.get("value")


def _parts(content: Any, wrong: Wrong) -> tuple[list[str], list[tuple[str, Any]]]:
    """(texts, [(kind, what names the file)]) of a turn: a text, or a list of typed parts.

    A part that names a file does so in any of the common forms: {"type": "video", "video" | "video_url" |
    "path" | "url": a path or {"url" | "path": a path}}, also with the type "video_url" of OpenAI's. Keys that
    are null stand for nothing: `datasets` writes every key into every part.
    """
    texts: list[str] = []
    media: list[tuple[str, Any]] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
            continue
        given = (
            {key: value for key, value in part.items() if value is not None} if isinstance(part, dict) else {}
        )
        named = next((key for key in _KINDS if key in given or f"{key}_url" in given), None)
        kind = given.get("type", "text" if "text" in given else named)
        kind = _SAME.get(kind, kind) if isinstance(kind, str) else None
        if kind == "text" and isinstance(given.get("text"), str):
            texts.append(given["text"])
        elif kind in _KINDS:
            keys = (f"{kind}_url", kind, f"input_{kind}", "path", "url", "file")
            media.append((kind, next((given[key] for key in keys if key in given), None)))
        elif given or part is not None:
            wrong("content", f"has a part that is neither text nor a clip: {part!r:.80}")
    return texts, media


def _clip(media: list[tuple[str, Any]], find: Finder, wrong: Wrong) -> tuple[str | None, str | None]:
    """(video, audio) of the one clip that a question names; two pictures or two sounds are refused."""
    if not media:
        wrong("content", "the question has no clip")
    seen: list[str] = []
    heard: list[str] = []
    for kind, named in media:
        if isinstance(named, dict):  # {"url": ...}, {"path": ..., "bytes": null}
            named = next((named[key] for key in ("url", "path", "file") if named.get(key) is not None), None)
        if not isinstance(named, str) or not named.strip():
            wrong("content", f"its {kind.removesuffix('s')} names no file ({named!r:.60})")
        elif place := find(named.removeprefix("file://"), "content", wrong):
            (heard if kind.startswith("audio") else seen).append(place)
    for places in (seen, heard):
        if len(set(places)) > 1:
            wrong(
                "content", f"names {len(set(places))} clips for one question ({', '.join(places)}); leave one"
            )
    video = seen[0] if seen else next((place for place in heard if _moving(place)), None)
    audio = heard[0] if heard else next((place for place in seen if _moving(place)), None)
    return video, audio


def _moving(place: str) -> bool:
    return place.lower().endswith(VIDEO_ENDINGS)
