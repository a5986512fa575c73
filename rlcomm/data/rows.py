"""Rows of JSON and JSON Lines files that others wrote: what is wrong is collected, by row and field.

problems: list[str] = []
for number, row in read_rows(path, problems):
    wrong = Wrong(number, problems)
    question = wrong.text(row, "question")     # "row 3, field 'question': is missing"
"""

import ast
import contextlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlcomm.data.sample import Sample, read_text
from rlcomm.utils.errors import UserError

VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv")
_ENDINGS = (*VIDEO_ENDINGS, ".wav", ".mp3", ".flac", ".ogg", ".m4a", ".jpg", ".jpeg", ".png", ".webp")
# "A. a drum", "(A) a drum", "A: a drum", "a) a drum", "A、鼓", "【A】鼓"; after NFKC
_LETTER = re.compile(r"[(\[【]?([A-Za-z])\s*[.):\]】、]\s*(.*)", re.DOTALL)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_OPTIONS = len(_LETTERS)
"""Options are shown by a letter each."""


class Wrong:
    """Collects what is wrong with one row: wrong(field, reason); `any` tells whether something was."""

    def __init__(self, row: int, problems: list[str]) -> None:
        self.row, self.problems, self.any = row, problems, False

    def __call__(self, name: str, reason: str) -> None:
        self.any = True
        self.problems.append(f"row {self.row}, field '{name}': {reason}")

    def text(self, row: dict, name: str) -> str:
        """A text field that must not be empty; numbers are taken as text (some write 2 or 2.0)."""
        value = row.get(name)
        if value is None:
            self(name, "is missing")
        elif (found := _as_text(value)) is None:
            self(name, f"must be text, this is {value!r:.60}")
        elif not found:
            self(name, "is empty")
        else:
            return found
        return ""

    def listed(self, row: dict, name: str) -> list[str]:
        """A list of texts (or numbers), or such a list written as a JSON (or Python) text."""
        value = row.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                    value = ast.literal_eval(value)
            except RecursionError:
                value = None
        if not isinstance(value, list):
            self(name, f"must be a list, this is {row.get(name)!r:.60}")
            return []
        texts = [_as_text(item) for item in value]
        if None in texts:
            at = texts.index(None)
            self(name, f"must be a list of texts, its entry {at + 1} is {value[at]!r:.60}")
        return [text for text in texts if text is not None]

    def identity(self, row: dict, *names: str, default: Any) -> str:
        """The first of these fields that is there, as text; none: the default."""
        for name in names:
            if row.get(name) is not None:
                return self.text(row, name)
        return str(default)


def _as_text(value: Any) -> str | None:
    """A text, or a number as people write it (2.0 is "2"); None: neither, so no word may be made of it."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value).strip()


class Finder:
    """Finds media files below one or more folders; every name is looked up once.

    A name is tried as it is written in every folder, then with the ending of a video.

    Raises:
        UserError: when made: one of the folders is no folder.
    """

    def __init__(self, *folders: str | os.PathLike) -> None:
        self.folders = [Path(folder) for folder in folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise UserError(f"media folder {folder}: is not a folder; give the one that holds the clips.")
        self.known: dict[str, str | None] = {}

    def __call__(self, name: str, where: str, wrong: Wrong) -> str | None:
        """The path of `name`; None, and a problem of the field `where`, if there is none."""
        if not name:
            return None  # said already: the field is missing
        if name not in self.known:
            names = (name, *(f"{name}{ending}" for ending in VIDEO_ENDINGS))
            places = [folder / name for folder in self.folders for name in names]
            self.known[name] = next((os.path.normpath(place) for place in places if place.is_file()), None)
        if self.known[name] is None:
            tried = (
                name
                if Path(name).suffix.lower() in _ENDINGS
                else f"{name}.mp4 (nor {', '.join(VIDEO_ENDINGS[1:])})"
            )
            wrong(where, f"there is no file {tried} in {' or '.join(str(f) for f in self.folders)}")
        return self.known[name]


def read_samples(
    path: str | os.PathLike, read: Callable[[dict, Wrong], Sample | list[Sample] | None]
) -> tuple[list[Sample], list[str]]:
    """Reads every row of a file: (samples, problems); a wrong row does not end it.

    Args:
        path: JSON list or JSON Lines.
        read: one row to its sample, its samples, or None (left out without a word); what is wrong goes to the
            `Wrong` it is handed, and then what it returns is left out.
    """
    samples: list[Sample] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(path, problems):
        wrong = Wrong(number, problems)
        if not isinstance(row, dict):
            problems.append(f"row {number}: must be an object, this is {row!r:.60}")
            continue
        found = read(row, wrong)
        if found is None or wrong.any:
            continue
        for sample in found if isinstance(found, list) else [found]:
            if (count := max(len(turn.options) for turn in sample.turns)) > MOST_OPTIONS:
                problems.append(f"row {number}: has {count} options, and there are {MOST_OPTIONS} letters")
                continue
            if sample.id in seen:
                problems.append(f"row {number}: has the id {sample.id!r} of row {seen[sample.id]} again")
                continue
            seen[sample.id] = number
            samples.append(sample)
    return samples, problems


def read_rows(path: str | os.PathLike, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """(row number, row) of a JSON list (bare, or the only list of an object) or of JSON Lines."""
    text = read_text(path)
    try:
        rows = json.loads(text)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if text.lstrip().startswith("[") or not lines:
            raise UserError(
                f"{path}: is not valid JSON ({error}); give a JSON list or JSON Lines."
            ) from error
        for number, line in lines:
            try:
                row = json.loads(line)
            except ValueError as line_error:
                problems.append(f"row {number}: is not valid JSON ({line_error})")
            else:
                yield number, row
        return
    if isinstance(rows, dict):
        lists = [value for value in rows.values() if isinstance(value, list)]
        # a JSON Lines file of one row is an object too; a row's own lists (options, turns) do not hold rows
        rows = lists[0] if len(rows) == 1 and lists else [rows]
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {type(rows).__name__}, not rows; give a JSON list or JSON Lines.")
    yield from enumerate(rows, start=1)


def without_letters(options: list[str]) -> list[str]:
    """Strips "A. ", "(B) ", "C、" where every option carries its own letter in order; else leaves them."""
    found = [_LETTER.fullmatch(unicodedata.normalize("NFKC", option).strip()) for option in options]
    letters = "".join(match[1] if match else "?" for match in found)
    if letters and letters.upper() == _LETTERS[: len(letters)] and (letters.isupper() or letters.islower()):
        return [match[2].strip() for match in found if match is not None]
    return [option.strip() for option in options]


def named_option(answer: str, options: list[str]) -> str | None:
    """The option that a gold answer names, by its letter ("B", "(B)", "B、鼓") or else by its text."""
    answer = unicodedata.normalize("NFKC", answer).strip()
    letter = re.fullmatch(r"[(\[【]?([A-Z])[)\]】]?[.:、]?", answer)
    if letter:
        index = _LETTERS.index(letter[1])
        return options[index] if index < len(options) else None
    lettered = _LETTER.fullmatch(answer)
    for text in (answer, lettered[2].strip() if lettered else answer):
        for option in options:
            if unicodedata.normalize("NFKC", option).casefold() == text.casefold():
                return option
    return None
