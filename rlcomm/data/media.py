"""What a clip is and how it is decoded: settings, the decoded clip, and its size by arithmetic alone."""

import math
from dataclasses import dataclass

import numpy as np

from rlcomm.utils.errors import UserError


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
    return (frames + frames % 2 if seconds else 1), *frame_size(width, height, settings), samples


def frame_size(width: int, height: int, settings: MediaSettings) -> tuple[int, int]:
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
