"""The eight instruments as pictograms, drawn with PIL at four times their size and reduced.

A variant is one look of an instrument (shade, scale, tilt, mirrored or not), for training or for test, not
both. A step is a moment of the playing gesture: every visible instrument moves, silent or not, so that the
picture never tells what sounds.
"""

import functools
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 28, 56  # pixels of one column
STEPS = 4  # steps of the playing gesture
VARIANTS = 24
_ZOOM = 4
_DARK = (60, 45, 40)

Colour = tuple[int, int, int]


class _Pen:
    """Draws in column pixels on a canvas `_ZOOM` times as fine; colours pass through the variant's shade."""

    def __init__(self, shade: np.ndarray) -> None:
        self.image = Image.new("RGBA", (WIDTH * _ZOOM, HEIGHT * _ZOOM), (0, 0, 0, 0))
        self.canvas = ImageDraw.Draw(self.image)
        self.shade = shade

    def _colour(self, colour: Colour) -> tuple[int, ...]:
        return (*(int(c) for c in np.clip(np.array(colour) * self.shade, 0, 255)), 255)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.canvas.ellipse([_ZOOM * v for v in (x - rx, y - ry, x + rx, y + ry)], fill=self._colour(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.canvas.rectangle([_ZOOM * v for v in (x0, y0, x1, y1)], fill=self._colour(colour))

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        self.canvas.line(
            [(_ZOOM * x, _ZOOM * y) for x, y in points],
            fill=self._colour(colour),
            width=round(_ZOOM * width),
            joint="curve",
        )

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.canvas.polygon([(_ZOOM * x, _ZOOM * y) for x, y in points], fill=self._colour(colour))


def _violin(p: _Pen) -> None:
    body: Colour = (226, 88, 30)
    p.ellipse(14, 39, 8, 7.5, body)
    p.ellipse(14, 28.5, 6.5, 6, body)
    p.box(9.5, 29, 18.5, 38, body)
    p.line([(14, 10), (14, 34)], 2.4, _DARK)
    p.ellipse(14, 10, 2.2, 2.2, _DARK)
    p.box(10, 39, 18, 40.2, _DARK)
    p.line([(2, 46), (26, 22)], 1.4, (110, 70, 40))


def _cello(p: _Pen) -> None:
    body: Colour = (112, 44, 52)
    p.ellipse(14, 36, 11, 10.5, body)
    p.ellipse(14, 23, 8.5, 8, body)
    p.box(8, 24, 20, 34, body)
    p.line([(14, 6), (14, 30)], 2.8, (30, 22, 22))
    p.ellipse(14, 6.5, 2.8, 2.4, (30, 22, 22))
    p.line([(14, 46), (14, 52)], 1.5, (40, 40, 40))
    p.line([(10, 31), (9, 38)], 1.2, (245, 220, 190))
    p.line([(18, 31), (19, 38)], 1.2, (245, 220, 190))
    p.line([(1.5, 33), (26.5, 37)], 1.6, (245, 225, 190))


def _guitar(p: _Pen) -> None:
    body: Colour = (228, 178, 92)
    p.ellipse(14, 41, 10, 9, body)
    p.ellipse(14, 29, 7.5, 7, body)
    p.ellipse(14, 36, 4, 4, (50, 30, 20))
    p.line([(14, 5), (14, 33)], 3.2, (105, 62, 34))
    p.box(11, 3.5, 17, 10, (105, 62, 34))
    p.box(9.5, 44, 18.5, 46, (105, 62, 34))


def _harp(p: _Pen) -> None:
    wood: Colour = (24, 128, 78)
    p.line([(5, 8), (5, 50)], 3, wood)
    p.line([(5, 9), (12, 12), (18, 8), (24, 11)], 3, wood)
    p.line([(24, 11), (7, 50)], 4.4, wood)
    p.line([(3, 50), (12, 50)], 3, wood)
    for i in range(5):
        x = 8 + 3 * i
        p.line([(x, 12), (x, 48 - 7 * i)], 0.8, (70, 90, 80))


def _flute(p: _Pen) -> None:
    p.line([(5, 50), (23, 7)], 4.2, (120, 150, 205))
    p.line([(6, 47), (23, 7)], 1.4, (205, 220, 245))
    for i in range(6):
        p.ellipse(8.5 + 1.75 * i, 41.6 - 4.2 * i, 1.5, 1.5, (35, 50, 95))
    p.ellipse(21, 11.7, 2.4, 1.7, (35, 50, 95))


def _trumpet(p: _Pen) -> None:
    brass: Colour = (250, 205, 20)
    p.polygon([(3, 9), (25, 9), (17, 24), (11, 24)], brass)
    p.ellipse(14, 9, 11, 3.4, (190, 140, 0))
    p.box(12.2, 22, 15.8, 50, brass)
    p.line([(14, 28), (22, 30), (22, 42), (14, 44)], 2.2, brass)
    for y in (30, 34.5, 39):
        p.box(6, y, 13, y + 2.6, (205, 155, 10))
        p.box(4.5, y, 6.5, y + 2.6, (250, 250, 250))
    p.box(11, 49, 17, 51.5, (190, 140, 0))


def _drum(p: _Pen) -> None:
    p.box(3, 27, 25, 45, (206, 28, 44))
    p.ellipse(14, 45, 11, 4.2, (206, 28, 44))
    for x in (4, 11, 18):
        p.line([(x, 29), (x + 3.2, 46), (x + 6.4, 29)], 1, (250, 225, 120))
    p.ellipse(14, 27, 11, 4.4, (252, 250, 244))
    p.line([(3, 8), (12, 25)], 1.8, (150, 100, 55))
    p.line([(25, 8), (16, 25)], 1.8, (150, 100, 55))
    p.ellipse(12, 25, 1.8, 1.8, (150, 100, 55))
    p.ellipse(16, 25, 1.8, 1.8, (150, 100, 55))


def _xylophone(p: _Pen) -> None:
    colours: list[Colour] = [
        (230, 50, 60),
        (245, 150, 40),
        (240, 220, 60),
        (80, 190, 90),
        (60, 140, 225),
        (150, 80, 200),
    ]
    p.line([(4.5, 16), (8, 50)], 1.6, _DARK)
    p.line([(23.5, 16), (20, 50)], 1.6, _DARK)
    for i, colour in enumerate(colours):
        p.box(2 + 0.9 * i, 17 + 5.6 * i, 26 - 0.9 * i, 21 + 5.6 * i, colour)
    p.line([(14, 22), (22, 6)], 1.5, (120, 85, 50))
    p.ellipse(14, 22, 2.4, 2.4, (170, 60, 150))


_DRAW: dict[str, Callable[[_Pen], None]] = {
    "cello": _cello,
    "drum": _drum,
    "flute": _flute,
    "guitar": _guitar,
    "harp": _harp,
    "trumpet": _trumpet,
    "violin": _violin,
    "xylophone": _xylophone,
}


def variants(test: bool) -> tuple[int, ...]:
    """Variant ids of the test side (every third) or of the training side (the rest)."""
    return tuple(v for v in range(VARIANTS) if (v % 3 == 2) == test)


@functools.cache
def sprite(name: str, variant: int, step: int) -> np.ndarray:
    """One instrument in its column: (56, 28, 4) float32; colour in [0, 255] times alpha, alpha in [0, 1].

    Args:
        name: the instrument.
        variant: its look, 0 to VARIANTS - 1.
        step: of the playing gesture, 0 to STEPS - 1.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), variant])
    shade = rng.uniform(0.85, 1.12) * rng.uniform(0.94, 1.06, 3)
    scale, tilt, mirrored = rng.uniform(0.86, 1.0), rng.uniform(-7, 7), bool(rng.integers(2))
    pen = _Pen(shade)
    _DRAW[name](pen)
    image = pen.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else pen.image
    swing, lift = ((4, 0.8), (4, -0.8), (-4, -0.8), (-4, 0.8))[step]  # two steps apart always differ
    angle = np.deg2rad(tilt + swing)
    # Inverse map of: scale and rotate about the centre, then lift.
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    cx, cy = WIDTH * _ZOOM / 2, HEIGHT * _ZOOM / 2
    dy = cy + lift * _ZOOM
    image = image.convert("RGBa").transform(
        image.size,
        Image.Transform.AFFINE,
        (cos, sin, cx - cos * cx - sin * dy, -sin, cos, cy + sin * cx - cos * dy),
        Image.Resampling.BILINEAR,
    )
    out = np.asarray(image.reduce(_ZOOM), np.float32).copy()
    out[..., 3] /= 255
    return out
