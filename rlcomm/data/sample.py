"""Sample: the one row every part of rlcomm works on, and its JSON Lines form.

A row of a file, with one question (flat) or several over the same clip:

    {"id": "7", "video": "7.mp4", "audio": "7.mp4", "question": "Is a harp playing?", "answer": "no"}
    {"id": "8", "video": "8.mp4", "audio": "8.mp4", "turns": [{"question": ..., "answer": ...}, ...]}

Optional fields: `options`, `target`, `type` (of a question), `reference`, `sight` and `meta` (of a row).
Relative paths start at the folder of the file they stand in.
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcomm.utils import files
from rlcomm.utils.errors import UserError

_TURN_FIELDS = ("question", "answer", "options", "target", "type")
_ROW_FIELDS = ("id", "video", "audio", "turns", "reference", "sight", "meta")
_SHOWN = 20  # problems written out in one message; the rest is counted


@dataclass(frozen=True)
class Turn:
    """One question about the clip and what is right.

    Attributes:
        question: the question alone, without any instruction; placeholders filled.
        answer: gold answer y.
        options: the choices of a multiple-choice question, without their letters; empty for an open question.
        target: the full completion to imitate in SFT; None: the stage builds one.
        type: the kind of question, e.g. "Audio-Visual/Existential"; "" where it is not known.
    """

    question: str
    answer: str
    options: tuple[str, ...] = ()
    target: str | None = None
    type: str = ""


@dataclass(frozen=True)
class Sample:
    """One row: a clip, one or several questions about it, and the reference's reasoning.

    A sample whose `video` and `audio` are the same path is a clip with its own sound (interleaved
    audio-in-video).

    Attributes:
        id: unique in its file.
        turns: at least one; several are a conversation over the same clip.
        video: path of the file whose frames are shown (a video or an image); None: no picture.
        audio: path of the file whose sound is heard (the same video, or wav, ogg, ...); None: no sound.
        reference: o_ref, the text inside the reference's <a-think> (METHOD: reference audio reasoning).
        meta: JSON values: split, visible, audible, muted, provenance, ...
        sight: o_see, what a witness says who saw the picture without its sound; the reference's twin.
    """

    id: str
    turns: tuple[Turn, ...]
    video: str | None = None
    audio: str | None = None
    reference: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    sight: str | None = None

    @property
    def question(self) -> str:
        """Question of the first turn."""
        return self.turns[0].question

    @property
    def answer(self) -> str:
        """Gold answer of the first turn."""
        return self.turns[0].answer

    @property
    def options(self) -> tuple[str, ...]:
        """Options of the first turn; empty for an open question."""
        return self.turns[0].options

    def without(self, modality: str) -> "Sample":
        """The same row with its sound ("audio") or its picture ("video") left out.

        Raises:
            ValueError: `modality` is neither.
        """
        if modality not in ("audio", "video"):
            raise ValueError(f'modality={modality!r}: a sample has "audio" and "video"')
        return dataclasses.replace(self, **{modality: None})  # type: ignore[arg-type]

    def to_json(self, folder: str | os.PathLike | None = None) -> dict[str, Any]:
        """The row as JSON values; a single turn is written flat and empty fields are left out.

        Args:
            folder: media paths at or below it (or below its parent, as `../clips/x.mp4`) are written relative
                to it, so that a data folder can be moved; others are written in full. None: paths as they
                are.
        """
        row: dict[str, Any] = {"id": self.id}
        for name in ("video", "audio"):
            path = getattr(self, name)
            if path is not None:
                row[name] = path if folder is None else _relative(path, folder)
        turns = [
            {k: v for k, v in dataclasses.asdict(turn).items() if v or k in ("question", "answer")}
            for turn in self.turns
        ]
        for turn in turns:
            if "options" in turn:
                turn["options"] = list(turn["options"])
        if len(turns) == 1:
            row.update(turns[0])
        else:
            row["turns"] = turns
        for name in ("reference", "sight"):
            if getattr(self, name) is not None:
                row[name] = getattr(self, name)
        if self.meta:
            row["meta"] = self.meta
        return row

    @classmethod
    def from_json(cls, row: Any, folder: str | os.PathLike | None = None, where: str = "row") -> "Sample":
        """Reads one JSON object.

        Args:
            row: the object, flat or with "turns".
            folder: where relative media paths start; None: paths as they are.
            where: the words that name the row in an error, e.g. "train.jsonl row 3".

        Raises:
            UserError: every wrong field of the row, in one message.
        """
        problems: list[str] = []
        sample = _read_row(row, folder, problems)
        if sample is None or problems:
            raise UserError(f"{where}, {'; '.join(problems)}; correct the row and run again.")
        return sample


def read_jsonl(path: str | os.PathLike) -> list[Sample]:
    """Reads a file of samples, one JSON object a line; empty lines are skipped.

    Media files are not opened (`rlcomm data check` does that).

    Raises:
        UserError: the file is missing, not text or has no row, or rows are wrong: all of them in one message,
            by row (line number, from 1) and field; ids that occur twice are named too.
    """
    path = Path(path)
    samples, problems = scan_jsonl(path)
    if problems:
        raise UserError(report(path, problems))
    if not samples:
        raise UserError(f"{path}: has no rows; give a JSON Lines file with one sample a line.")
    return [sample for _, sample in samples]


def scan_jsonl(path: str | os.PathLike) -> tuple[list[tuple[int, Sample]], list[str]]:
    """Reads what can be read: ((row number, sample) pairs, problems); a bad row does not end it."""
    path = Path(path)
    samples: list[tuple[int, Sample]] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(f"row {number}: is not valid JSON ({error})")
            continue
        found: list[str] = []
        sample = _read_row(row, path.parent, found)
        problems += [f"row {number}, {problem}" for problem in found]
        if sample is None or found:
            continue
        if sample.id in seen:
            problems.append(
                f"row {number}, field 'id': {sample.id!r} is already the id of row {seen[sample.id]}"
            )
        seen.setdefault(sample.id, number)
        samples.append((number, sample))
    return samples, problems


def write_jsonl(path: str | os.PathLike, samples: Iterable[Sample]) -> None:
    """Writes samples, one JSON object a line, in one step.

    Media paths at or below the file's folder or its parent are stored relative to it; others in full.
    """
    folder = Path(path).parent
    files.write_jsonl(path, (sample.to_json(folder) for sample in samples))


def read_text(path: str | os.PathLike) -> str:
    """The text of a UTF-8 file.

    Raises:
        UserError: the file is missing, a folder, unreadable or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: does not exist; check the path, or make it first (a recipe's header says what comes "
            "before)."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; give a JSON or JSON Lines file.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable file.") from error


def report(path: str | os.PathLike, problems: Sequence[str]) -> str:
    """One message for all `problems` of the file at `path`; the first 20 are written out."""
    if len(problems) == 1:
        return f"{path}, {problems[0]}; correct it and run again."
    lines = [f"{path}: {len(problems)} problems; correct these rows and run again:"]
    lines += [f"  {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    return "\n".join(lines)


def _read_row(row: Any, folder: str | os.PathLike | None, problems: list[str]) -> Sample | None:
    """Builds a Sample; appends "field 'x': what is wrong" to `problems` for every wrong field."""
    if not isinstance(row, dict):
        problems.append(f"a row is one JSON object, this is {_kind(row)}")
        return None
    flat = "turns" not in row
    _unknown(row, _ROW_FIELDS + (_TURN_FIELDS if flat else ()), "", problems)
    identity = row.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    _text(identity, "id", problems, empty=False)
    turns: list[Turn] = []
    if flat:
        turns = [_read_turn(row, "", problems)]
    elif not isinstance(row["turns"], list) or not row["turns"]:
        problems.append("field 'turns': must be a list of at least one {question, answer} object")
    else:
        for index, turn in enumerate(row["turns"]):
            prefix = f"turns[{index}]."
            if not isinstance(turn, dict):
                problems.append(f"field 'turns[{index}]': must be an object, this is {_kind(turn)}")
                continue
            _unknown(turn, _TURN_FIELDS, prefix, problems)
            turns.append(_read_turn(turn, prefix, problems))
    paths: dict[str, str | None] = {}
    for name in ("video", "audio", "reference", "sight"):
        value = row.get(name)
        if value is not None:
            _text(value, name, problems, empty=name in ("reference", "sight"))
        paths[name] = value
    meta = row.get("meta", {})
    if not isinstance(meta, dict):
        problems.append(f"field 'meta': must be an object, this is {_kind(meta)}")
    if problems:
        return None
    for name in ("video", "audio"):
        value = paths[name]
        if value is not None and folder is not None:
            # normpath, so that ../clips/x.mp4 and clips/x.mp4 of two files name the clip by the same path
            paths[name] = os.path.normpath(os.path.join(folder, value))
    return Sample(str(identity), tuple(turns), meta=meta, **paths)


def _read_turn(row: dict, prefix: str, problems: list[str]) -> Turn:
    _text(row.get("question"), f"{prefix}question", problems, empty=False)
    _text(row.get("answer"), f"{prefix}answer", problems)
    if row.get("target") is not None:
        _text(row["target"], f"{prefix}target", problems, empty=False)
    kind = row.get("type", "")
    _text(kind, f"{prefix}type", problems)
    options = row.get("options") or ()
    if not isinstance(options, (list, tuple)) or not all(isinstance(option, str) for option in options):
        problems.append(f"field '{prefix}options': must be a list of texts")
        options = ()
    return Turn(row.get("question", ""), row.get("answer", ""), tuple(options), row.get("target"), kind)


def _text(value: Any, name: str, problems: list[str], empty: bool = True) -> None:
    if value is None:
        problems.append(f"field '{name}': is missing")
    elif not isinstance(value, str):
        problems.append(f"field '{name}': must be text, this is {_kind(value)}")
    elif not empty and not value.strip():
        problems.append(f"field '{name}': is empty")


def _unknown(row: dict, known: Sequence[str], prefix: str, problems: list[str]) -> None:
    for name in row:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "put values of your own under 'meta'"
            problems.append(f"field '{prefix}{name}': is not known ({hint})")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


def _relative(path: str, folder: str | os.PathLike) -> str:
    full, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    if full.is_relative_to(base):
        return full.relative_to(base).as_posix()
    # one step up covers data/test/x.jsonl beside data/clips/; never up to the root of the disk
    if base.parent != Path(base.anchor) and full.is_relative_to(base.parent):
        return "../" + full.relative_to(base.parent).as_posix()
    return str(full)
