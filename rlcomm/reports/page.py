"""Pages: jinja2 templates that escape whatever they are given. A page is one file, without scripts and with
nothing loaded from elsewhere, light and dark."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlcomm.reports.charts import Drawing
from rlcomm.reports.tables import Table
from rlcomm.utils import files

Block = Table | str | Sequence[Drawing]  # a str is a paragraph; drawings stand beside each other


@dataclass(frozen=True)
class Tile:
    """A headline number.

    Attributes:
        name, big, unit: what it is, the number, its unit.
        change: what is to be said of it, `good` "up", "down" or "same".
        source: of what it was measured.
    """

    name: str
    big: str
    unit: str = ""
    change: str = ""
    good: str = "same"
    source: str = ""


def moved(points: float) -> str:
    """`Tile.good` of a change in points."""
    return "up" if points > 0.05 else "down" if points < -0.05 else "same"


def write(
    path: str | os.PathLike, template: str, title: str, tiles: Sequence[Tile] = (), span: str = "",
    facts: Sequence[str] = (), **shown: Any,
) -> None:  # fmt: skip
    """Writes a page beside `path` and renames it.

    Args:
        path: where.
        template: its name in `templates/`.
        title: of the page.
        tiles: its headline numbers.
        span: says what the tiles are to those who cannot see them.
        facts: its footer.
        shown: what the template shows.
    """
    frame = {"title": title, "tiles": tiles, "span": span, "facts": facts}
    text = _environment().get_template(template).render(**frame, **shown)
    files.write_text(path, text.encode("utf-8", "replace").decode("utf-8"))  # a lone surrogate is no text


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("rlcomm.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
