"""Frames and sound of a clip: decoded, checked and cached; and written (PyAV, no ffmpeg binary, no torch).

What every kind of file gives:

    has no audio track, sound asked for   MediaError, or zeros of the clip's length (`missing_audio: silence`)
    silent audio track                    zeros: silence is a sound like any other
    audio-only file asked for frames      MediaError; a cover picture is no video
    image file                            1 frame
    any rate, any channels                16 kHz mono: the mean of the channels, resampled
    any size, odd ones too                as it is, or scaled to height x width, or down to max_pixels
    zero bytes, truncated, not media      MediaError
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import wave
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from rlcomm.utils.errors import UserError
from rlcomm.utils.files import replacing

_CACHE_VERSION = 1  # part of the cache key: raise it whenever decoding changes
_CRF = "18"


class MediaError(UserError):
    """A clip that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class MediaSettings:
    """How clips are decoded.

    Attributes:
        fps: frames a second of clip time, > 0.
        max_frames: at most this many frames (even, >= 2); a longer clip is sampled evenly over its whole
            length, at a lower rate.
        height: frame height in pixels; None: as in the file, within `max_pixels` (or from `width` by the
            aspect).
        width: frame width in pixels; None likewise.
        max_pixels: bound on height x width where neither is set; the aspect is kept.
        audio_seconds: the policy hears the first so many seconds; None: all.
        sampling_rate: of the audio, in Hz.
        missing_audio: what a clip whose sound was asked for but which has no audio track gives: "error" or
            "silence".
    """

    fps: float = 2.0
    max_frames: int = 32
    height: int | None = None
    width: int | None = None
    max_pixels: int = 151_200
    audio_seconds: float | None = 30.0
    sampling_rate: int = 16_000
    missing_audio: str = "error"

    def __post_init__(self) -> None:
        wrong = [
            (self.fps > 0, "fps", "frames a second must be above 0"),
            (
                self.max_frames >= 2 and self.max_frames % 2 == 0,
                "max_frames",
                "frames go in pairs (temporal patch 2), so it must be even and at least 2",
            ),
            (self.height is None or self.height > 0, "height", "pixels must be above 0"),
            (self.width is None or self.width > 0, "width", "pixels must be above 0"),
            (self.max_pixels > 0, "max_pixels", "pixels must be above 0"),
            (
                self.audio_seconds is None or self.audio_seconds > 0,
                "audio_seconds",
                "seconds must be above 0",
            ),
            (self.sampling_rate > 0, "sampling_rate", "the rate in Hz must be above 0"),
            (self.missing_audio in ("error", "silence"), "missing_audio", "it is error or silence"),
        ]
        for fine, name, why in wrong:
            if not fine:
                raise UserError(f"{name}: {getattr(self, name)!r} was set; {why}; change it in the recipe.")


@dataclass
class Clip:
    """A decoded clip.

    Attributes:
        frames: (F, H, W, 3) uint8 RGB; F is even and >= 2 for a video, 1 for an image; None: no picture asked
            for.
        fps: true rate of `frames` in frames per second of clip time.
        audio: (N,) float32 mono in [-1, 1] at `sampling_rate`, starting at clip time 0; None: no sound asked
            for.
    """

    frames: np.ndarray | None
    fps: float
    audio: np.ndarray | None


@dataclass
class Probe:
    """What a file holds, read from its headers.

    Attributes:
        has_video: it has a picture (a cover picture of a song does not count).
        has_audio: it has an audio track.
        seconds: length of the longer of the two; 0.0 for an image.
        width: pixels; None without picture.
        height: pixels; None without picture.
        fps: mean frame rate; None without picture or for an image.
        audio_rate: Hz; None without audio.
        audio_peak: largest absolute sample in [0, 1]; None unless asked for or without audio.
    """

    has_video: bool
    has_audio: bool
    seconds: float
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    audio_rate: int | None = None
    audio_peak: float | None = None


# --------------------------------------------------------------------------------------------------- reading


