"""Frames and sound out of a media file (PyAV, no ffmpeg binary, no torch).

What every kind of file gives:

    has no audio track, sound asked for   MediaError, or zeros of the clip's length (`missing_audio: silence`)
    silent audio track                    zeros: silence is a sound like any other
    audio-only file asked for frames      MediaError; a cover picture is no video
    image file                            1 frame
    any rate, any channels                16 kHz mono: the mean of the channels, resampled
    any size, odd ones too                as it is, or scaled to height x width, or down to max_pixels
    rate, channels or size change midway  read on; frames get the size of the first
    a gap in the sound, a late sound      silence, so that what follows stays where the picture has it
    a late picture                        black until it comes
    sound and picture of other lengths    what is there of each; a last frame stays as long as its file says
    several audio tracks                  the one that players take
    junk or a bad packet between          passed over; more than a tenth of the packets: MediaError
    zero bytes, not media, playlists      MediaError
    cut off, where the container shows    MediaError (.mp4, .wav, .avi, .mkv, .webm: `data.whole`)
    a stream that ends before its header  MediaError
    NaN or infinite samples               MediaError
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from rlcomm.data.media import MediaError, MediaSettings, frame_size
from rlcomm.data.probe import (
    LATE,
    announced_end,
    decodable,
    end_of,
    is_image,
    opened,
    picture_of,
    sound_of,
    start_of,
)

_GAP = 0.1  # seconds without sound from which on silence is put where it belongs; below, timestamps jitter
_LATEST = 3600.0  # seconds that a sound may stay away (at its start, or in a gap) before it is refused
_BAD_SHARE = 0.1  # of the packets may be damaged, as ffmpeg and players skip them
_ASPECT = 200  # of a picture, width to height or the reverse: the image processors' own bound


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
        decodable(sound, path)
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
        decodable(picture, path)
        return _decode_picture(container, picture, settings, path)


class _Track:
    """Sound put together on clip time: (N,) float32 mono pieces at `rate`, from sample `start` on."""

    def __init__(self, rate: int, path: str | os.PathLike):
        self.rate, self.path = rate, path
        self.pieces: list[np.ndarray] = []
        self.start: int | None = None
        self.end = 0  # in samples of clip time
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple | None = None

    def add(self, frame: av.AudioFrame, time: float | None) -> None:
        """A decoded frame that begins at `time` (seconds of clip time; None: behind the one before)."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # the first one, or the stream changes midway
            self.flush()
            self._resampler, self._shape = av.AudioResampler(format="fltp", rate=self.rate), shape
        if self.start is None:
            self.start = self.end = round((time or 0.0) * self.rate)
        elif time is not None and time * self.rate - self.end > _GAP * self.rate + frame.samples:
            self.flush()
            self._resampler = av.AudioResampler(format="fltp", rate=self.rate)
            self._silence(round(time * self.rate) - self.end)
        assert self._resampler is not None
        self._append(self._resampler.resample(frame))

    def flush(self) -> None:
        """What the resampler still holds."""
        if self._resampler is not None:
            self._append(self._resampler.resample(None))

    def samples(self) -> np.ndarray:
        """All of it from clip time 0 on."""
        self.flush()
        start = self.start or 0
        if start > 0:
            self._check_wait(start)
            self.pieces.insert(0, np.zeros(start, np.float32))
        audio = np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.float32)
        return audio[-start:] if start < 0 else audio

    def _append(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self.pieces.append(frame.to_ndarray().mean(axis=0, dtype=np.float32))
            self.end += len(self.pieces[-1])

    def _silence(self, samples: int) -> None:
        if samples > 0:
            self._check_wait(samples)
            self.pieces.append(np.zeros(samples, np.float32))
            self.end += samples

    def _check_wait(self, samples: int) -> None:
        if samples > _LATEST * self.rate:
            raise MediaError(
                f"{self.path}: its sound is away for {samples / self.rate:.0f} s by its timestamps, more "
                "than an hour; convert the clip, so that they are right."
            )


def _decode_sound(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    rate: int,
    seconds: float | None,
    path: str | os.PathLike,
) -> np.ndarray:
    zero = start_of(container)
    track = _Track(rate, path)
    source_rate = sound.codec_context.sample_rate or rate
    limit = None if seconds is None else round(seconds * rate)
    stopped = False
    sound.codec_context.thread_count = 1
    for frame in decoded(container, sound, path):
        time = None if frame.time is None else frame.time - zero
        if limit is not None and time is not None and track.start is None and time * rate >= limit:
            return np.zeros(limit, np.float32)  # all that is heard lies before it starts
        track.add(frame, time)
        # two spare AAC frames, for the samples that the resampler still holds
        if limit is not None and track.end > limit + 2 * 2048 * rate / source_rate:
            stopped = True
            break
    if track.start is None:
        raise MediaError(
            f"{path}: its audio track holds no sound that can be decoded; copy, download or convert it again."
        )
    audio = track.samples()
    announced = announced_end(container, sound)
    if not stopped and announced is not None:
        # codecs fill their last frame with padding: end where the header says the track ends
        end = round(announced * rate)
        if 0 < len(audio) - end <= math.ceil(2048 * rate / source_rate):
            audio = audio[:end]
    audio = audio[:limit]
    if not np.isfinite(audio).all():
        raise MediaError(
            f"{path}: its sound holds samples that are no numbers (NaN or infinite); write it again from its "
            "source."
        )
    return np.clip(audio, -1.0, 1.0, out=np.ascontiguousarray(audio, np.float32))


def decoded(
    container: av.container.InputContainer, stream: av.stream.Stream, path: str | os.PathLike
) -> Iterator[Any]:
    """The frames of a stream; damaged packets are passed over, as ffmpeg does, as long as they are few.

    Raises:
        MediaError: they are not, or the packets end far before the stream does by its own header.
    """
    seen, bad, end = 0, 0, 0.0
    announced = announced_end(container, stream)
    for packet in container.demux(stream):
        seen += 1
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            bad += 1
    if bad > max(1, _BAD_SHARE * seen):
        raise MediaError(
            f"{path}: {bad} of {seen} packets of its {stream.type} cannot be decoded; it is damaged, so "
            "copy, download or convert it again."
        )
    end -= start_of(container)
    if announced is not None and end < announced - max(1.0, 0.1 * announced):  # headers are a little off
        raise MediaError(
            f"{path}: is cut off or damaged: its {stream.type} ends after {end:.2f} of {announced:.2f} s; "
            "copy or download it again."
        )


def _decode_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    settings: MediaSettings,
    path: str | os.PathLike,
) -> tuple[np.ndarray, float]:
    picture.codec_context.thread_count = 1
    if is_image(container):
        for frame in decoded(container, picture, path):
            return pixels_of(frame, _shown(frame, settings, path))[None], settings.fps
        raise MediaError(f"{path}: holds no picture that can be decoded; convert it again.")
    zero = start_of(container)
    length = end_of(container, picture, path)
    count, rate = max(1, round(length * settings.fps)), settings.fps
    if count > settings.max_frames:
        count, rate = settings.max_frames, settings.max_frames / length
    chosen: list[np.ndarray] = []
    previous, size = None, (0, 0)
    for frame in decoded(container, picture, path):
        time = (frame.time or 0.0) - zero
        if previous is None:
            size = _shown(frame, settings, path)
            if time > LATE:  # players show black until the picture comes
                early = min(count, math.ceil((time - 1e-3) * rate))
                chosen = [np.zeros((size[1], size[0], 3), np.uint8)] * early
        # frame k is the last one that started at or before k / rate
        while previous is not None and len(chosen) < count and len(chosen) / rate < time - 1e-3:
            chosen.append(pixels_of(previous, size))
        previous = frame
    if previous is None:
        raise MediaError(f"{path}: holds no frame that can be decoded; copy, download or convert it again.")
    if len(chosen) < count:
        chosen += [pixels_of(previous, size)] * (count - len(chosen))
    if len(chosen) % 2:
        chosen.append(chosen[-1])
    return np.stack(chosen), rate


def _shown(frame: av.VideoFrame, settings: MediaSettings, path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of the frames to give."""
    stored = upright(frame)
    width, height = frame_size(*stored, settings)
    if max(width, height) > _ASPECT * min(width, height):
        raise MediaError(
            f"{path}: its picture is {stored[0]} x {stored[1]} pixels, a side over {_ASPECT} times the "
            "other, which no model's image processor takes; crop it, or set media_height and media_width."
        )
    return width, height


def upright(frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) of a stored frame as it is shown: phones store upright clips lying down."""
    turned = round(frame.rotation / 90) % 2
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def pixels_of(frame: av.VideoFrame, shown: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the size (width, height) that is shown, turned upright."""
    quarters = round(frame.rotation / 90) % 4  # counterclockwise
    width, height = shown[::-1] if quarters % 2 else shown
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.rot90(pixels, quarters) if quarters else pixels
