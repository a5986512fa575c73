"""The five sounds of AV-ConfuseBench's modified split, synthesised: wind, bird, rain, drill, thunder."""

from collections.abc import Callable

import numpy as np

from rlcomm.orchestra.instruments import RATE, harmonics, shaped_noise


def _wind(rng: np.random.Generator, n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    gust = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.8, 1.6) * t + rng.uniform(0, 6.28))
    return shaped_noise(rng, n, 250, 700, 3) * gust + 0.3 * shaped_noise(rng, n, 900, 1300) * gust**2


def _rain(rng: np.random.Generator, n: int) -> np.ndarray:
    out = 0.5 * shaped_noise(rng, n, 1500, 7000)
    drop = shaped_noise(rng, 160, 2500, 7500) * np.exp(-np.arange(160) / 30)
    for start in rng.integers(0, n - 160, 120):
        out[start : start + 160] += rng.uniform(1, 4) * drop
    return out


def _bird(rng: np.random.Generator, n: int) -> np.ndarray:
    out = np.zeros(n, np.float32)
    length = int(0.09 * RATE)
    t = np.arange(length) / length
    step = int(RATE * rng.uniform(0.13, 0.2))
    low, high = rng.uniform(3000, 3800), rng.uniform(4800, 6200)
    for start in range(int(rng.uniform(0, 0.05) * RATE), n - length, step):
        hertz = low + (high - low) * np.sin(np.pi * t * rng.uniform(0.8, 1.3)) ** 2
        out[start : start + length] += np.sin(2 * np.pi * np.cumsum(hertz) / RATE) * np.sin(np.pi * t)
    return out


def _drill(rng: np.random.Generator, n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    hertz = rng.uniform(160, 220)
    hammer = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * rng.uniform(18, 26) * t))
    whine = harmonics((2 * np.pi * hertz * t).astype(np.float32), [(-1) ** k * 0.5 for k in range(16)])
    return (whine + 1.5 * shaped_noise(rng, n, 800, 5000)) * (0.25 + hammer)


def _thunder(rng: np.random.Generator, n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    crack = shaped_noise(rng, n, 100, 4000, 4) * np.exp(-9 * t)
    return 1.5 * crack + shaped_noise(rng, n, 40, 120, 6) * (0.4 + np.exp(-1.5 * t))


_SYNTHS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "bird": _bird,
    "drill": _drill,
    "rain": _rain,
    "thunder": _thunder,
    "wind": _wind,
}
SOUNDS: tuple[str, ...] = tuple(_SYNTHS)


def play(name: str, seed: int, samples: int) -> np.ndarray:
    """An ambient sound for `samples` at 16 kHz: (N,) float32 of unit RMS."""
    wave = _SYNTHS[name](np.random.default_rng(seed), samples).astype(np.float32)
    return wave / np.float32(np.sqrt(np.mean(wave**2)) + 1e-9)
