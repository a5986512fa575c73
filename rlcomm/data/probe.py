"""What a media file holds, read from its headers (PyAV): streams, lengths, where its clock starts."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import av

from rlcomm.data.media import MediaError
from rlcomm.data.whole import check_whole

LATE = 0.25
"""Seconds by which the picture must start behind the sound for the clip to begin with the sound; below that
it is the reordering of frames or an encoder's priming."""
DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS)
_LISTS = {
    "hls", "concat", "dash", "webm_dash_manifest", "sdp", "rtsp", "rtp", "sap", "hds", "smoothstreaming",
    "avs", "lavfi", "image2", "ffmetadata", "rtp_mpegts",
}  # fmt: skip
"""Formats that name other files or addresses (a playlist called clip.mp4): never opened."""
_EXACT = ("mov", "matroska", "wav", "w64", "flac", "ogg", "avi", "aiff", "nut", "asf")
"""Formats whose header gives the length; of the others (raw .aac, .mp3, .ts) ffmpeg guesses it from the bit
rate, so their packets are counted."""


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
    """

    has_video: bool
    has_audio: bool
    seconds: float
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    audio_rate: int | None = None


def probe(path: str | os.PathLike) -> Probe:
    """Reads what a media file holds.

    Args:
        path: any file ffmpeg knows.

    Raises:
        MediaError: missing, empty or not a media file.
    """
    with opened(path) as container:
        picture, sound = picture_of(container), sound_of(container)
        image = is_image(container)
        found = Probe(
            picture is not None,
            sound is not None,
            0.0 if image else max(end_of(container, picture, path), end_of(container, sound, path)),
        )
        if picture is not None:
            found.width, found.height = picture.codec_context.width, picture.codec_context.height
            found.fps = None if image or not picture.average_rate else float(picture.average_rate)
        if sound is not None:
            found.audio_rate = sound.codec_context.sample_rate
    return found


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Opens a local media file; whatever goes wrong inside becomes a MediaError that names it.

    ffmpeg gets the open file and not its name, so that no name is read as an address, a protocol or a
    pattern, and no playlist leads to other files.
    """
    size = stamp(path)[0]
    if size == 0:
        raise MediaError(f"{path}: is empty (zero bytes); copy or download it again.")
    try:
        with open(path, "rb") as file:
            check_whole(path, file, size)
            file.seek(0)
            with av.open(
                file,
                "r",
                metadata_errors="replace",
                buffer_size=1 << 20,
                options={"format_whitelist": _formats(), "protocol_whitelist": "file"},
            ) as container:
                yield container
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # of a file that is written meanwhile; said by files.replacing
        reason = error.strerror or type(error).__name__
        raise MediaError(
            f"{path}: cannot be decoded ({reason}); it is cut off, damaged or not a media file, so copy, "
            "download or convert it again."
        ) from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    except EOFError as error:
        raise MediaError(
            f"{path}: cannot be decoded (it ends at once); copy or download it again."
        ) from error


@cache
def _formats() -> str:
    return ",".join(sorted(av.formats_available - _LISTS))


def stamp(path: str | os.PathLike) -> tuple[int, int]:
    """(size in bytes, time of the last change in ns)."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: does not exist; check the path or fetch the clip.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path}: cannot be read ({reason}); check the path and its permissions.") from error
    if os.path.isdir(path):
        raise MediaError(f"{path}: is a folder; give a media file.")
    return status.st_size, status.st_mtime_ns


def picture_of(container: av.container.InputContainer) -> av.VideoStream | None:
    """The picture that a player shows: the default one, no cover of a song."""
    shown = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    default = [s for s in shown if s.disposition & av.stream.Disposition.default]
    return next(iter(default + shown), None)


def sound_of(container: av.container.InputContainer) -> av.AudioStream | None:
    """The sound that a player plays: ffmpeg's choice, which knows default and empty tracks."""
    if not container.streams.audio:
        return None
    best = container.streams.best("audio")
    return best if isinstance(best, av.AudioStream) else container.streams.audio[0]


def decodable(stream: av.stream.Stream, path: str | os.PathLike) -> None:
    """Raises where the codec of a stream is not known.

    Raises:
        MediaError: names the file.
    """
    if stream.codec_context is None:
        raise MediaError(
            f"{path}: its {stream.type} is in a codec that this build of ffmpeg cannot decode; convert "
            "the clip to an .mp4 of H.264 and AAC."
        )


def is_image(container: av.container.InputContainer) -> bool:
    """Whether the file is a still picture."""
    return container.format.name == "image2" or container.format.name.endswith("_pipe")


def end_of(
    container: av.container.InputContainer, stream: av.stream.Stream | None, path: str | os.PathLike
) -> float:
    """When a stream ends, in seconds of clip time; 0.0 without stream.

    As the header has it, where it is exact; else where its last packet ends.
    """
    if stream is None:
        return 0.0
    zero, announced = start_of(container), _announced(container, stream)
    return max(0.0, (_last_packet(path, stream.index) if announced is None else announced) - zero)


def announced_end(container: av.container.InputContainer, stream: av.stream.Stream) -> float | None:
    """`end_of` where the header gives it; None where it does not."""
    announced = _announced(container, stream)
    return None if announced is None else announced - start_of(container)


def _announced(container: av.container.InputContainer, stream: av.stream.Stream) -> float | None:
    """The end of a stream on the file's clock, by its header alone."""
    if not container.format.name.startswith(_EXACT):
        return None
    if "matroska" in container.format.name:  # the segment's length is that of its longest track
        words = stream.metadata.get("DURATION", "").split(":")
        try:
            end = 3600 * int(words[0]) + 60 * int(words[1]) + float(words[2])
        except (IndexError, ValueError):
            return None
        return end if end <= (container.duration or 0) / av.time_base + 0.1 else None
    if stream.duration is None or stream.time_base is None:
        return None
    return float((stream.duration + (stream.start_time or 0)) * stream.time_base)


def _last_packet(path: str | os.PathLike, index: int) -> float:
    """Where the last packet of a stream ends, in seconds on the file's clock."""
    with opened(path) as container:
        stream = container.streams[index]
        ends = [
            (packet.pts + (packet.duration or 0)) * packet.time_base
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
    return float(max(ends, default=0))


def start_of(container: av.container.InputContainer) -> float:
    """Clip time 0 on the file's clock, in seconds: the start of its picture, or of its sound where that is
    the only one or clearly earlier (players show black until the picture comes)."""
    starts = [
        None if one is None or one.start_time is None or one.time_base is None
        else float(one.start_time * one.time_base)
        for one in (picture_of(container), sound_of(container))
    ]  # fmt: skip
    picture, sound = starts
    if picture is None:
        return sound or 0.0
    return sound if sound is not None and sound < picture - LATE else picture
