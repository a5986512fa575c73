"""The clip of a sample: decoded once, and kept on disk where a cache is set."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlcomm.data.decode import decode_audio, decode_frames
from rlcomm.data.media import Clip, MediaError, MediaSettings
from rlcomm.data.probe import probe, stamp
from rlcomm.utils.files import replacing

_CACHE_VERSION = 2  # part of the cache key: raise it whenever decoding changes


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
    cached = _read_cached(place, video is not None, audio is not None)
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
    digests = [None if path is None else _content(os.fspath(path), *stamp(path)) for path in (video, audio)]
    text = json.dumps([_CACHE_VERSION, digests, dataclasses.asdict(settings)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


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


def _read_cached(place: Path, shown: bool, heard: bool) -> Clip | None:
    """The clip of a cache entry; None where there is none, or it is damaged: then it is decoded anew."""
    try:
        with np.load(place) as arrays:
            frames = arrays["frames"] if shown else None
            audio = arrays["audio"] if heard else None
            fps = float(arrays["fps"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if frames is not None and (frames.dtype != np.uint8 or frames.ndim != 4 or not frames.size):
        return None
    if audio is not None and (audio.dtype != np.float32 or audio.ndim != 1 or not np.isfinite(audio).all()):
        return None
    return Clip(frames, fps, audio)
