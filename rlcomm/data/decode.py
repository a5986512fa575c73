"""Frames and sound out of a media file (PyAV, no ffmpeg binary, no torch).

What every kind of file gives:

    has no audio track, sound asked for   MediaError, or zeros of the clip's length (`missing_audio: silence`)
    silent audio track                    zeros: silence is a sound like any other
    audio-only file asked for frames      MediaError; a cover picture is no video
    image file                            1 frame
    any rate, any channels                16 kHz mono: the mean of the channels, resampled
    any size, odd ones too                as it is, or scaled to height x width, or down to max_pixels
    zero bytes, truncated, not media      MediaError
"""

import math
import os

import av
import numpy as np

from rlcomm.data.media import MediaError, MediaSettings, frame_size
from rlcomm.data.probe import is_image, opened, picture_of, seconds_of, sound_of, start_of


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
    with opened(path) as container:
        sound = sound_of(container)
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
    with opened(path) as container:
        picture = picture_of(container)
        if picture is None:
            raise MediaError(
                f"{path}: has no picture (an audio-only file), but its frames were asked for; give a "
                "video or an image, or leave the sample's video empty."
            )
        return _decode_picture(container, picture, settings, path)


def _cut_off(path: str | os.PathLike, got: float, announced: float) -> MediaError:
    return MediaError(f"{path}: is cut off after {got:.2f} of {announced:.2f} s; copy or download it again.")


def _check_length(path: str | os.PathLike, got: float, announced: float) -> None:
    """Raises where a clip ends far before its announced seconds; headers are often a little off."""
    if got < announced - max(1.0, 0.1 * announced):
        raise _cut_off(path, got, announced)


def _decode_sound(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    rate: int,
    seconds: float | None,
    path: str | os.PathLike,
) -> np.ndarray:
    zero = start_of(container)
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
    announced = seconds_of(container, sound)
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
    if is_image(container):
        for frame in container.decode(picture):
            return _pixels(frame, settings)[None], settings.fps
        raise MediaError(f"{path}: holds no picture that can be decoded; convert it again.")
    zero = start_of(container)
    length = seconds_of(container, picture) or _scan_length(path)
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
        height, width = frame_size(frame.height, frame.width, settings)
    else:
        width, height = frame_size(frame.width, frame.height, settings)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.rot90(pixels, quarters) if quarters else pixels


def _scan_length(path: str | os.PathLike) -> float:
    """Length in seconds of a picture whose header says nothing, from its packets."""
    with av.open(os.fspath(path)) as container:
        picture = picture_of(container)
        assert picture is not None
        assert picture.time_base is not None
        times = [
            packet.pts + (packet.duration or 0)
            for packet in container.demux(picture)
            if packet.pts is not None
        ]
        return max(0.0, float(max(times, default=0) * picture.time_base) - start_of(container))
