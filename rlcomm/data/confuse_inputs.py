"""What `data confuse` is given: clips, what is visible in each, their stems, the sounds to put in."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.sample import read_jsonl, read_text
from rlcomm.utils.errors import UserError

_SOUND_FILES = (".wav", ".ogg", ".mp3", ".flac", ".m4a", ".opus", ".aac", ".mp4")
_VIDEO_FILES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")


def clips_of(clips: Any) -> tuple[list[Path], dict[str, Sequence[str]]]:
    """(clip files by name, {clip id: visible instruments})."""
    visible: dict[str, Sequence[str]] = {}
    if not isinstance(clips, (str, os.PathLike)):
        found = [Path(clip) for clip in clips]
    elif Path(clips).is_dir():
        found = sorted(path for path in Path(clips).iterdir() if path.suffix.lower() in _VIDEO_FILES)
    elif str(clips).endswith(".jsonl"):
        found = []
        for sample in read_jsonl(clips):
            if sample.video is not None and Path(sample.video) not in found:
                found.append(Path(sample.video))
                visible[Path(sample.video).stem] = [str(name) for name in sample.meta.get("visible", ())]
    else:
        found = [Path(clips)]
    if not found:
        raise UserError(
            f"clips: there is no video in {clips}; give a folder of clips, a clip, or a samples .jsonl."
        )
    return found, visible


def instruments_of(given: Any) -> dict[str, Sequence[str]]:
    if isinstance(given, (str, os.PathLike)):
        try:
            given = json.loads(read_text(given))
        except ValueError as error:
            raise UserError(f"{given}: is not valid JSON ({error}); give {{clip id: [names]}}.") from error
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not all(
        isinstance(names, (list, tuple)) for names in given.values()
    ):
        raise UserError("instruments: must map every clip id to a list of names; correct the file.")
    return {str(clip): [str(name) for name in names] for clip, names in given.items()}


def stems_of(given: Any) -> dict[str, dict[str, Path]]:
    if isinstance(given, (str, os.PathLike)):
        if not Path(given).is_dir():
            raise UserError(
                f"stems: {given} is not a folder; give one with <clip id>/<instrument>.wav in it."
            )
        return {
            folder.name: {
                path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SOUND_FILES
            }
            for folder in sorted(Path(given).iterdir())
            if folder.is_dir()
        }
    return {clip: {name: Path(path) for name, path in parts.items()} for clip, parts in given.items()}


def sounds_of(given: Any) -> dict[str, Path]:
    found = {}
    if isinstance(given, (str, os.PathLike)) and Path(given).is_dir():
        found = {
            path.stem: path for path in sorted(Path(given).iterdir()) if path.suffix.lower() in _SOUND_FILES
        }
    elif isinstance(given, Mapping):
        found = {name: Path(path) for name, path in given.items()}
    if not found:
        raise UserError(
            f"sounds: {given} holds no sound; mode modified needs a folder of <sound type>.wav files "
            "(bird, drill, rain, thunderstorm and wind in the benchmark)."
        )
    return found


def apart(sources: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The clips whose file name without its ending is their own, and what is wrong with the others."""
    first: dict[str, Path] = {}
    for source in sources:
        first.setdefault(source.stem, source)
    problems = [
        f"clip {source.stem}: {source.name} has the name of {first[source.stem].name}, and a clip is known "
        "by its name without the ending; rename one of them"
        for source in sources
        if first[source.stem] is not source
    ]
    return list(first.values()), problems
