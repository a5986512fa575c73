"""What a clip is and how it is decoded: settings, the decoded clip, and its size by arithmetic alone."""

import math
from dataclasses import dataclass

import numpy as np

from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


class MediaError(UserError):
    """A clip that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class MediaSettings:
    """How clips are decoded: the options, their limits and what they mean; recipes have them with `media_`.

    Raises:
        UserError: a value out of its limits.
    """

    fps: float = option(2.0, "frames a second of clip time", above=0)
    max_frames: int = option(
        32,
        "at most so many frames (they go in pairs); a longer clip is sampled evenly over its whole length",
        at_least=2,
        even=True,
    )
    height: int | None = option(
        None, "fixed frame height in pixels; null: the file's, or from the width by the aspect", above=0
    )
    width: int | None = option(None, "fixed frame width in pixels; null likewise", above=0)
    max_pixels: int = option(
        151_200, "at most so many pixels a frame where neither is fixed; the aspect is kept", above=0
    )
    audio_seconds: float | None = option(
        30.0, "the policy hears the first so many seconds; null: all", above=0
    )
    sampling_rate: int = option(16_000, "of the audio, in Hz", above=0)
    missing_audio: str = option(
        "error", "what a clip without an audio track gives", choices=("error", "silence")
    )

    def __post_init__(self) -> None:
        options.check(self)


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
