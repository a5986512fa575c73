"""A scene: which instruments are seen and where, which of them sound, from when and how loud.

Training and test scenes share nothing but the eight instruments: what stands where falls into a training or a
test bucket by a stable hash, notes come from disjoint grids of pitches (`Scene.grid`), pictures from disjoint
variants (`pictograms.variants`).
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from rlcomm.orchestra import pictograms
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.sounds import SOUNDS

PLACES = ("left", "middle", "right")
_SIZES = (0.25, 0.45, 0.30)  # shares of scenes with one, two, three visible instruments
_STAGGERED = 0.4  # share of scenes with several sounding instruments in which one enters late


@dataclass(frozen=True)
class Scene:
    """Everything a clip is made from.

    Attributes:
        id: name of the clip.
        places: what stands left, middle, right; "" where nothing does.
        audible: the instruments that sound, alphabetical; always visible ones.
        muted: the visible instrument that was silenced, or None.
        ambient: the sound that replaced all instruments, or None.
        onsets: seconds at which each audible instrument starts.
        loudness: level of each audible instrument in dB against the standard one, about -4 to 4.
        seed: decides notes, rhythm, jitter and colours.
        test: notes and pictures of the test grid.
    """

    id: str
    places: tuple[str, str, str]
    audible: tuple[str, ...]
    muted: str | None
    ambient: str | None
    onsets: dict[str, float]
    loudness: dict[str, float]
    seed: int
    test: bool

    @property
    def visible(self) -> tuple[str, ...]:
        """The visible instruments from left to right."""
        return tuple(name for name in self.places if name)

    @property
    def grid(self) -> int:
        """Which of the two disjoint sets of pitches it plays."""
        return int(self.test)

    @property
    def late(self) -> str | None:
        """The audible instrument that enters clearly after the others, if there is one."""
        names = [name for name in self.audible if self.onsets[name] >= 0.3]
        return names[0] if names else None

    def place(self, name: str) -> str:
        """left, middle or right: where a visible instrument stands."""
        return PLACES[self.places.index(name)]

    def truth(self) -> dict:
        """The row of truth.json."""
        return {
            "visible": sorted(self.visible),
            "audible": list(self.audible),
            "ambient": self.ambient,
            "muted": self.muted,
            "positions": {name: self.place(name) for name in sorted(self.visible)},
            "onsets": self.onsets,
            "loudness_db": self.loudness,
        }


def in_test(places: tuple[str, str, str]) -> bool:
    """Whether this arrangement belongs to the test side (about a quarter does), by a hash that never changes.

    Of 60,000 salts 9983 is the most even one: every instrument stands alone on both sides, and in pairs about
    equally often.
    """
    return hashlib.sha256(("orchestra-9983:" + "|".join(places)).encode()).digest()[0] % 4 == 0


def draw(
    id: str, rng: np.random.Generator, *, test: bool, kind: str = "symmetric", ambient: str | None = None
) -> Scene:
    """Draws a scene of the asked side and kind.

    Args:
        id: name of the clip.
        rng: the source of all choices.
        test: from the test side (arrangements, notes, pictures) or the training side.
        kind: "symmetric": all visible instruments sound; "muted": two or three are visible, one is silent;
            "ambient": an ambient sound replaces them all.
        ambient: which one; None draws it.
    """
    sizes = np.array(_SIZES)
    if kind == "muted":
        sizes[0] = 0
    size = int(rng.choice(3, p=sizes / sizes.sum())) + 1
    while True:
        names = rng.choice(INSTRUMENTS, size, replace=False)
        where = sorted(rng.choice(3, size, replace=False))
        slots = ["", "", ""]
        for place, name in zip(where, names, strict=True):
            slots[place] = str(name)
        places = (slots[0], slots[1], slots[2])
        if in_test(places) == test:
            break
    audible = sorted(str(name) for name in names)
    muted = None
    if kind == "muted":
        muted = str(rng.choice(audible))
        audible.remove(muted)
    elif kind == "ambient":
        audible = []
        ambient = ambient or str(rng.choice(SOUNDS))
    onsets = {name: round(float(rng.uniform(0, 0.1)), 3) for name in audible}
    if len(audible) > 1 and rng.random() < _STAGGERED:
        onsets[str(rng.choice(audible))] = round(float(rng.uniform(0.4, 0.55)), 3)
    # Levels crowd the two ends, so that many pairs differ by enough for a question about loudness.
    loudness = {name: round(float(4 * np.sin(np.pi * rng.uniform(-0.5, 0.5))), 1) for name in audible}
    return Scene(
        id,
        places,
        tuple(audible),
        muted,
        ambient if kind == "ambient" else None,
        onsets,
        loudness,
        int(rng.integers(2**31)),
        test,
    )


def picture_variants(scene: Scene) -> tuple[int, ...]:
    """The pictogram variants this scene may use."""
    return pictograms.variants(scene.test)
