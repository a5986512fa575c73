"""Files that users already have -> Samples: MUSIC-AVQA, AVQA, the R1 family, and the paper's warm-up JSON.

Every reader returns what it could read and what it could not, so that one run names all wrong rows, by row
(from 1; of JSON Lines the line) and field:

    samples, problems = read_music_avqa("train.json", "videos")

A problem is "row 3, field 'anser': is missing". Rows whose clip is not in the media folder are problems too.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlcomm.data.chats import MEDIA_TAG, read_warmup
from rlcomm.data.rows import Finder, Wrong, named_option, read_samples, without_letters
from rlcomm.data.sample import Sample, Turn, report, write_jsonl
from rlcomm.utils.errors import UserError

_PLACEHOLDER = re.compile(r"<[A-Za-z]+>")  # <Object> <LR> <LRer> <FL> <LL> <TH> <BA>


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
        question = _PLACEHOLDER.sub(lambda _: next(filled), question)
        kind = "/".join(wrong.listed(row, "type")) if row.get("type") is not None else ""
        clip = find(video_id, "video_id", wrong)
        number = wrong.identity(row, "question_id", default="")
        identity = f"{video_id}-{number}" if number else video_id
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
        options = wrong.listed(row, "multi_choice")
        answer = row.get("answer")
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
            wrong(
                "answer",
                f"must be the index of one of the {len(options)} choices (from 0), this is {answer!r}",
            )
            return None
        kind = "/".join(
            wrong.text(row, key)
            for key in ("question_relation", "question_type")
            if row.get(key) not in (None, "")
        )
        clip = find(name, "video_name", wrong)
        return Sample(
            wrong.identity(row, "id", default=f"{name}-{wrong.row}"),
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
        question = MEDIA_TAG.sub("", wrong.text(row, "problem")).strip()
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
            wrong.identity(row, "problem_id", "id", default=wrong.row),
            (Turn(question, answer, tuple(options), type=kind if isinstance(kind, str) else ""),),
            video,
            audio,
            meta={"source": "r1", "data_type": row.get("data_type")},
        )

    return read_samples(path, read)


KINDS: dict[str, Callable[..., tuple[list[Sample], list[str]]]] = {
    "music_avqa": read_music_avqa,
    "avqa": read_avqa,
    "r1": read_r1,
    "warmup": read_warmup,
}


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _r1_media(row: dict, find: Finder, wrong: Wrong) -> tuple[str | None, str | None]:
    path = row.get("path")
    kind = str(row.get("data_type", "")).lower()
    if isinstance(path, dict):
        path = {key: value for key, value in path.items() if value is not None}  # exports write every key
        unknown = [key for key in path if key not in ("video", "image", "audio")]
        if unknown or not path:
            wrong("path", f"must hold video, image or audio, it holds {sorted(path)}")
        files = {key: find(wrong.text(path, key), f"path.{key}", wrong) for key in path if key not in unknown}
        if "video" in path and "image" in path:
            wrong("path", "names a video and an image, and one of them is seen; leave one out")
        return files.get("video") or files.get("image"), files.get("audio")
    clip = find(wrong.text(row, "path"), "path", wrong)
    if kind == "audio":
        return None, clip
    return clip, clip if "audio" in kind or row.get("use_audio") else None
