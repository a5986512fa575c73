"""`rlcomm data check FILE`: reads every row, decodes every clip, and names all that is wrong at once."""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rlcomm import steps
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaError, MediaSettings
from rlcomm.data.sample import Sample, scan_jsonl

_SILENCE = 1e-4  # largest sample of a sound that nobody hears (-80 dB of full scale)


def check(
    path: str | os.PathLike, settings: MediaSettings | None = None, workers: int = 2, progress: bool = True
) -> list[str]:
    """Reads every row and decodes every clip of a JSON Lines file of samples.

    Args:
        path: the file.
        settings: how clips will be decoded; sound is checked to its end, whatever `audio_seconds` is.
        workers: threads that decode.
        progress: show a bar.

    Returns:
        One line a finding, by row and field, in the order of the rows. Lines that begin with "note: " (silent
        sound, sound longer than the policy hears) are worth knowing; all others are problems. Empty: all is
        well.

    Raises:
        UserError: the file itself is missing or unreadable.
    """
    settings = settings or MediaSettings()
    rows, found = scan_jsonl(path)
    findings = [(_row_of(problem), problem) for problem in found]
    if not rows and not found:
        findings.append((0, "the file has no rows"))
    for number, sample in rows:
        findings += [(number, f"row {number}, {problem}") for problem in _check_row(sample)]
    clips = sorted({(sample.video or "", sample.audio or "") for _, sample in rows})
    results: dict[tuple[str, str], tuple[str | None, float | None, float]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        whole = dataclasses.replace(settings, audio_seconds=None)
        checked = pool.map(lambda clip: _check_clip(clip[0], clip[1], whole), clips)
        bar = tqdm(checked, total=len(clips), desc="check", unit="clip", disable=not progress)
        results.update(zip(clips, bar, strict=True))
    long = 0
    for number, sample in rows:
        problem, peak, seconds = results[sample.video or "", sample.audio or ""]
        if problem is not None:
            findings.append((number, f"row {number}, field {_field(sample, problem)}: {problem}"))
        if peak is not None and peak < _SILENCE:
            findings.append(
                (number, f"note: row {number}, field 'audio': {sample.audio}: is silent from start to end")
            )
        long += settings.audio_seconds is not None and seconds > settings.audio_seconds
    lines = [line for _, line in sorted(findings, key=lambda finding: finding[0])]
    if long:
        lines.append(
            f"note: the sound of {long} of {len(rows)} rows is longer than audio_seconds "
            f"({settings.audio_seconds:g}); the policy hears its first {settings.audio_seconds:g} s"
        )
    return lines


def _check_row(sample: Sample) -> Iterator[str]:
    if sample.video is None and sample.audio is None:
        yield "fields 'video' and 'audio': both are missing, so there is nothing to see or hear"
    for index, turn in enumerate(sample.turns):
        prefix = f"turns[{index}]." if len(sample.turns) > 1 else ""
        if not turn.answer.strip():
            yield f"field '{prefix}answer': is empty"
        if turn.options:
            if len(turn.options) == 1:
                yield f"field '{prefix}options': has one entry, so there is nothing to choose"
            if len({option.strip().casefold() for option in turn.options}) < len(turn.options):
                yield f"field '{prefix}options': names the same option twice"
            letters = [chr(65 + place) for place in range(len(turn.options))]
            if turn.answer.strip() and turn.answer not in (*turn.options, *letters):
                yield f"field '{prefix}answer': {turn.answer!r} is none of the options {list(turn.options)}"
        if turn.target is not None:
            parsed = steps.parse(turn.target)
            for name, segment in (
                ("a-think", parsed.audio),
                ("v-think", parsed.video),
                ("answer", parsed.answer),
            ):
                if segment.status != "ok":
                    yield f"field '{prefix}target': its <{name}> is {segment.status.replace('_', ' ')}"


def _check_clip(video: str, audio: str, settings: MediaSettings) -> tuple[str | None, float | None, float]:
    """(what is wrong, largest sample of the sound, its length in seconds)."""
    if not video and not audio:
        return None, None, 0.0
    try:
        clip = load_clip(video or None, audio or None, settings)
    except MediaError as error:
        return str(error), None, 0.0
    if clip.audio is None:
        return None, None, 0.0
    return None, float(np.abs(clip.audio).max(initial=0.0)), len(clip.audio) / settings.sampling_rate


def _field(sample: Sample, problem: str) -> str:
    """The field whose file the message begins with."""
    if sample.video is not None and sample.video == sample.audio:
        return "'audio'" if "has no audio track" in problem or "its audio track" in problem else "'video'"
    return (
        "'audio'" if sample.audio is not None and problem.startswith(f"{Path(sample.audio)}:") else "'video'"
    )


def _row_of(problem: str) -> int:
    """The number in "row 12, field ..."."""
    digits = problem.removeprefix("row ")
    return int(digits[: len(digits) - len(digits.lstrip("0123456789"))] or 0)
