"""The one place that draws: matplotlib's axes as an SVG to stand inside a page.

Colours are names (`COLOURS`) that the page defines, light and dark; the same marks give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

COLOURS = ("line", "soft", "ink", "card", *(f"c{number}" for number in range(12)))
WIDTH, RIGHT = 560, 12  # of a chart and of its right margin, in SVG units; a unit is a pixel of matplotlib's
_INCH = 72  # units
_PLACES = ("d", "x", "y")  # attributes that hold coordinates


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a colour's name and its value in bold; without a colour a remark."""

    words: str
    value: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Drawing:
    """A chart on a page.

    Attributes:
        caption: above it.
        svg: the picture.
        keys: the legend.
        axis: a remark at its end.
    """

    caption: str
    svg: Markup
    keys: Sequence[Key] = ()
    axis: str = ""


class Chart:
    """Axes to draw on, in the units of the data.

    Args:
        across, up: where numbers stand on the axes; those of `up` have a line.
        names: of both axes.
        x, y: range of values, lowest and highest; None: from the first to the last number.
        height, left, top, bottom: of the canvas and its margins.
    """

    def __init__(
        self, across: Sequence[float], up: Sequence[float], names: tuple[str, str] = ("", ""),
        x: tuple[float, float] | None = None, y: tuple[float, float] | None = None, height: int = 360,
        left: int = 46, top: int = 30, bottom: int = 48,
    ) -> None:  # fmt: skip
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.names, self.height = names, height
        self.figure = Figure((WIDTH / _INCH, height / _INCH), dpi=_INCH)
        FigureCanvasSVG(self.figure)
        self.figure.patch.set_visible(False)
        size = (WIDTH - left - RIGHT) / WIDTH, (height - top - bottom) / height
        self.axes: Any = self.figure.add_axes((left / WIDTH, bottom / height, *size), frameon=False)
        self.axes.set(xlim=x or (across[0], across[-1]), ylim=y or (up[0], up[-1]))
        self.axes.set_xticks(across, [f"{tick:g}" for tick in across])
        self.axes.set_yticks(up, [f"{tick:g}" for tick in up])
        self.axes.tick_params(left=False, bottom=False, labelsize=12, labelcolor=_hex("soft"), pad=4)
        self.axes.grid(axis="y", color=_hex("line"), linewidth=1)
        self.axes.set_axisbelow(True)
        self._marks: dict[str, tuple[str, Sequence[ElementTree.Element]]] = {}  # id -> class, what is inside
        self.text((WIDTH - RIGHT, 6), names[0], "right", where="figure pixels")
        self.text((4, height - 14), names[1], "left", where="figure pixels")

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, kind: str = "line", width: float = 2.4,
        dashes: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """A line through points; `dashes` in multiples of its width, `kind` is its CSS class."""
        style = (0, tuple(dashes)) if dashes else "-"
        self.axes.plot(*zip(*points, strict=True), color=_hex(colour), linewidth=width, linestyle=style,
                       solid_capstyle="round", solid_joinstyle="round", **self._mark(kind))  # fmt: skip

    def dots(
        self, points: Sequence[tuple[float, float]], colour: str, radii: Sequence[float],
        words: Sequence[str] = (), kind: str = "dot",
    ) -> None:  # fmt: skip
        """A circle a point, radii in SVG units; its words show when one points at it."""
        circles = []
        for number, (point, radius) in enumerate(zip(points, radii, strict=True)):
            x, y = self.axes.transData.transform(point)
            circle = _element("circle", words[number] if words else "")
            circle.attrib = {"cx": f"{x:.1f}", "cy": f"{self.height - y:.1f}", "r": f"{radius:.1f}"}
            circles.append(circle)
        self.axes.plot([], [], **self._mark(f"{kind} {colour}", circles))  # holds their place

    def box(
        self, corner: tuple[float, float], size: tuple[float, float], colour: str, words: str = "",
        alpha: float = 1.0, edge: str = "",
    ) -> None:  # fmt: skip
        """A filled rectangle from its lower left corner; `edge` is the colour of its border."""
        from matplotlib.colors import to_rgba
        from matplotlib.patches import Rectangle

        fill, border = to_rgba(_hex(colour), alpha), _hex(edge) if edge else "none"
        titles = [_element("title", words)] if words else []
        mark = self._mark("box", titles)
        self.axes.add_patch(Rectangle(corner, *size, facecolor=fill, edgecolor=border, **mark))

    def text(
        self, place: tuple[float, float], words: str, side: str = "center", colour: str = "soft",
        size: float = 12, shift: tuple[float, float] = (0, 0), kind: str = "", where: str = "data",
    ) -> None:  # fmt: skip
        """Words at a place of the data, moved by `shift` pixels to the right and up; `side` is theirs."""
        if shown := _clean(words):
            self.axes.annotate(
                shown, place, shift, xycoords=where, textcoords="offset pixels", ha=side, va="baseline",
                color=_hex(colour), fontsize=size, parse_math=False, annotation_clip=False,
                **self._mark(kind),
            )  # fmt: skip

    def _mark(self, kind: str, inside: Sequence[ElementTree.Element] = ()) -> dict[str, Any]:
        """What a mark is given so that `_svg` finds it: its CSS class, and what is put into its group."""
        gid = f"mark{len(self._marks)}"
        self._marks[gid] = kind, inside
        return {"gid": gid, "zorder": 3 + len(self._marks)}  # drawn in the order of the calls

    def drawing(self, caption: str, keys: Sequence[Key] = (), axis: str = "") -> Drawing:
        """What was drawn; those who cannot see it are told the caption, the axes and the legend."""
        told = [
            caption,
            *filter(None, reversed(self.names)),
            *(f"{key.words} {key.value}" for key in keys),
            axis,
        ]
        return Drawing(caption, self._svg("; ".join(words.strip() for words in told if words)), keys, axis)

    def _svg(self, label: str) -> Markup:
        """matplotlib's SVG, stripped to what a page needs: no header, no clip paths, no references."""
        from matplotlib import rc_context

        written = io.StringIO()
        fixed: Any = {"svg.hashsalt": "rlcomm", "svg.fonttype": "none", "path.simplify": False}
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with rc_context(fixed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw it
            self.figure.savefig(written, format="svg", metadata=nothing)
        root = _element("svg")
        root.attrib = {
            "viewBox": f"0 0 {WIDTH} {self.height}",
            "role": "img",
            "aria-label": _clean(label),
        }
        root.extend(self._stripped(ElementTree.fromstring(written.getvalue())))
        return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))

    def _stripped(self, parent: ElementTree.Element) -> list[ElementTree.Element]:
        found = []
        for element in parent:
            name = element.tag.rpartition("}")[2]
            if name in ("defs", "metadata"):
                continue
            kind, inside = self._marks.get(element.get("id", ""), ("", ()))
            kept = _element(name)
            kept.text = (element.text or "").strip() if name == "text" else None
            kept.attrib = {key: _rounded(value) for key, value in element.items() if key in _PLACES}
            if style := _style(element.get("style", "")):
                kept.set("style", style)
            kept.extend([*inside, *self._stripped(element)])
            if kind:
                kept.set("class", kind)
            # groups that say nothing are left out, what they hold is not
            found += [kept] if kept.attrib or name != "g" else list(kept)
        return found


