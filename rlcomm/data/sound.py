"""What `data confuse` does to a clip's own sound: moved in time, replaced, mixed without one stem."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlcomm.data.decode import decode_audio
from rlcomm.data.probe import probe

_QUIET_RMS = 0.1  # level of a replacement where the clip itself was silent (-20 dB of full scale)
_SEAM_SECONDS = 0.01


def shift(audio: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """(N,) the same length, `seconds` later (negative: earlier); the gap is silent."""
    samples = round(seconds * rate)
    shifted = np.zeros_like(audio)
    if samples >= 0:
        shifted[samples:] = audio[: len(audio) - samples] if samples < len(audio) else 0
    else:
        shifted[: max(0, len(audio) + samples)] = audio[-samples:]
    return shifted


def replacement(sound: np.ndarray, original: np.ndarray, rate: int) -> np.ndarray:
    """`sound` looped or cut to the length of `original` and brought to its RMS, (N,) float32 in [-1, 1].

    A loop's seams are cross-faded over 10 ms. Where the original is silent the level is -20 dB of full scale;
    where the matched sound would clip, it is as loud as it can be.
    """
    length = len(original)
    seam = min(round(_SEAM_SECONDS * rate), len(sound) // 4)
    looped = sound
    while len(looped) < length:
        ramp = np.linspace(0, 1, seam, dtype=np.float32)
        joint = looped[len(looped) - seam :] * (1 - ramp) + sound[:seam] * ramp
        looped = np.concatenate([looped[: len(looped) - seam], joint, sound[seam:]])
    looped = looped[:length]
    wanted = float(np.sqrt(np.mean(original.astype(np.float64) ** 2))) if length else 0.0
    level = float(np.sqrt(np.mean(looped.astype(np.float64) ** 2))) if length else 0.0
    gain = (wanted if wanted > 1e-4 else _QUIET_RMS) / max(level, 1e-9)
    peak = float(np.abs(looped).max(initial=0.0))
    return (looped * min(gain, 1 / max(peak, 1e-9))).astype(np.float32)


def mix(stems: Mapping[str, np.ndarray], without: str, length: int) -> np.ndarray:
    """Sum of all stems but `without`, (length,) float32 in [-1, 1].

    The gain is that of the full mix, so that the others are no louder for one being silent.
    """

    def total(names: Sequence[str]) -> np.ndarray:
        summed = np.zeros(length, np.float32)
        for name in names:
            part = stems[name][:length]
            summed[: len(part)] += part
        return summed

    gain = 1 / max(1.0, float(np.abs(total(list(stems))).max(initial=0.0)))
    return np.clip(total([name for name in stems if name != without]) * gain, -1, 1)


def own_rate(source: Path) -> int:
    """Sampling rate to write: the clip's own where AAC knows it, else 48 kHz."""
    return _writable(probe(source).audio_rate)


def own_sound(source: Path) -> tuple[np.ndarray, int]:
    """The clip's own sound at the rate to write, as long as its picture; silence where it has no track."""
    found = probe(source)
    rate = _writable(found.audio_rate)
    length = round(found.seconds * rate)
    if not found.has_audio:
        return np.zeros(length, np.float32), rate
    audio = decode_audio(source, rate)
    return np.pad(audio, (0, max(0, length - len(audio)))), rate


def _writable(rate: int | None) -> int:
    return rate if rate in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000) else 48_000