def probe(path: str | os.PathLike, peak: bool = False) -> Probe:
    """Reads what a media file holds.

    Args:
        path: any file ffmpeg knows.
        peak: decode all of the sound and give its largest absolute sample.

    Raises:
        MediaError: missing, empty or not a media file.
    """
    with _opened(path) as container:
        picture, sound = _picture(container), _sound(container)
        image = _is_image(container)
        found = Probe(
            picture is not None,
            sound is not None,
            0.0 if image else max(_seconds(container, picture), _seconds(container, sound)),
        )
        if picture is not None:
            found.width, found.height = picture.codec_context.width, picture.codec_context.height
            found.fps = None if image or not picture.average_rate else float(picture.average_rate)
        if sound is not None:
            found.audio_rate = sound.codec_context.sample_rate
    if peak and found.has_audio:
        audio = decode_audio(path, found.audio_rate or 16_000)
        found.audio_peak = float(np.abs(audio).max(initial=0.0))
    return found


def load_clip(
    video: str | os.PathLike | None,
    audio: str | os.PathLike | None,
    settings: MediaSettings,
    cache_dir: str | os.PathLike | None = None,
) -> Clip:
    """Decodes what a sample shows and plays.

    Args:
        video: file whose frames are shown; None: no picture.
        audio: file whose sound is heard; None: no sound.
        settings: rates, sizes, lengths.
        cache_dir: keep decoded clips here, keyed by the bytes of the files and the settings, so that a
            changed file or setting is never read from it; safe under several processes. None: decode every
            time.

    Raises:
        MediaError: a file is missing, empty, damaged, cut off, or lacks what was asked of it.
    """
    if cache_dir is None:
        return _decode(video, audio, settings)
    place = Path(cache_dir) / f"{cache_key(video, audio, settings)}.npz"
    cached = _read_cached(place)
    if cached is None:
        cached = _decode(video, audio, settings)
        arrays = {"fps": np.float64(cached.fps)}
        arrays |= {
            name: value for name in ("frames", "audio") if (value := getattr(cached, name)) is not None
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        with replacing(place) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    return cached


def cache_key(
    video: str | os.PathLike | None, audio: str | os.PathLike | None, settings: MediaSettings
) -> str:
    """Hex digest of the bytes of both files and of the settings.

    Raises:
        MediaError: a file is missing or cannot be read.
    """
    digests = [None if path is None else _content(os.fspath(path), *_stamp(path)) for path in (video, audio)]
    text = json.dumps([_CACHE_VERSION, digests, dataclasses.asdict(settings)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def expected(
    seconds: float, width: int | None, height: int | None, settings: MediaSettings
) -> tuple[int, int, int, int]:
    """What `load_clip` gives for a clip of this length and size, by arithmetic alone.

    Args:
        seconds: length of the clip; 0 for an image.
        width: of its picture in pixels; None: no picture.
        height: likewise.
        settings: rates, sizes, lengths.

    Returns:
        Frames, their width and height (all 0 without picture), samples of the sound.
    """
    heard = seconds if settings.audio_seconds is None else min(seconds, settings.audio_seconds)
    samples = round(heard * settings.sampling_rate)
    if width is None or height is None:
        return 0, 0, 0, samples
    frames = min(max(1, round(seconds * settings.fps)), settings.max_frames)
    return (frames + frames % 2 if seconds else 1), *_size(width, height, settings), samples


def decode_audio(path: str | os.PathLike, rate: int, seconds: float | None = None) -> np.ndarray:
    """The sound of a file from clip time 0, (N,) float32 mono in [-1, 1] at `rate` Hz.

    Time 0 is the start of the clip, not of its audio track: a track that starts late is preceded by zeros,
    encoder priming before time 0 is dropped. Channels are averaged (a plain downmix would raise the level by
    3 dB).

    Args:
        path: any file with an audio track.
        rate: sampling rate to give.
        seconds: stop after so many; None: all.

    Raises:
        MediaError: missing, empty, damaged, cut off or without audio track.
    """
    with _opened(path) as container:
        sound = _sound(container)
        if sound is None:
            raise MediaError(
                f"{path}: has no audio track, but its sound was asked for; give a clip with sound, leave "
                "the sample's audio empty, or set missing_audio: silence."
            )
        return _decode_sound(container, sound, rate, seconds, path)


def decode_frames(path: str | os.PathLike, settings: MediaSettings) -> tuple[np.ndarray, float]:
    """Frames of a file evenly over its length: ((F, H, W, 3) uint8 RGB, their rate in Hz).

    Frame k is the one on screen at k / rate. Non-square pixels are taken as square.

    Raises:
        MediaError: missing, empty, damaged, cut off or without picture.
    """
    with _opened(path) as container:
        picture = _picture(container)
        if picture is None:
            raise MediaError(
                f"{path}: has no picture (an audio-only file), but its frames were asked for; give a "
                "video or an image, or leave the sample's video empty."
            )
        return _decode_picture(container, picture, settings, path)


def _decode(
    video: str | os.PathLike | None, audio: str | os.PathLike | None, settings: MediaSettings
) -> Clip:
    frames, fps = (None, settings.fps) if video is None else decode_frames(video, settings)
    if audio is None:
        return Clip(frames, fps, None)
    if settings.missing_audio == "silence":
        found = probe(audio)
        if not found.has_audio:
            length = found.seconds or (0 if frames is None else len(frames) / fps)
            length = length if settings.audio_seconds is None else min(length, settings.audio_seconds)
            return Clip(frames, fps, np.zeros(max(1, round(length * settings.sampling_rate)), np.float32))
    return Clip(frames, fps, decode_audio(audio, settings.sampling_rate, settings.audio_seconds))


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Opens a media file; whatever goes wrong inside becomes a MediaError that names it."""
    size = _stamp(path)[0]
    if size == 0:
        raise MediaError(f"{path}: is empty (zero bytes); copy or download it again.")
    _check_whole(path, size)
    try:
        with av.open(os.fspath(path)) as container:
            yield container
    except (av.error.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError(
            f"{path}: cannot be decoded ({reason}); it is cut off, damaged or not a media file, so copy, "
            "download or convert it again."
        ) from error


def _stamp(path: str | os.PathLike) -> tuple[int, int]:
    """(size in bytes, time of the last change in ns)."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: does not exist; check the path or fetch the clip.") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    if os.path.isdir(path):
        raise MediaError(f"{path}: is a folder; give a media file.")
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=100_000)
def _content(path: str, size: int, changed: int) -> str:
    """Digest of a file's bytes; remembered while size and time of change stay the same."""
    digest = hashlib.blake2b(digest_size=20)
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    return digest.hexdigest()


def _read_cached(place: Path) -> Clip | None:
    try:
        with np.load(place) as arrays:
            return Clip(arrays.get("frames"), float(arrays["fps"]), arrays.get("audio"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # a damaged entry is decoded and written anew


def _picture(container: av.container.InputContainer) -> av.VideoStream | None:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def _sound(container: av.container.InputContainer) -> av.AudioStream | None:
    return container.streams.audio[0] if container.streams.audio else None


def _is_image(container: av.container.InputContainer) -> bool:
    return container.format.name == "image2" or container.format.name.endswith("_pipe")


def _seconds(container: av.container.InputContainer, stream: av.stream.Stream | None) -> float:
    """Length of a stream as its file announces it; 0.0 where it says nothing."""
    if stream is None:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _start(container: av.container.InputContainer) -> float:
    """Clip time 0 on the file's clock: the start of its picture, else of its sound, in seconds."""
    stream = _picture(container) or _sound(container)
    if stream is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _cut_off(path: str | os.PathLike, got: float, announced: float) -> MediaError:
    return MediaError(f"{path}: is cut off after {got:.2f} of {announced:.2f} s; copy or download it again.")


def _check_length(path: str | os.PathLike, got: float, announced: float) -> None:
    """Raises where a clip ends far before its announced seconds; headers are often a little off."""
    if got < announced - max(1.0, 0.1 * announced):
        raise _cut_off(path, got, announced)


def _check_whole(path: str | os.PathLike, size: int) -> None:
    """Raises where an .mp4 or RIFF file (wav, avi) is shorter than it says; ffmpeg would decode the rest."""
    with open(path, "rb") as stream:
        head = stream.read(16)
        end = 0
        if head[:4] == b"RIFF":
            length = int.from_bytes(head[4:8], "little")
            end = 0 if length == 0xFFFFFFFF else 8 + length  # all ones: written to a pipe, length unknown
        # boxes of an .mp4, the first one is ftyp
        while head[4:8].isalnum() and head[:4] != b"RIFF" and end < size:
            if end == 0 and head[4:8] != b"ftyp":
                break
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            end += length or size - end  # 0: up to the end of the file
            stream.seek(end)
            head = stream.read(16)
    if end > size:
        raise MediaError(f"{path}: is cut off ({size} of {end} bytes); copy or download it again.")


def _decode_sound(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    rate: int,
    seconds: float | None,
    path: str | os.PathLike,
) -> np.ndarray:
    zero = _start(container)
    resampler = av.AudioResampler(format="fltp", rate=rate)
    pieces: list[np.ndarray] = []
    source_rate = sound.codec_context.sample_rate or rate
    limit = None if seconds is None else round(seconds * rate)
    first: float | None = None  # time of the first decoded sample
    got, stopped = 0, False
    sound.codec_context.thread_count = 1
    for packet in container.demux(sound):
        for frame in packet.decode():
            if first is None:
                first = frame.time if frame.time is not None else zero
            for part in resampler.resample(frame):
                piece = part.to_ndarray().mean(axis=0, dtype=np.float32)
                pieces.append(piece)
                got += len(piece)
        # two spare AAC frames, for the samples that the resampler still holds and those before time 0
        if limit is not None and got > limit + (zero - (first or 0.0)) * rate + 2 * 2048 * rate / source_rate:
            stopped = True
            break
    if first is None:
        raise MediaError(
            f"{path}: its audio track holds no sound that can be decoded; copy, download or convert it again."
        )
    pieces += [part.to_ndarray().mean(axis=0, dtype=np.float32) for part in resampler.resample(None)]
    audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    announced = _seconds(container, sound)
    if not stopped:
        _check_length(path, len(audio) / rate, announced)
        # codecs fill their last frame with padding: end where the header says the track ends
        end = round(announced * rate)
        if 0 < len(audio) - end <= math.ceil(2048 * rate / source_rate):
            audio = audio[:end]
    offset = round((first - zero) * rate)
    audio = np.concatenate([np.zeros(offset, np.float32), audio]) if offset > 0 else audio[-offset:]
    audio = audio[:limit]
    return np.clip(audio, -1.0, 1.0, out=np.ascontiguousarray(audio, np.float32))


def _decode_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    settings: MediaSettings,
    path: str | os.PathLike,
) -> tuple[np.ndarray, float]:
    picture.codec_context.thread_count = 1
    if _is_image(container):
        for frame in container.decode(picture):
            return _pixels(frame, settings)[None], settings.fps
        raise MediaError(f"{path}: holds no picture that can be decoded; convert it again.")
    zero = _start(container)
    length = _seconds(container, picture) or _scan_length(path)
    count = max(1, round(length * settings.fps))
    rate = settings.fps
    if count > settings.max_frames:
        count, rate = settings.max_frames, settings.max_frames / length
    chosen: list[np.ndarray] = []
    previous = None
    end = 0.0
    step = 1 / float(picture.average_rate) if picture.average_rate else 0.0
    for packet in container.demux(picture):
        for frame in packet.decode():
            time = (frame.time or 0.0) - zero
            end = max(end, time + step)
            # frame k is the last one that started at or before k / rate
            while previous is not None and len(chosen) < count and len(chosen) / rate < time - 1e-3:
                chosen.append(_pixels(previous, settings))
            previous = frame
    if previous is None:
        raise MediaError(f"{path}: holds no frame that can be decoded; copy, download or convert it again.")
    _check_length(path, end, length)
    if len(chosen) < count:
        last = _pixels(previous, settings)
        chosen += [last] * (count - len(chosen))
    if len(chosen) % 2:
        chosen.append(chosen[-1])
    return np.stack(chosen), rate


def _pixels(frame: av.VideoFrame, settings: MediaSettings) -> np.ndarray:
    """(H, W, 3) uint8 RGB as shown: phones store upright clips lying down, with a rotation."""
    quarters = round(frame.rotation / 90) % 4  # counterclockwise
    if quarters % 2:
        height, width = _size(frame.height, frame.width, settings)
    else:
        width, height = _size(frame.width, frame.height, settings)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.rot90(pixels, quarters) if quarters else pixels


def _size(width: int, height: int, settings: MediaSettings) -> tuple[int, int]:
    """(width, height) of the frames to give, by the settings."""
    if settings.width and settings.height:
        return settings.width, settings.height
    if settings.width:
        return settings.width, max(1, round(height * settings.width / width))
    if settings.height:
        return max(1, round(width * settings.height / height)), settings.height
    scale = math.sqrt(settings.max_pixels / (width * height))
    if scale >= 1:
        return width, height
    return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))