def drawn(drawings: Sequence[Drawing | None]) -> list[Drawing]:
    """Those that show something."""
    return [drawing for drawing in drawings if drawing is not None]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high], at most `count` steps."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in found]


def _hex(colour: str) -> str:
    """A colour's place in `COLOURS` as one that matplotlib takes; `_style` gives it its name back."""
    return f"#{COLOURS.index(colour) + 1:06x}"


def _style(style: str) -> str:
    """A style of matplotlib's with the page's colours and fonts."""
    parts = [part.strip() for part in style.split(";")]
    kept = [part for part in parts if part and not part.startswith(("font-family", "stroke-dashoffset"))]
    named = re.sub(r"#0000(\w\w)", lambda found: f"var(--{COLOURS[int(found[1], 16) - 1]})", ";".join(kept))
    return named.replace(": ", ":")


def _rounded(places: str) -> str:
    """Coordinates to a tenth of a pixel: small, and the same on every machine."""
    short = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), places)
    return " ".join(short.split())


def _element(name: str, words: str = "") -> ElementTree.Element:
    """An element; words are its text, or of a mark what shows when one points at it."""
    made = ElementTree.Element(name)
    if words and name != "title":
        made.append(_element("title", words))
    else:
        made.text = _clean(words) or None
    return made


def _clean(words: str) -> str:
    """Without what XML has no letters for: control characters, lone surrogates."""
    return "".join(letter for letter in words if letter.isprintable())
