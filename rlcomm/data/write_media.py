"""Clips and sounds written to files that play in a browser page (PyAV, no ffmpeg binary)."""

import io
import os
import wave
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from rlcomm.utils.files import replacing

_CRF = "18"


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
