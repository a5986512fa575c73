"""A scene becomes pictures, sound and a clip that plays anywhere."""

from pathlib import Path

import numpy as np

from rlcomm.data.write_media import write_clip
from rlcomm.orchestra import instruments, pictograms, sounds
from rlcomm.orchestra.scenes import Scene, picture_variants

SECONDS = 1.0
FPS = 4
_LEVEL = 0.07  # RMS of an instrument at 0 dB; full scale is 1


def _shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """(H, W, 4) moved by up to two pixels; what leaves the column is cut."""
    height, width = image.shape[:2]
    return np.pad(image, ((2, 2), (2, 2), (0, 0)))[2 - dy : 2 - dy + height, 2 - dx : 2 - dx + width]


def frames(scene: Scene) -> np.ndarray:
    """The pictures of a scene: (4, 56, 84, 3) uint8, a quarter of a second each, whatever its sound."""
    rng = np.random.default_rng([scene.seed, 1])
    top, bottom = rng.uniform(-4, 4, 2)
    ground = rng.uniform(232, 250, 3) + np.linspace(top, bottom, pictograms.HEIGHT)[:, None]
    out = np.empty((FPS, pictograms.HEIGHT, 3 * pictograms.WIDTH, 3), np.float32)
    out[:] = ground[None, :, None, :]
    for place, name in enumerate(scene.places):
        variant = int(rng.choice(picture_variants(scene)))
        first = int(rng.integers(pictograms.STEPS))
        dy, dx = int(rng.integers(-2, 3)), int(rng.integers(-1, 2))
        if not name:
            continue
        column = out[:, :, place * pictograms.WIDTH : (place + 1) * pictograms.WIDTH]
        for i in range(FPS):
            image = _shifted(pictograms.sprite(name, variant, (first + i) % pictograms.STEPS), dy, dx)
            column[i] = column[i] * (1 - image[..., 3:]) + image[..., :3]
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def stems(scene: Scene) -> dict[str, np.ndarray]:
    """The sound of each audible instrument (or of the ambient sound) alone: (16000,) float32 each.

    The mix is their sum, turned down only where it would clip.
    """
    samples = int(SECONDS * instruments.RATE)
    if scene.ambient:
        return {scene.ambient: _LEVEL * sounds.play(scene.ambient, scene.seed, samples)}
    out = {}
    for name in scene.audible:
        start = round(scene.onsets[name] * instruments.RATE)
        seed = scene.seed + 1 + instruments.INSTRUMENTS.index(name)  # of its own: muting one changes no other
        wave = np.zeros(samples, np.float32)
        wave[start:] = instruments.play(name, seed, scene.grid, samples - start)
        out[name] = wave * np.float32(_LEVEL * 10 ** (scene.loudness[name] / 20))
    return out


def sound(scene: Scene) -> np.ndarray:
    """The mix: (16000,) float32 in [-1, 1], mono at 16 kHz. Silence where nothing sounds."""
    mix = np.zeros(int(SECONDS * instruments.RATE), np.float32)
    for wave in stems(scene).values():
        mix += wave
    return mix * np.float32(min(1.0, 0.97 / (float(np.abs(mix).max()) + 1e-9)))


def render(scene: Scene, path: str | Path) -> None:
    """Writes the clip of a scene: 84 x 56 pixels, one second, H.264 and AAC."""
    write_clip(path, frames(scene), FPS, sound(scene), instruments.RATE)
