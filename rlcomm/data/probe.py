"""What a media file holds, read from its headers (PyAV): streams, lengths, where its clock starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av

from rlcomm.data.media import MediaError


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
            0.0 if image else max(seconds_of(container, picture), seconds_of(container, sound)),
        )
        if picture is not None:
            found.width, found.height = picture.codec_context.width, picture.codec_context.height
            found.fps = None if image or not picture.average_rate else float(picture.average_rate)
        if sound is not None:
            found.audio_rate = sound.codec_context.sample_rate
    return found


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Opens a media file; whatever goes wrong inside becomes a MediaError that names it."""
    size = stamp(path)[0]
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


def stamp(path: str | os.PathLike) -> tuple[int, int]:
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


def picture_of(container: av.container.InputContainer) -> av.VideoStream | None:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def sound_of(container: av.container.InputContainer) -> av.AudioStream | None:
    return container.streams.audio[0] if container.streams.audio else None


def is_image(container: av.container.InputContainer) -> bool:
    return container.format.name == "image2" or container.format.name.endswith("_pipe")


def seconds_of(container: av.container.InputContainer, stream: av.stream.Stream | None) -> float:
    """Length of a stream as its file announces it; 0.0 where it says nothing."""
    if stream is None:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def start_of(container: av.container.InputContainer) -> float:
    """Clip time 0 on the file's clock: the start of its picture, else of its sound, in seconds."""
    stream = picture_of(container) or sound_of(container)
    if stream is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


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
