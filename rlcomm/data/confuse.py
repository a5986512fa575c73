"""`rlcomm data confuse`: clips whose sound and picture disagree, made from anyone's clips.

    muted      one visible instrument is silenced: all stems but its own are mixed, so that others go on
               sounding; without stems the whole track is silenced
    modified   the whole sound is replaced by another: wind, rain, a drill, ...
    shifted    the sound is moved in time against the picture

The way of AV-ConfuseBench (RL-CoMM, arXiv 2511.10059). `rlcomm eval` reads what is written as it is:

    OUT/clips/*.mp4                      picture copied packet by packet, new AAC mono sound
    OUT/test/avconfuse/muted.json        official format, gold "no"
    OUT/test/avconfuse/control.json      the same for instruments that do sound, gold "yes"
    OUT/test/avconfuse/modified.json     official format
    OUT/test/shifted.json                {video_id, filename, seconds}
    OUT/test/{muted,control}.jsonl       the same questions as samples, to train on
    OUT/truth.json                       what is seen and heard in every clip

Stems are mixed as they are: give them in step with the picture, at the loudness they should have.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlcomm.data.confuse_inputs import apart, clips_of, instruments_of, sounds_of, stems_of
from rlcomm.data.decode import decode_audio
from rlcomm.data.media import MediaError
from rlcomm.data.probe import probe
from rlcomm.data.remux import replace_audio
from rlcomm.data.sample import Sample, Turn, read_text, report, write_jsonl
from rlcomm.data.sound import mix, own_rate, own_sound, replacement, shift
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

MODES = ("muted", "modified", "shifted")
# the benchmark's own wording (its "Is thera" read as "Is there")
MUTED_QUESTION = (
    "This is a video of audio corruption where some instrument sound is muted. Please answer:\n "
    "Is there a {} sound? \nYour answer can only be 'yes' or 'no'"
)
MODIFIED_QUESTION = (
    "Describe what you see and what you hear. The output format should be as follows: Based on the "
    "video...\nBased on the audio..."
)
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass
class ConfuseReport:
    """What `confuse` did: the folder, clips written, and what was left out and why."""

    out: str
    clips: int
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.clips} clip{'s' * (self.clips != 1)} written"]
        if self.problems:
            lines[0] += f", {len(self.problems)} left out:"
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems[:20])])


@dataclass(frozen=True)
class _Job:
    """One clip to write and what will be said about it."""

    source: Path
    name: str
    truth: dict[str, Any]
    audio: Any  # () -> (N,) float32 and its rate; called in the worker
    rows: dict[str, list[dict]]


def confuse(
    clips: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    mode: str,
    *,
    stems: str | os.PathLike | Mapping[str, Mapping[str, str | os.PathLike]] | None = None,
    sounds: str | os.PathLike | Mapping[str, str | os.PathLike] | None = None,
    instruments: str | os.PathLike | Mapping[str, Sequence[str]] | None = None,
    seconds: float = 1.0,
    limit: int | None = None,
    workers: int = 2,
    progress: bool = True,
) -> ConfuseReport:
    """Makes the variants of one mode; further modes may be written into the same `out`.

    Args:
        clips: a folder, a clip, a JSON Lines file of samples (whose `meta["visible"]` names the instruments),
            or a list of clips. The id of a clip is its file name without the extension.
        out: folder to write to.
        mode: "muted", "modified" or "shifted".
        stems: of muted: folder `<clip id>/<instrument>.wav` (ogg, mp3, flac, m4a, ...), or {clip id:
            {instrument: file}}. Every stem gives one clip without it. None: the whole track is silenced and
            the control is the same clip with its sound.
        sounds: of modified: folder of `<sound type>.wav`, or {sound type: file}. A sound is looped or cut to
            the clip's length and brought to the clip's loudness (RMS), without clipping.
        instruments: what is visible in each clip: JSON file or mapping {clip id: [names]}. Needed for muted
            without stems; elsewhere it completes the annotations.
        seconds: of shifted: how much later the sound comes; negative: earlier. The gap is silent.
        limit: only the first so many clips.
        workers: threads.
        progress: show a bar.

    Returns:
        A report; clips that could not be made are listed in it, all others are written.

    Raises:
        UserError: wrong arguments, not one clip could be made, or `out` holds this mode's variants of other
            clips, whose annotations would be lost.
    """
    _check(mode, seconds, workers, limit)
    sources, visible = clips_of(clips)
    visible |= instruments_of(instruments)
    sources, same = apart(sources[:limit])
    jobs, problems = _jobs(sources, visible, mode, stems, sounds, seconds)
    problems += same
    folder = Path(out)
    _keeps_the_rest(folder, mode, jobs)

    done = _write(jobs, folder, mode, workers, progress, problems)
    if not done:
        raise UserError(
            report(
                f"{mode} clips of {clips if isinstance(clips, (str, os.PathLike)) else 'the list'}",
                problems or ["there are no clips"],
            )
        )
    _annotate(folder, mode, done)
    return ConfuseReport(os.fspath(out), len(done), problems)


def _check(mode: str, seconds: float, workers: int, limit: int | None) -> None:
    if mode not in MODES:
        raise UserError(f"mode: {mode!r} is not known; give one of {', '.join(MODES)}.")
    if not math.isfinite(seconds):
        raise UserError(f"seconds: {seconds} is no length of time; give a number, such as 1 or -0.5.")
    if workers < 1 or (limit is not None and limit < 1):
        raise UserError(
            f"workers: {workers}, limit: {limit}; nothing would be done, so give numbers above 0."
        )


def _write(
    jobs: Sequence[_Job], folder: Path, mode: str, workers: int, progress: bool, problems: list[str]
) -> list[_Job]:
    """Writes the clips, so many at a time; what could not be made is added to the problems."""

    def write(job: _Job) -> str | None:
        try:
            audio, rate = job.audio()
            replace_audio(job.source, folder / "clips" / f"{job.name}.mp4", audio, rate)
        except MediaError as error:
            return str(error)
        return None

    done = []
    with ThreadPoolExecutor(workers) as pool:
        results = tqdm(
            pool.map(write, jobs), total=len(jobs), desc=f"confuse {mode}", unit="clip", disable=not progress
        )
        for job, problem in zip(jobs, results, strict=True):
            if problem is None:
                done.append(job)
            else:
                problems.append(f"clip {job.source.stem}: {problem}")
    return done


# --------------------------------------------------------------------------------------------------- inside


def _jobs(
    sources: Sequence[Path],
    visible: Mapping[str, Sequence[str]],
    mode: str,
    stems: Any,
    sounds: Any,
    seconds: float,
) -> tuple[list[_Job], list[str]]:
    if mode == "modified":
        return _modified(sources, visible, sounds_of(sounds))
    if mode == "shifted":
        if seconds == 0:
            raise UserError(
                "seconds: 0 would leave the sound where it is; give how much later (or earlier) it comes."
            )
        return [
            _Job(
                source,
                f"{source.stem}_shift{seconds:+g}",
                _truth(visible[source.stem], None, None) if source.stem in visible else {},
                lambda source=source: (shift(*own_sound(source), seconds), own_rate(source)),
                {
                    "shifted": [
                        {
                            "video_id": source.stem,
                            "filename": f"{source.stem}_shift{seconds:+g}.mp4",
                            "seconds": seconds,
                        }
                    ]
                },
            )
            for source in sources
        ], []
    return _muted_stems(sources, stems_of(stems)) if stems is not None else _muted_whole(sources, visible)


def _muted_stems(
    sources: Sequence[Path], stems: Mapping[str, Mapping[str, Path]]
) -> tuple[list[_Job], list[str]]:
    jobs, problems = [], []
    for source in sources:
        parts = stems.get(source.stem, {})
        if len(parts) < 2:
            problems.append(
                f"clip {source.stem}: has {len(parts)} stems; at least two are needed, so that another "
                "instrument still sounds"
            )
            continue
        names = sorted(parts)
        for muted in names:
            name = f"{source.stem}_no_{muted}"
            rows = {
                "muted": [_muted_row(name, muted, "no", names)],
                "control": [_muted_row(name, other, "yes", names) for other in names if other != muted],
            }

            def audio(
                source: Path = source, muted: str = muted, parts: Mapping[str, Path] = parts
            ) -> tuple[np.ndarray, int]:
                rate = 48_000
                sounding = {name: decode_audio(path, rate) for name, path in parts.items()}
                return mix(sounding, muted, round(probe(source).seconds * rate)), rate

            jobs.append(
                _Job(source, name, _truth(names, [n for n in names if n != muted], muted), audio, rows)
            )
    return jobs, problems


def _muted_whole(
    sources: Sequence[Path], visible: Mapping[str, Sequence[str]]
) -> tuple[list[_Job], list[str]]:
    jobs, problems = [], []
    for source in sources:
        names = sorted(visible.get(source.stem, ()))
        if not names:
            problems.append(
                f"clip {source.stem}: nothing says which instruments it shows; name them in --instruments "
                "(JSON {clip id: [names]}), or give stems"
            )
            continue
        silent = f"{source.stem}_silent"
        jobs.append(
            _Job(
                source,
                silent,
                _truth(names, [], names[0] if len(names) == 1 else names),
                lambda source=source: (np.zeros_like(own_sound(source)[0]), own_rate(source)),
                {"muted": [_muted_row(silent, name, "no", names) for name in names]},
            )
        )
        # not the bare id, under which other modes look up their own truth
        sounding = f"{source.stem}_sounding"
        jobs.append(
            _Job(
                source,
                sounding,
                _truth(names, names, None),
                lambda source=source: own_sound(source),
                {"control": [_muted_row(sounding, name, "yes", names) for name in names]},
            )
        )
    return jobs, problems


def _modified(
    sources: Sequence[Path], visible: Mapping[str, Sequence[str]], sounds: Mapping[str, Path]
) -> tuple[list[_Job], list[str]]:
    jobs = []
    for source in sources:
        for sound, path in sounds.items():
            names = sorted(visible.get(source.stem, ()))
            name = f"combined_{source.stem}_{sound}"
            seen = f"Based on the video, {_listed(names)} can be seen. " if names else ""
            row = {
                "video_id": source.stem,
                "filename": f"{name}.mp4",
                "question": MODIFIED_QUESTION,
                "sound_type": sound,
                "annotation": f"{seen}Based on the audio, there is a sound of {sound}.",
            }

            def audio(source: Path = source, path: Path = path) -> tuple[np.ndarray, int]:
                original, rate = own_sound(source)
                return replacement(decode_audio(path, rate), original, rate), rate

            jobs.append(_Job(source, name, _truth(names, [], None, sound), audio, {"modified": [row]}))
    return jobs, []


def _annotations(folder: Path, name: str) -> Path:
    return folder / "test" / ("shifted.json" if name == "shifted" else f"avconfuse/{name}.json")


def _keeps_the_rest(folder: Path, mode: str, jobs: Sequence[_Job]) -> None:
    """Refuses to write over annotations of clips that this run does not make."""
    place = _annotations(folder, mode)
    if not place.is_file():
        return
    made = {row["video_id"] for job in jobs for row in job.rows.get(mode, [])}
    others = sorted({row["video_id"] for row in json.loads(read_text(place))} - made)
    if others:
        raise UserError(
            f"{place}: holds {mode} variants of clips that are not among these ({len(others)}, such as "
            f"{others[0]}), whose annotations would be lost; give another --out, or all clips at once."
        )


def _annotate(folder: Path, mode: str, jobs: Sequence[_Job]) -> None:
    """Writes the annotation files of one mode; truth.json keeps what other modes wrote."""
    rows: dict[str, list[dict]] = {}
    samples: dict[str, list[Sample]] = {}
    for job in jobs:
        for name, some in job.rows.items():
            rows.setdefault(name, []).extend(some)
            if mode == "muted":
                clip = os.fspath(folder / "clips" / f"{job.name}.mp4")
                for row in some:
                    turn = Turn(
                        f"Is there a {row['asked']} sound?", row["answer"], type="Audio-Visual/Existential"
                    )
                    samples.setdefault(name, []).append(
                        Sample(
                            f"{job.name}-{row['asked']}",
                            (turn,),
                            clip,
                            clip,
                            meta={"split": name, **job.truth},
                        )
                    )
    for name, some in rows.items():
        files.write_json(
            _annotations(folder, name),
            [{key: value for key, value in row.items() if key != "asked"} for row in some],
        )
    for name, rest in samples.items():
        write_jsonl(folder / "test" / f"{name}.jsonl", rest)
    truth = folder / "truth.json"
    known = json.loads(truth.read_text(encoding="utf-8")) if truth.is_file() else {}
    files.write_json(truth, known | {job.name: job.truth for job in jobs if job.truth})


def _truth(
    visible: Sequence[str],
    audible: Sequence[str] | None,
    muted: str | list[str] | None,
    ambient: str | None = None,
) -> dict[str, Any]:
    return {
        "visible": list(visible),
        "audible": list(visible if audible is None else audible),
        "muted": muted,
        "ambient": ambient,
    }


def _muted_row(video_id: str, asked: str, answer: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "question": MUTED_QUESTION.format(asked),
        "answer": answer,
        "instruments": ", ".join(names),
        "instruments_len": _WORDS[len(names)] if len(names) <= 10 else str(len(names)),
        "asked": asked,
    }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
