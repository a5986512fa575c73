"""What both pages share: the look, how numbers stand in tables, and the frame of a chart.

A page is one self-contained HTML file: no script, nothing loaded from elsewhere, light and dark.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

DASH, DOT, ELLIPSIS = "\N{EN DASH}", " \N{MIDDLE DOT} ", "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        name: its key.
        head: two short words, for the text table.
        title: for the page.
        better: "high", "low", or "" where neither is.
        scale: 100 for rates, 1 for scores and ratios.
    """

    name: str
    head: tuple[str, str]
    title: str
    better: str = "high"
    scale: int = 100


def document(title: str, body: str, style: str = "") -> str:
    """The whole page; `style` is what it needs beside the common look."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{esc(title)}</title>\n'
        f"<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str, lead: str) -> str:
    return f"<section><h2>{esc(title)}</h2><p>{esc(lead)}</p>{body}</section>\n"


def tile(name: str, big: str, unit: str, change: str, good: str, source: str) -> str:
    """A headline number; `good` is "up", "down" or "same"."""
    return (
        f'<div class="tile"><span class="name">{esc(name)}</span>'
        f'<span class="big">{esc(big)}<small>{esc(unit)}</small></span>'
        f'<span class="change {good}">{esc(change)}</span><span class="from">{esc(source)}</span></div>'
    )


def esc(text: str) -> str:
    return html.escape(text, quote=True)


# ---------------------------------------------------------------- numbers and tables


def number(value: float | None, column: Column) -> str:
    """ "" for None; one digit for rates in percent, two for scores."""
    return "" if value is None else f"{value * column.scale:.{1 if column.scale == 100 else 2}f}"


def signed(value: float) -> str:
    return f"+{value:.1f}" if value > 0 else f"\N{MINUS SIGN}{abs(value):.1f}" if value < 0 else "0.0"


def best(values: Sequence[float | None], column: Column) -> float | None:
    """The best value of a column; None where all are alike or there is no better."""
    known = [v for v in values if v is not None]
    if len(set(known)) < 2 or not column.better:
        return None
    return max(known) if column.better == "high" else min(known)


def head(column: Column) -> str:
    """A column's head, with an arrow to where better is."""
    arrow = {"high": "\N{UPWARDS ARROW}", "low": "\N{DOWNWARDS ARROW}", "": ""}[column.better]
    return f'<th scope="col">{esc(column.title)} <span class="arrow">{arrow}</span></th>'


def cell(value: float | None, interval: Sequence[float] | None, column: Column, top: float | None) -> str:
    """A cell with its 95 % interval below, marked where it is the best (`top`)."""
    detail = (
        f'<span class="ci">{number(interval[0], column)}{DASH}{number(interval[1], column)}</span>'
        if interval and value is not None
        else ""
    )
    mark = ' class="best"' if value is not None and value == top else ""
    return f"<td{mark}>{number(value, column) or DASH}{detail}</td>"


def table(head: str, body: str, name: str = "") -> str:
    """A table that scrolls by itself where the page is narrow."""
    named = f' class="{name}"' if name else ""
    return (
        f'<div class="scroll" tabindex="0"><table{named}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


# ---------------------------------------------------------------- charts


@dataclass(frozen=True)
class Plane:
    """Where values lie on a chart's canvas.

    Attributes:
        x, y: range of values, lowest and highest.
        width, height, left, right, top, bottom: of the canvas and its margins, in SVG units.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 560
    height: int = 260
    left: int = 38
    right: int = 12
    top: int = 14
    bottom: int = 30

    def across(self, x: float) -> float:
        share = (x - self.x[0]) / (self.x[1] - self.x[0] or 1)
        return self.left + share * (self.width - self.left - self.right)

    def down(self, y: float) -> float:
        share = (y - self.y[0]) / (self.y[1] - self.y[0] or 1)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def line(self, points: Sequence[tuple[float, float]]) -> str:
        """The `points` of a polyline."""
        return " ".join(f"{self.across(x):.1f},{self.down(y):.1f}" for x, y in points)

    def grid(self, across: Sequence[float], up: Sequence[float]) -> str:
        """Lines and numbers at the ticks `up`, numbers at the ticks `across`."""
        drawn = ""
        for tick in up:
            y = self.down(tick)
            drawn += (
                f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/><text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
        low = self.height - self.bottom + 18
        for tick in across:
            drawn += f'<text x="{self.across(tick):.1f}" y="{low}" text-anchor="middle">{tick:g}</text>'
        return drawn

    def names(self, across: str, up: str) -> str:
        """What the axes are, where `top` and `bottom` leave room for it."""
        right, low = self.width - self.right, self.height - 6
        return (
            f'<text x="{right}" y="{low}" text-anchor="end">{esc(across)}</text>'
            f'<text x="4" y="14">{esc(up)}</text>'
        )

    def svg(self, label: str, body: str) -> str:
        """The picture; `label` says what it shows to those who cannot see it."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{esc(label)}">{body}</svg>'
        )


