"""Files that users already have -> Samples: MUSIC-AVQA, AVQA, the R1 family, and the paper's warm-up JSON.

Every reader returns what it could read and what it could not, so that one run names all wrong rows, by row
(from 1; of JSON Lines the line) and field:

    samples, problems = read_music_avqa("train.json", "videos")

A problem is "row 3, field 'anser': is missing". Rows whose clip is not in the media folder are problems too.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rlcomm import steps
from rlcomm.data.rows import (
    VIDEO_ENDINGS,
    Finder,
    Wrong,
    named_option,
    read_rows,
    read_samples,
    without_letters,
)
from rlcomm.data.sample import Sample, Turn, report, write_jsonl
from rlcomm.utils.errors import UserError

_PLACEHOLDER = re.compile(r"<[A-Za-z]+>")  # <Object> <LR> <LRer> <FL> <LL> <TH> <BA>
_MEDIA_TAG = re.compile(r"<(?:video|audio|image)>\s*")


@dataclass
class ImportReport:
    """What `import_file` did.

    Attributes:
        out: the JSON Lines file written.
        written: samples in it.
        problems: rows left out, each with its field and reason.
        unheard: samples with a picture and without sound.
    """

    out: str
    written: int
    problems: list[str] = field(default_factory=list)
    unheard: int = 0

    def __str__(self) -> str:
        text = f"{self.out}: {self.written} sample{'s' * (self.written != 1)} written"
        if self.unheard:
            text += (
                f", {self.unheard} of them seen only: their clips are not heard (of R1 files, where neither "
                "data_type names audio nor use_audio is true)"
            )
        if not self.problems:
            return text + "."
        shown = self.problems[:20]
        plural = "s" * (len(self.problems) != 1)
        lines = [f"{text}, {len(self.problems)} problem{plural} (these rows are left out):"]
        lines += [f"  {problem}" for problem in shown]
        if len(self.problems) > len(shown):
            lines.append(f"  ... and {len(self.problems) - len(shown)} more")
        return "\n".join(lines)


def import_file(
    kind: str,
    path: str | os.PathLike,
    media_dir: str | os.PathLike,
    out: str | os.PathLike,
    limit: int | None = None,
) -> ImportReport:
    """`rlcomm data import KIND FILE --media_dir DIR --out OUT.jsonl [--limit N]`.

    Args:
        kind: one of `KINDS`: music_avqa, avqa, r1, warmup.
        path: the file of that format.
        media_dir: folder that holds the clips.
        out: JSON Lines file of samples to write.
        limit: keep the first so many good rows (the paper trains on the first 1000 of MUSIC-AVQA); None: all.

    Raises:
        UserError: unknown kind, a file that cannot be read, or not one usable row.
    """
    if kind not in KINDS:
        raise UserError(
            f"kind: {kind!r} is not a format that can be imported; give one of {', '.join(KINDS)}."
        )
    if limit is not None and limit < 1:
        raise UserError(
            f"limit: {limit} rows would leave nothing to import; give a number above 0 or leave it out."
        )
    samples, problems = KINDS[kind](path, media_dir)
    if not samples:
        raise UserError(
            report(path, problems)
            if problems
            else f"{path}: has no usable row; check that it is a {kind} file."
        )
    samples = samples[:limit]
    write_jsonl(out, samples)
    unheard = sum(sample.video is not None and sample.audio is None for sample in samples)
    return ImportReport(os.fspath(out), len(samples), problems, unheard)


def read_music_avqa(path: str | os.PathLike, video_dir: str | os.PathLike) -> tuple[list[Sample], list[str]]:
    """Reads MUSIC-AVQA (Li et al., CVPR 2022): `avqa-train.json` and its like.

    Rows: `{"video_id", "question_id", "type": '["Audio-Visual", "Existential"]', "question_content",
    "templ_values": '["violin"]', "question_deleted", "anser"}` (the official spelling; "answer" is read too).
    Placeholders such as <Object> are filled with `templ_values` in order; rows with a true `question_deleted`
    are left out without a word.

    Args:
        path: JSON list or JSON Lines.
        video_dir: folder of `<video_id>.mp4` (or mkv, webm, avi, mov, m4v, flv).

    Returns:
        (samples, problems); `Turn.type` is e.g. "Audio-Visual/Existential", the id
        "<video_id>-<question_id>".
    """
    find = Finder(video_dir)

    def read(row: dict, wrong: Wrong) -> Sample | None:
        if _number(row.get("question_deleted")):
            return None
        video_id = wrong.text(row, "video_id")
        question = wrong.text(row, "question_content")
        answer = wrong.text(row, "anser" if "anser" in row or "answer" not in row else "answer")
        values = wrong.listed(row, "templ_values") if row.get("templ_values") is not None else []
        places = _PLACEHOLDER.findall(question)
        if len(values) < len(places):
            wrong(
                "templ_values",
                f"has {len(values)} values for {len(places)} placeholders ({' '.join(places)})",
            )
            return None
        filled = iter(values)
        question = _PLACEHOLDER.sub(lambda _: str(next(filled)), question)
        kind = (
            "/".join(str(part) for part in wrong.listed(row, "type")) if row.get("type") is not None else ""
        )
        clip = find(video_id, "video_id", wrong)
        identity = f"{video_id}-{row['question_id']}" if row.get("question_id") is not None else video_id
        return Sample(
            identity,
            (Turn(question, answer, type=kind),),
            clip,
            clip,
            meta={"source": "music_avqa", "video_id": video_id},
        )

    return read_samples(path, read)


def read_avqa(path: str | os.PathLike, video_dir: str | os.PathLike) -> tuple[list[Sample], list[str]]:
    """Reads AVQA (Yang et al., ACM MM 2022): `train_qa.json`, `val_qa.json`.

    Rows: `{"id", "video_name", "video_id", "question_text", "multi_choice": [4 texts], "answer": int,
    "question_relation": "Both", "question_type": "Which"}`.

    Args:
        path: JSON list or JSON Lines.
        video_dir: folder of `<video_name>.mp4` (or another video extension).

    Returns:
        (samples, problems); `Turn.type` is "Both/Which", `Turn.options` the four choices.
    """
    find = Finder(video_dir)

    def read(row: dict, wrong: Wrong) -> Sample | None:
        name = wrong.text(row, "video_name")
        question = wrong.text(row, "question_text")
        options = [str(option) for option in wrong.listed(row, "multi_choice")]
        answer = row.get("answer")
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
            wrong(
                "answer",
                f"must be the index of one of the {len(options)} choices (from 0), this is {answer!r}",
            )
            return None
        kind = "/".join(str(row[key]) for key in ("question_relation", "question_type") if row.get(key))
        clip = find(name, "video_name", wrong)
        return Sample(
            str(row.get("id", f"{name}-{wrong.row}")),
            (Turn(question, options[answer], tuple(options), type=kind),),
            clip,
            clip,
            meta={"source": "avqa", "video_id": name},
        )

    return read_samples(path, read)


def read_r1(path: str | os.PathLike, media_dir: str | os.PathLike) -> tuple[list[Sample], list[str]]:
    """Reads files of the R1 family (Video-R1, EchoInk-R1, HumanOmniV2 and others).

    Rows: `{"problem", "data_type", "problem_type", "options": ["A. drum", ...], "solution":
    "<answer>B</answer>", "path": "clip.mp4" or {"image": ..., "audio": ..., "video": ...}}`. A `data_type`
    that names audio (video_audio, image_audio, ...) or a true `use_audio` makes a clip be heard as well as
    seen; a plain "video" is seen only, since these sets hold many clips without sound.

    Args:
        path: JSON list or JSON Lines.
        media_dir: folder that the paths of the rows start at.

    Returns:
        (samples, problems); options without their letters, the answer as the text of its option.
    """
    find = Finder(media_dir)

    def read(row: dict, wrong: Wrong) -> Sample | None:
        question = _MEDIA_TAG.sub("", wrong.text(row, "problem")).strip()
        solution = wrong.text(row, "solution")
        found = re.findall(r"<answer>(.*?)</answer>", solution, re.DOTALL)
        if len(found) > 1:
            wrong("solution", f"has {len(found)} <answer> parts, one is needed")
        answer = (found[0] if found else solution).strip()
        options = without_letters(wrong.listed(row, "options") if row.get("options") else [])
        if options:
            choice = named_option(answer, options)
            if choice is None:
                wrong(
                    "solution",
                    f"{answer!r} is none of the {len(options)} options, neither as a letter nor as text",
                )
                return None
            answer = choice
        video, audio = _r1_media(row, find, wrong)
        kind = row.get("problem_type")
        return Sample(
            str(row.get("problem_id", row.get("id", wrong.row))),
            (Turn(question, answer, tuple(options), type=kind if isinstance(kind, str) else ""),),
            video,
            audio,
            meta={"source": "r1", "data_type": row.get("data_type")},
        )

    return read_samples(path, read)


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
            role = turn.get("role", turn.get("from"))
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


KINDS: dict[str, Callable[..., tuple[list[Sample], list[str]]]] = {
    "music_avqa": read_music_avqa,
    "avqa": read_avqa,
    "r1": read_r1,
    "warmup": read_warmup,
}


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _r1_media(row: dict, find: Finder, wrong: Wrong) -> tuple[str | None, str | None]:
    path = row.get("path")
    kind = str(row.get("data_type", "")).lower()
    if isinstance(path, dict):
        unknown = [key for key in path if key not in ("video", "image", "audio")]
        if unknown or not path:
            wrong("path", f"must hold video, image or audio, it holds {sorted(path)}")
        files = {
            key: find(str(value), f"path.{key}", wrong) for key, value in path.items() if key not in unknown
        }
        return files.get("video") or files.get("image"), files.get("audio")
    clip = find(wrong.text(row, "path"), "path", wrong)
    if kind == "audio":
        return None, clip
    return clip, clip if "audio" in kind or row.get("use_audio") else None


def _chats(path: str | os.PathLike, problems: list[str]) -> Iterator[dict]:
    """{"turns": [(row, turn)], "row": the object} of each chat; a flat list of turns is one."""
    flat: list[tuple[int, dict]] = []
    for number, row in read_rows(path, problems):
        if isinstance(row, dict) and ("role" in row or "from" in row):
            flat.append((number, row))
            continue
        turns = row if isinstance(row, list) else None
        if isinstance(row, dict):
            turns = row.get("messages", row.get("conversations"))
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
    content = user.get("content", user.get("value"))
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    media: list[tuple[str, Any]] = [
        (key, path)
        for key in ("video", "videos", "image", "images", "audio", "audios")
        for path in (
            [chat["row"][key]] if isinstance(chat["row"].get(key), str) else chat["row"].get(key) or []
        )
    ]
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text") or ""))
        elif kind in ("audio", "video", "image"):
            media.append((kind, part.get(f"{kind}_url", part.get(kind))))
        else:
            wrong("content", f"has a part of unknown type {kind!r}")
    question = _MEDIA_TAG.sub("", "\n".join(texts)).strip()
    if not question:
        wrong("content", "the question has no text")
    if not media:
        wrong("content", "the question has no clip")
    video = audio = None
    for kind, path in media:
        if isinstance(path, dict):  # {"url": ...}
            path = path.get("url")
        place = find(str(path or ""), "content", wrong)
        moving = str(path).lower().endswith(VIDEO_ENDINGS)
        if moving or not kind.startswith("audio"):
            video = place
        if moving or kind.startswith("audio"):
            audio = place
    answer = assistant.get("content", assistant.get("value"))
    if isinstance(answer, list):
        answer = " ".join(str(part.get("text", "")) for part in answer if isinstance(part, dict))
    parsed = steps.parse(str(answer or ""))
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
