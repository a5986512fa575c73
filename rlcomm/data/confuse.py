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

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from rlcomm.data.media import MediaError, decode_audio, encode_audio, probe
from rlcomm.data.sample import Sample, Turn, read_jsonl, read_text, report, write_jsonl
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
_COPIED = ("h264", "hevc", "mpeg4", "av1", "vp9")  # codecs an .mp4 can hold; others are encoded anew
_SOUND_FILES = (".wav", ".ogg", ".mp3", ".flac", ".m4a", ".opus", ".aac", ".mp4")
_VIDEO_FILES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_QUIET_RMS = 0.1  # level of a replacement where the clip itself was silent (-20 dB of full scale)
_SEAM_SECONDS = 0.01
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS)


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

    Command line: `rlcomm data confuse CLIPS --mode muted|modified|shifted --out DIR [--stems DIR] [--sounds
    DIR] [--instruments FILE] [--seconds S] [--limit N] [--workers N]`.

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
    if mode not in MODES:
        raise UserError(f"mode: {mode!r} is not known; give one of {', '.join(MODES)}.")
    if not math.isfinite(seconds):
        raise UserError(f"seconds: {seconds} is no length of time; give a number, such as 1 or -0.5.")
    if workers < 1 or (limit is not None and limit < 1):
        raise UserError(
            f"workers: {workers}, limit: {limit}; nothing would be done, so give numbers above 0."
        )
    sources, visible = _clips(clips)
    visible |= _instruments(instruments)
    jobs, problems = _jobs(sources[:limit], visible, mode, stems, sounds, seconds)
    folder = Path(out)
    _keeps_the_rest(folder, mode, jobs)

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
    if not done:
        raise UserError(
            report(
                f"{mode} clips of {clips if isinstance(clips, (str, os.PathLike)) else 'the list'}",
                problems or ["there are no clips"],
            )
        )
    _annotate(folder, mode, done)
    return ConfuseReport(os.fspath(out), len(done), problems)


def replace_audio(
    source: str | os.PathLike, out: str | os.PathLike, audio: np.ndarray | None, rate: int
) -> None:
    """Writes `source` with another sound; the picture is copied, not encoded again, where .mp4 allows.

    Args:
        source: a clip with a picture.
        out: the .mp4 to write.
        audio: (N,) float32 mono in [-1, 1], starting with the picture; None: without an audio track.
        rate: of the audio, Hz.

    Raises:
        MediaError: `source` is missing, damaged or has no moving picture.
        UserError: the disk is full or the folder cannot be written.
    """
    found = probe(source)
    if not found.has_video or found.seconds == 0.0:
        raise MediaError(f"{source}: has no moving picture; give a video.")
    with files.replacing(out) as temporary:
        try:
            with (
                av.open(os.fspath(source)) as reader,
                av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as writer,
            ):
                picture = reader.streams.video[0]
                copied = picture.codec_context.name in _COPIED or picture.codec.canonical_name in _COPIED
                video = writer.add_stream_from_template(picture) if copied else _encoder(writer, picture)
                sound = None
                if audio is not None:
                    sound = writer.add_stream("aac", rate=rate, options={"b": "128k", "aac_coder": "fast"})
                    sound.layout = "mono"
                start = picture.start_time or 0
                for packet in reader.demux(picture):
                    if not copied:
                        for frame in packet.decode():
                            frame.pts = None if frame.pts is None else frame.pts - start
                            frame.pict_type = av.video.frame.PictureType.NONE
                            writer.mux(video.encode(frame))
                    elif packet.dts is not None:
                        packet.stream = video
                        packet.pts = None if packet.pts is None else packet.pts - start
                        packet.dts -= start
                        writer.mux(packet)
                if not copied:
                    writer.mux(video.encode(None))
                if sound is not None and audio is not None:
                    for packet in encode_audio(sound, audio, rate):
                        writer.mux(packet)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise  # said by files.replacing
            raise MediaError(
                f"{source}: its picture cannot be copied ({error.strerror}); convert the clip to an H.264 "
                ".mp4."
            ) from error