def figure(caption: str, body: str) -> str:
    return f"<figure><figcaption>{esc(caption)}</figcaption>{body}</figure>"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high]."""
    span = (high - low) or 1.0
    unit = 10 ** math.floor(math.log10(span / count))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= count)
    start = math.floor(low / step + 1e-9)
    return [round(step * (start + i), 10) for i in range(math.ceil((high - 1e-9) / step) - start + 1)]


_STYLE = """
:root{--bg:#f7f7f5;--card:#fff;--ink:#1b1d22;--soft:#5d636f;--line:#e2e3e6;--accent:#2f5fd0;--best:#e7eefc;
--right:#17804a;--wrong:#c0392b;--c0:#8a8f99;--c1:#2f5fd0;--c2:#d9822b;--c3:#7a52c7;--c4:#17804a;--c5:#c0392b;--c6:#1f8a9e;--c7:#a8841c;
--c8:#c2549d;--c9:#7d5836;--c10:#5f8f12;--c11:#2b313d;
--shadow:0 1px 2px rgba(20,22,30,.06),0 4px 16px rgba(20,22,30,.05)}
@media (prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1d2026;--ink:#e9eaee;--soft:#a0a6b3;
--line:#31353e;
--accent:#86a8ff;--best:#26355c;--right:#52c98a;--wrong:#ff8478;--c0:#9aa1ad;--c1:#86a8ff;--c2:#f0a75c;
--c3:#b79aff;
--c4:#52c98a;--c5:#ff8478;--c6:#5fc7d8;--c7:#d8b94e;--c8:#f08cc8;--c9:#c9a27e;--c10:#a3d14f;
--c11:#f3f4f6;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1240px;margin:0 auto;padding:clamp(20px,4vw,52px) clamp(14px,3vw,32px)}
h1{font-size:clamp(1.7rem,4vw,2.5rem);line-height:1.15;margin:.1em 0 .4em;letter-spacing:-.02em;
text-wrap:balance}
h2{font-size:1.3rem;margin:0 0 .2em;letter-spacing:-.01em}
section{margin-top:52px}section>p{color:var(--soft);margin:0 0 16px;max-width:78ch}
.kicker{margin:0;color:var(--accent);font-weight:600;font-size:.82rem;letter-spacing:.08em;
text-transform:uppercase}
.lead{max-width:82ch;color:var(--soft);margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px;margin-top:26px}
.tile,.card,figure,.scroll{background:var(--card);border:1px solid var(--line);border-radius:12px;
box-shadow:var(--shadow)}
.tile{padding:16px 18px;display:flex;flex-direction:column}
.tile .name{color:var(--soft);font-size:.88rem}.tile .big{font-size:2.1rem;font-weight:650;line-height:1.25;
letter-spacing:-.02em;font-variant-numeric:tabular-nums}.tile small{font-size:1.05rem;font-weight:500;
margin-left:2px;
color:var(--soft)}
.change{font-size:.86rem;color:var(--soft)}.change.up{color:var(--right)}.change.down{color:var(--wrong)}
.from{font-size:.8rem;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{padding:10px 8px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:550;font-size:.8rem;line-height:1.3;vertical-align:bottom;
min-width:0}
th:first-child{text-align:left;padding-left:14px;white-space:nowrap;position:sticky;left:0;background:var(--card)}
tbody th{font-weight:600}.n{color:var(--soft);font-weight:400;font-size:.8rem;margin-left:6px}
.arrow{color:var(--soft);opacity:.75}
.ci{display:block;color:var(--soft);font-size:.7rem;white-space:nowrap}
td.best{background:var(--best);font-weight:700}td.best .ci{font-weight:400}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
figure{margin:0;padding:16px 16px 12px}figcaption{font-weight:600;margin-bottom:6px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:12px;font-family:inherit}
.grid{stroke:var(--line);stroke-width:1}
polyline{fill:none;stroke:currentColor;stroke-linejoin:round;stroke-linecap:round}.line{stroke-width:2.4}.raw{stroke-width:1;
opacity:.28}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
.c8{color:var(--c8)}.c9{color:var(--c9)}.c10{color:var(--c10)}.c11{color:var(--c11)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.84rem;color:var(--soft);padding:6px 0 0 4px}
.legend b{color:var(--ink);font-variant-numeric:tabular-nums}.legend i{display:inline-block;width:12px;
height:3px;
border-radius:2px;background:currentColor;vertical-align:middle;margin-right:6px}.axis{margin-left:auto}
.notes ul{margin:10px 0 0;padding-left:20px;max-width:92ch;color:var(--soft)}.notes li{margin:5px 0}
.notes b{color:var(--ink)}
footer{margin-top:44px;padding-top:16px;border-top:1px solid var(--line);color:var(--soft);font-size:.84rem}
@media print{.card,figure{break-inside:avoid}}
"""