def _scan_length(path: str | os.PathLike) -> float:
    """Length in seconds of a picture whose header says nothing, from its packets."""
    with av.open(os.fspath(path)) as container:
        picture = _picture(container)
        assert picture is not None
        assert picture.time_base is not None
        times = [
            packet.pts + (packet.duration or 0)
            for packet in container.demux(picture)
            if packet.pts is not None
        ]
        return max(0.0, float(max(times, default=0) * picture.time_base) - _start(container))


# --------------------------------------------------------------------------------------------------- writing


def write_clip(
    path: str | os.PathLike, frames: np.ndarray, fps: float, audio: np.ndarray | None, rate: int = 16_000
) -> None:
    """Writes an H.264 + AAC .mp4 that plays in a browser page; the same input gives the same bytes.

    Args:
        path: where; written beside and renamed.
        frames: (F, H, W, 3) uint8 RGB. Odd heights and widths get one more row or column (4:2:0 colour), a
            copy of the last.
        fps: frames a second.
        audio: (N,) float32 mono in [-1, 1]; None: no audio track.
        rate: of the audio, Hz.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    step = Fraction(fps).limit_denominator(100_000)
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        video = container.add_stream(
            "libx264",
            rate=step,
            options={
                "preset": "veryfast",
                "crf": _CRF,
                "threads": "1",
                "x264-params": "rc-lookahead=0:sync-lookahead=0",
            },
        )
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        sound = None
        if audio is not None:
            sound = container.add_stream("aac", rate=rate, options={"b": "64k", "aac_coder": "fast"})
            sound.layout = "mono"
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = index, 1 / step
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            for packet in encode_audio(sound, audio, rate):
                container.mux(packet)


def encode_audio(stream: av.AudioStream, audio: np.ndarray, rate: int) -> Iterator[av.Packet]:
    """Packets of (N,) float32 mono `audio` for an output stream, its first sample at time 0."""
    samples = np.ascontiguousarray(np.clip(audio, -1, 1), np.float32)[None]
    if samples.shape[1]:
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_audio(path: str | os.PathLike, audio: np.ndarray, rate: int) -> None:
    """Writes (N,) float32 mono `audio` in [-1, 1] as 16-bit PCM .wav.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    sound = wav_bytes(audio, rate)
    with replacing(path) as temporary:
        temporary.write_bytes(sound)


def wav_bytes(audio: np.ndarray, rate: int) -> bytes:
    """(N,) float32 mono `audio` in [-1, 1] as a 16-bit PCM .wav file of `rate` Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.round(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
