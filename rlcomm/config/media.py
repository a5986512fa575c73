"""How clips are decoded: the options of `rlcomm.data.media.MediaSettings` as keys of a recipe."""

import dataclasses
from dataclasses import dataclass

from rlcomm.data.media import MediaSettings
from rlcomm.utils.options import like, option


@dataclass
class MediaFields:
    """How clips are decoded.

    Declared once, in `MediaSettings`, and prefixed here.
    """

    media_fps: float = like(MediaSettings, "fps")
    media_max_frames: int = like(MediaSettings, "max_frames")
    media_max_pixels: int = like(MediaSettings, "max_pixels")
    media_height: int | None = like(MediaSettings, "height")
    media_width: int | None = like(MediaSettings, "width")
    media_audio_seconds: float | None = like(MediaSettings, "audio_seconds")
    media_missing_audio: str = like(MediaSettings, "missing_audio")
    media_cache_dir: str | None = option(None, "folder for decoded clips")
    prompt_memory_mb: int = option(1024, "encoded prompts kept in memory, megabytes", at_least=0)

    def media(self) -> MediaSettings:
        """The decoding settings."""
        names = {field.name for field in dataclasses.fields(MediaSettings)}
        keys = {f.name: f.name.removeprefix("media_") for f in dataclasses.fields(self)}
        return MediaSettings(**{name: getattr(self, key) for key, name in keys.items() if name in names})
