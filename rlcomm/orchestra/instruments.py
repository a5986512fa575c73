"""The eight instruments of Orchestra and their timbres, synthesised with numpy at 16 kHz.

Every instrument has its own register, envelope and rhythm, so that a small network can tell it in a mixture;
pitch, rhythm and colour still vary with the seed. Notes lie on two interleaved grids (0: the even semitones
above the instrument's lowest note, 1: the odd ones), so training and test never share a pitch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATE = 16_000  # Hz


@dataclass(frozen=True)
class Instrument:
    """What an instrument is.

    Attributes:
        name: one English word.
        family: plucked, bowed, blown or struck.
        lowest: MIDI number of its lowest note; it plays the twelve semitones from there.
    """

    name: str
    family: str
    lowest: int


_ALL = (
    Instrument("cello", "bowed", 36),
    Instrument("drum", "struck", 33),
    Instrument("flute", "blown", 72),
    Instrument("guitar", "plucked", 48),
    Instrument("harp", "plucked", 67),
    Instrument("trumpet", "blown", 60),
    Instrument("violin", "bowed", 79),
    Instrument("xylophone", "struck", 91),
)
BY_NAME = {instrument.name: instrument for instrument in _ALL}
INSTRUMENTS: tuple[str, ...] = tuple(BY_NAME)


def semitones(grid: int) -> tuple[int, ...]:
    """Semitones above the lowest note that `grid` (0: training, 1: test) plays: six of twelve, disjoint."""
    return tuple(range(grid, 12, 2))


def note(name: str, semitone: float) -> float:
    """Frequency in Hz of the note `semitone` above the lowest one of `name` (equal temperament, A4 = 440)."""
    return 440.0 * 2.0 ** ((BY_NAME[name].lowest + semitone - 69) / 12)


def _time(samples: int) -> np.ndarray:
    return np.arange(samples, dtype=np.float32) / np.float32(RATE)


def harmonics(phase: np.ndarray, amplitudes: np.ndarray | list) -> np.ndarray:
    """sum_k amplitudes[k-1] sin(k phase), by the Chebyshev recurrence: one sine instead of one per harmonic.

    Args:
        phase: (N,) radians.
        amplitudes: K numbers, or (K, N) for amplitudes that move.
    """
    twice_cosine = 2 * np.cos(phase)
    before, now = np.zeros_like(phase), np.sin(phase)
    out = amplitudes[0] * now
    for amplitude in amplitudes[1:]:
        before, now = now, twice_cosine * now - before
        out = out + amplitude * now
    return out


def shaped_noise(
    rng: np.random.Generator, samples: int, low: float, high: float, tilt: float = 0.0
) -> np.ndarray:
    """Noise from `low` to `high` Hz (soft edges), falling by `tilt` dB an octave; (N,), unit RMS."""
    spectrum = np.fft.rfft(rng.standard_normal(samples, dtype=np.float32))
    hertz = np.fft.rfftfreq(samples, 1 / RATE) + 1e-3
    shape = 1 / np.sqrt((1 + (low / hertz) ** 6) * (1 + (hertz / high) ** 6))
    shape *= (np.maximum(hertz, low) / low) ** (-tilt / 6.02)
    wave = np.fft.irfft(spectrum * shape, samples).astype(np.float32)
    return wave / np.float32(np.sqrt(np.mean(wave**2)) + 1e-9)


def _fade(samples: int, attack: float, release: float) -> np.ndarray:
    """Rises over `attack` seconds, falls over the last `release` seconds; (N,) in [0, 1]."""
    t = _time(samples)
    return np.clip(np.minimum(t / attack, (t[-1] - t) / release), 0, 1) if samples else t


def _notes(rng: np.random.Generator, samples: int, rate: tuple[float, float]) -> list[int]:
    """First samples of evenly played notes, `rate` = least and most notes a second; the first one at 0."""
    step = RATE / rng.uniform(*rate)
    return [int(i * step) for i in range(int(np.ceil(samples / step)))]


def _add(out: np.ndarray, start: int, sound: np.ndarray) -> None:
    room = max(0, len(out) - start)
    out[start : start + len(sound)] += sound[:room]


def _bowed(
    rng: np.random.Generator, name: str, samples: int, grid: int, top: float, vibrato: float, tilt: float
) -> np.ndarray:
    """A sawtooth under a bow: slow attack, vibrato, one or two notes tied together."""
    first, second = rng.choice(semitones(grid), 2, replace=False)
    turn = int(rng.uniform(0.35, 0.65) * RATE)
    t = _time(samples)
    hertz = np.where(np.arange(samples) < turn, note(name, first), note(name, second)).astype(np.float32)
    wobble = 1 + vibrato * np.sin(2 * np.pi * rng.uniform(5, 7) * t + rng.uniform(0, 6.28))
    phase = np.cumsum(hertz * wobble, dtype=np.float64) * (2 * np.pi / RATE)
    count = max(3, int(top / note(name, semitones(grid)[-1])))
    wave = harmonics(phase.astype(np.float32), [k**-tilt for k in range(1, count + 1)])
    swell = 1 + 0.25 * np.sin(2 * np.pi * rng.uniform(1, 2) * t + rng.uniform(0, 6.28))
    return wave * swell * _fade(samples, 0.05, 0.02)


def _violin(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    return _bowed(rng, "violin", samples, grid, 7600, 0.025, 0.45)


def _cello(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    return _bowed(rng, "cello", samples, grid, 1500, 0.008, 0.6)


def _pluck(hertz: float, length: int, brightness: float, damping: float) -> np.ndarray:
    """A string let go: harmonics that die faster the higher they are (what Karplus-Strong's loop does)."""
    t = _time(length)
    count = max(1, min(14, int(7000 / hertz)))
    decay = np.exp(-damping * t)
    damp = np.exp(-0.5 * damping * t)
    levels, level = [], decay
    for k in range(1, count + 1):
        levels.append(level * np.float32(k**-brightness))
        level = level * damp
    attack = np.clip(t / 0.003, 0, 1)
    return harmonics((2 * np.pi * hertz * t).astype(np.float32), levels) * attack


def _guitar(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """Two strings strummed a few times."""
    out = np.zeros(samples, np.float32)
    for start in _notes(rng, samples, (2.6, 4.0)):
        low, high = sorted(rng.choice(semitones(grid), 2, replace=False))
        length = min(samples - start, RATE // 2)
        _add(out, start, _pluck(note("guitar", low), length, 0.6, 5))
        _add(out, start + 240, 0.7 * _pluck(note("guitar", high), length, 0.6, 5))
    return out


def _harp(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """A quick run of clear, ringing notes over two octaves, up or down."""
    out = np.zeros(samples, np.float32)
    ladder = [semitone + octave for octave in (0, 12) for semitone in rng.permutation(semitones(grid))[:4]]
    ladder.sort(reverse=bool(rng.integers(2)))
    for i, start in enumerate(_notes(rng, samples, (10, 13))):
        length = min(samples - start, RATE // 4)
        _add(out, start, _pluck(note("harp", ladder[i % len(ladder)]), length, 2.0, 9))
    return out


def _flute(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """Nearly a sine, with breath and a slow tremolo."""
    t = _time(samples)
    hertz = note("flute", rng.choice(semitones(grid)))
    tremolo = 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(4, 6) * t + rng.uniform(0, 6.28))
    tone = harmonics((2 * np.pi * hertz * t).astype(np.float32), [1.0, 0.12, 0.04])
    breath = shaped_noise(rng, samples, 1800, 4200) * np.float32(rng.uniform(0.10, 0.16))
    return (tone + breath) * tremolo * _fade(samples, 0.06, 0.03)


def _trumpet(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """Tongued notes whose upper harmonics open with the attack; brightest around 1.5 kHz."""
    out = np.zeros(samples, np.float32)
    starts = _notes(rng, samples, (3.0, 4.5))
    step = starts[1] if len(starts) > 1 else samples
    for start in starts:
        hertz = note("trumpet", rng.choice(semitones(grid)))
        length = min(samples - start, int(0.78 * step))
        if length < 64:
            break
        t = _time(length)
        count = int(6500 / hertz)
        bright = np.clip(t / 0.03, 0, 1)
        levels = [
            np.float32(1 / (1 + ((k * hertz - 1500) / 1500) ** 2)) * bright ** (1 + 0.15 * k)
            for k in range(1, count + 1)
        ]
        tone = harmonics((2 * np.pi * hertz * t).astype(np.float32), levels)
        _add(out, start, tone * _fade(length, 0.008, 0.02))
    return out


def _drum(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """A low skin that drops in pitch, with the noise of the stick."""
    out = np.zeros(samples, np.float32)
    hertz = note("drum", rng.choice(semitones(grid)))
    length = int(0.22 * RATE)
    t = _time(length)
    skin = np.sin(2 * np.pi * hertz * (t + 0.02 * (1 - np.exp(-t * 40)))) * np.exp(-16 * t)
    stick = shaped_noise(rng, length, 150, 3500, 3) * np.exp(-38 * t)
    hit = (skin + np.float32(rng.uniform(0.5, 0.7)) * stick).astype(np.float32) * np.clip(t / 0.002, 0, 1)
    for start in _notes(rng, samples, (3.2, 5.5)):
        _add(out, start, hit * np.float32(rng.uniform(0.75, 1)))
    return out


def _xylophone(rng: np.random.Generator, samples: int, grid: int) -> np.ndarray:
    """Short wooden strikes: partials at 1, 2.76 and 3.9 times the note, gone in a twentieth of a second."""
    out = np.zeros(samples, np.float32)
    length = int(0.12 * RATE)
    t = _time(length)
    for start in _notes(rng, samples, (5.5, 7.5)):
        hertz = note("xylophone", rng.choice(semitones(grid)))
        hit = np.sin(2 * np.pi * hertz * t) * np.exp(-30 * t)
        for ratio, level, decay in ((2.76, 0.5, 50), (3.9, 0.25, 80)):
            if ratio * hertz < 7800:
                hit = hit + level * np.sin(2 * np.pi * ratio * hertz * t) * np.exp(-decay * t)
        _add(out, start, (hit * np.clip(t / 0.001, 0, 1)).astype(np.float32))
    return out


_SYNTHS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "cello": _cello,
    "drum": _drum,
    "flute": _flute,
    "guitar": _guitar,
    "harp": _harp,
    "trumpet": _trumpet,
    "violin": _violin,
    "xylophone": _xylophone,
}


def play(name: str, seed: int, grid: int, samples: int) -> np.ndarray:
    """One instrument playing for `samples` at 16 kHz: (N,) float32 of unit RMS, from its first note on.

    Args:
        name: one of INSTRUMENTS.
        seed: decides notes, rhythm and colour.
        grid: 0 plays the even semitones (training), 1 the odd ones (test).
        samples: length; at least a tenth of a second sounds right.
    """
    wave = _SYNTHS[name](np.random.default_rng(seed), samples, grid).astype(np.float32)
    return wave / np.float32(np.sqrt(np.mean(wave**2)) + 1e-9)
