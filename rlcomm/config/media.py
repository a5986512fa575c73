"""How clips are decoded."""

from dataclasses import dataclass, field

from rlcomm.data.media import MediaSettings
from rlcomm.utils.errors import UserError


@dataclass
class MediaFields:
    """How clips are decoded: `rlcomm.data.media.MediaSettings`, prefixed."""

    media_fps: float = field(default=2.0, metadata={"help": "frames a second"})
    media_max_frames: int = field(
        default=32, metadata={"help": "at most so many frames, over the whole clip"}
    )
    media_max_pixels: int = field(default=151_200, metadata={"help": "at most so many pixels a frame"})
    media_height: int | None = field(default=None, metadata={"help": "fixed frame height in pixels"})
    media_width: int | None = field(default=None, metadata={"help": "fixed frame width in pixels"})
    media_audio_seconds: float | None = field(
        default=30.0, metadata={"help": "the policy hears the first so many seconds"}
    )
    media_missing_audio: str = field(
        default="error", metadata={"help": "a clip without sound: error or silence"}
    )
    media_cache_dir: str | None = field(default=None, metadata={"help": "folder for decoded clips"})
    prompt_memory_mb: int = field(
        default=1024, metadata={"help": "encoded prompts kept in memory, megabytes"}
    )

    def media(self) -> MediaSettings:
        """The decoding settings, checked."""
        try:
            return self._media()
        except UserError as error:
            raise UserError(f"media_{error}") from error  # the recipe's name of the field

    def _media(self) -> MediaSettings:
        return MediaSettings(
            fps=self.media_fps, max_frames=self.media_max_frames, height=self.media_height,
            width=self.media_width, max_pixels=self.media_max_pixels, audio_seconds=self.media_audio_seconds,
            missing_audio=self.media_missing_audio,
        )  # fmt: skip