def shift(audio: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """(N,) the same length, `seconds` later (negative: earlier); the gap is silent."""
    samples = round(seconds * rate)
    shifted = np.zeros_like(audio)
    if samples >= 0:
        shifted[samples:] = audio[: len(audio) - samples] if samples < len(audio) else 0
    else:
        shifted[: max(0, len(audio) + samples)] = audio[-samples:]
    return shifted


def replacement(sound: np.ndarray, original: np.ndarray, rate: int) -> np.ndarray:
    """`sound` looped or cut to the length of `original` and brought to its RMS, (N,) float32 in [-1, 1].

    A loop's seams are cross-faded over 10 ms. Where the original is silent the level is -20 dB of full scale;
    where the matched sound would clip, it is as loud as it can be.
    """
    length = len(original)
    seam = min(round(_SEAM_SECONDS * rate), len(sound) // 4)
    looped = sound
    while len(looped) < length:
        ramp = np.linspace(0, 1, seam, dtype=np.float32)
        joint = looped[len(looped) - seam :] * (1 - ramp) + sound[:seam] * ramp
        looped = np.concatenate([looped[: len(looped) - seam], joint, sound[seam:]])
    looped = looped[:length]
    wanted = float(np.sqrt(np.mean(original.astype(np.float64) ** 2))) if length else 0.0
    level = float(np.sqrt(np.mean(looped.astype(np.float64) ** 2))) if length else 0.0
    gain = (wanted if wanted > 1e-4 else _QUIET_RMS) / max(level, 1e-9)
    peak = float(np.abs(looped).max(initial=0.0))
    return (looped * min(gain, 1 / max(peak, 1e-9))).astype(np.float32)


def mix(stems: Mapping[str, np.ndarray], without: str, length: int) -> np.ndarray:
    """Sum of all stems but `without`, (length,) float32 in [-1, 1].

    The gain is that of the full mix, so that the others are no louder for one being silent.
    """

    def total(names: Sequence[str]) -> np.ndarray:
        summed = np.zeros(length, np.float32)
        for name in names:
            part = stems[name][:length]
            summed[: len(part)] += part
        return summed

    gain = 1 / max(1.0, float(np.abs(total(list(stems))).max(initial=0.0)))
    return np.clip(total([name for name in stems if name != without]) * gain, -1, 1)


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
        return _modified(sources, visible, _sounds(sounds))
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
                lambda source=source: (shift(*_own(source), seconds), _rate(source)),
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
    return _muted_stems(sources, _stems(stems)) if stems is not None else _muted_whole(sources, visible)


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
                lambda source=source: (np.zeros_like(_own(source)[0]), _rate(source)),
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
                lambda source=source: _own(source),
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
                original, rate = _own(source)
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


def _rate(source: Path) -> int:
    """Sampling rate to write: the clip's own where AAC knows it, else 48 kHz."""
    rate = probe(source).audio_rate
    return rate if rate in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000) else 48_000


def _own(source: Path) -> tuple[np.ndarray, int]:
    """The clip's own sound at the rate to write, as long as its picture; silence where it has no track."""
    found, rate = probe(source), _rate(source)
    length = round(found.seconds * rate)
    if not found.has_audio:
        return np.zeros(length, np.float32), rate
    audio = decode_audio(source, rate)
    return np.pad(audio, (0, max(0, length - len(audio)))), rate


def _encoder(writer: av.container.OutputContainer, picture: av.VideoStream) -> av.VideoStream:
    rate = picture.average_rate or Fraction(25)
    video = writer.add_stream(
        "libx264", rate=rate, options={"preset": "veryfast", "crf": "18", "threads": "1"}
    )
    video.width, video.height = (
        side - side % 2 for side in (picture.codec_context.width, picture.codec_context.height)
    )
    video.pix_fmt = "yuv420p"
    if picture.time_base is not None:
        video.codec_context.time_base = picture.time_base
    return video


def _clips(clips: Any) -> tuple[list[Path], dict[str, Sequence[str]]]:
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


def _instruments(given: Any) -> dict[str, Sequence[str]]:
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


def _stems(given: Any) -> dict[str, dict[str, Path]]:
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


def _sounds(given: Any) -> dict[str, Path]:
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
