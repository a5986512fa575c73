"""The charts of decoders under conflict: what each is called, its colour, and one function a chart.

Every chart gives a figure's inside (an SVG and its legend), or "" where there is nothing to draw.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.decoding import gacl
from rlcomm.evaluation.benchmarks import Record
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.metrics import reliability_bins
from rlcomm.evaluation.repair import frontier
from rlcomm.reports import page
from rlcomm.reports.page import DASH, Plane, esc

TITLES = {
    "greedy": "Joint (greedy)",
    "gacl": "GACL",
    "aad": "AAD",
    "acd": "ACD",
    "cad": "CAD",
    "vcd": "VCD",
    "icd": "ICD",
    "avcd": "AVCD",
    "audio_priority": "Audio priority",
    "ignore_text": "Ignore text",
    "bias_awareness": "Bias awareness",
    "chain_of_thought": "Chain of thought",
}
"""Decoders as the page names them; their place here is their colour, in every chart."""

CONDITIONS = ("neutral", "faithful", "irrelevant", CONFLICT)
CONDITION_NAMES = {"avconfuse_muted": {CONFLICT: "muted", "faithful": "control"}}
INFEASIBLE = "infeasible"
NAUC_5, NAUC_10 = (f"nAUC @0\N{WORD JOINER}{DASH}\N{WORD JOINER}{most}" for most in (5, 10))  # in one line
MOST_DOTS = 1500  # of a scatter: the page stays small, and the picture is the same
FARTHEST = 30.0  # faithful drop in points that a chart still shows in its place


def frontier_steps(gains: Sequence[float], drops: Sequence[float], last: float) -> list[tuple[float, float]]:
    """The frontier (`repair.frontier`) as the corners of a step line from K = 0 to `last`, in points.

    Gains 0.2 and 0.5 at drops 0 and 0.03, to 10: (0, 20), (3, 20), (3, 50), (10, 50).
    """
    corners = [(0.0, 100 * frontier(gains, drops, 0.0))]
    for jump in sorted({100 * drop for drop in drops if 0 < 100 * drop <= last}):
        height = 100 * frontier(gains, drops, jump)
        if height != corners[-1][1]:
            corners += [(jump, corners[-1][1]), (jump, height)]
    return [*corners, (last, corners[-1][1])]


def frontiers(results: Mapping[str, Any], key: str) -> str:
    """Gain against drop: every setting a dot, every decoder's frontier a line, the budget."""
    grids = {name: grid for name, found in results["decoders"].items() if (grid := found["grid"].get(key))}
    points = [point for grid in grids.values() for point in grid]
    if not points:
        return ""
    budget = float(next(iter(results["decoders"].values()))["settings"].get("budget_points", 5.0))
    drops, gains = ([100 * point[name] for point in points] for name in ("faithful_drop", "conflict_gain"))
    across = page.ticks(max(-FARTHEST, min(0.0, *drops)), min(FARTHEST, max(10.0, 2 * budget, *drops)), 8)
    up = page.ticks(min(0.0, *gains), max(10.0, *gains), 6)
    edge = across[0] - 0.02 * (across[-1] - across[0])  # dots at a drop of 0 stand clear of the numbers
    plane = Plane((edge, across[-1]), (up[0], up[-1]), height=360, left=40, top=30, bottom=48)
    x = plane.across(budget)
    dots = lines = legend = ""
    beyond = 0
    for name in reversed(grids):  # the first decoders lie on top
        where = [(p["conflict_gain"], p["faithful_drop"], p["settings"]) for p in grids[name]]
        steps = frontier_steps([gain for gain, _, _ in where], [drop for _, drop, _ in where], across[-1])
        lines += f'<polyline class="line {colour(name)}" points="{plane.line(steps)}"/>'
        for gain, drop, settings in where:
            inside = across[0] <= 100 * drop <= across[-1]
            beyond += not inside
            words = " ".join(filter(None, (title(name), settings_words(settings))))
            label = f"{words}: gain {100 * gain:.1f}, drop {100 * drop:.1f}"
            shown = min(max(100 * drop, across[0]), across[-1])
            dots += _dot(plane, shown, 100 * gain, 4.5, f"{colour(name)}{'' if inside else ' far'}", label)
    for name in grids:
        area = results["decoders"][name]["benchmarks"][key].get("nauc_5", {}).get("value")
        legend += _entry(name, DASH if area is None else f"{100 * area:.1f}")
    legend += f'<span class="axis">bold: {NAUC_5}</span>'
    if beyond:
        legend += f"<span>hollow, on the edge: {beyond} settings beyond it</span>"
    drawn = (
        plane.grid(across, up)
        + plane.names("faithful drop, points", "conflict gain, points")
        + _rule("budget", x, plane.top - 8, x, plane.height - plane.bottom)
        + f'<text class="over" x="{x + 5:.1f}" y="{plane.top + 1}">budget {budget:g}</text>'
        + lines
        + dots
    )
    names = ", ".join(title(name) for name in grids)
    label = f"{key}: conflict gain against faithful drop, settings and frontier of {names}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def conditions(results: Mapping[str, Any], key: str, rows: Sequence[Record]) -> str:
    """Accuracy under each condition, bars by decoder; "" for a set that has no conditions."""
    found = accuracy_by_condition(rows)
    if not found:
        return ""
    decoders = [name for name in results["decoders"] if any(name in part for part in found.values())]
    up = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    plane = Plane((0, len(found)), (0, 100), height=310, top=44, bottom=44)
    group = plane.across(1) - plane.across(0)
    wide = 0.86 * group / max(1, len(decoders))
    drawn = plane.grid([], up) + plane.names("", "right answers, %")
    floor = plane.down(0)
    for number, (condition, part) in enumerate(found.items()):
        start = plane.across(number) + 0.07 * group
        for place, name in enumerate(decoders):
            if name not in part:
                continue
            value, size = part[name]
            x, y = start + place * wide, min(plane.down(100 * value), floor - 1.5)
            label = f"{title(name)}, {condition}: {100 * value:.1f} % of {size}"
            drawn += (
                f'<rect class="bar {colour(name)}" x="{x + 0.06 * wide:.1f}" y="{y:.1f}" rx="1.5" '
                f'width="{0.88 * wide:.1f}" height="{floor - y:.1f}"><title>{esc(label)}</title></rect>'
            )
            if wide >= 17:  # room for three digits
                drawn += _middle("tiny", x + wide / 2, y - 4, f"{100 * value:.0f}")
        words = CONDITION_NAMES.get(key, {}).get(condition, condition)
        middle, size = plane.across(number + 0.5), max(n for _, n in part.values())
        drawn += _middle("name", middle, floor + 18, words) + _middle(
            "tiny", middle, floor + 33, f"n = {size}"
        )
    legend = "".join(_entry(name) for name in decoders)
    for name in results["decoders"]:
        if name not in decoders:
            legend += f"<span>{esc(title(name))}: {INFEASIBLE}</span>"
    label = f"{key}: accuracy by condition ({', '.join(found)}) of {', '.join(map(title, decoders))}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def accuracy_by_condition(rows: Sequence[Record]) -> dict[str, dict[str, tuple[float, int]]]:
    """Condition -> decoder -> (share right, items); what has no condition or no verdict is left out."""
    counts: dict[str, dict[str, list[bool]]] = {}
    for row in rows:
        if row["condition"] is None:
            continue
        for name, answer in row["decoders"].items():
            if answer["correct"] is not None:
                counts.setdefault(row["condition"], {}).setdefault(name, []).append(bool(answer["correct"]))
    order = [c for c in CONDITIONS if c in counts] + sorted(counts.keys() - set(CONDITIONS))
    return {c: {name: (sum(part) / len(part), len(part)) for name, part in counts[c].items()} for c in order}


def reliability(results: Mapping[str, Any], rows: Sequence[Record]) -> str:
    """Accuracy over confidence of the joint answer, of GACL, and of the others where they are few."""
    decoders = [name for name in results["decoders"] if any(_sure(row, name) for row in rows)]
    if len(decoders) > 4:  # and other models
        first = [name for name in decoders if name in ("greedy", "gacl") or name not in TITLES]
        decoders = first or decoders[:2]
    if not decoders:
        return ""
    up = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    plane = Plane((0, 1), (0, 1), height=360, left=40, top=30, bottom=48)
    drawn = plane.grid(up, up) + plane.names("confidence", "share right")
    drawn += f'<polyline class="budget" points="{plane.line([(0, 0), (1, 1)])}"/>'
    legend = ""
    for name in decoders:
        answers = [answer for row in rows if (answer := _sure(row, name))]
        bins = reliability_bins([a["confidence"] for a in answers], [bool(a["correct"]) for a in answers])
        bins = [one for one in bins if one["n"]]
        error = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(answers)
        points = [(one["confidence"], one["accuracy"]) for one in bins]
        drawn += f'<polyline class="line {colour(name)}" points="{plane.line(points)}"/>'
        for (x, y), one in zip(points, bins, strict=True):
            label = f"{title(name)}: {one['n']} answers, confidence {100 * x:.0f} %, right {100 * y:.0f} %"
            drawn += _dot(plane, x, y, 3 + 8 * math.sqrt(one["n"] / len(answers)), colour(name), label)
        legend += _entry(name, f"{100 * error:.1f}")
    legend += '<span class="axis">bold: ECE, %</span>'
    label = f"Accuracy over confidence in ten bins: {', '.join(map(title, decoders))}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def calibration(results: Mapping[str, Any], key: str) -> str:
    """Conflict gain over the calibration error, a dot for every decoder under its chosen settings."""
    found = {name: entry["benchmarks"].get(key) or {} for name, entry in results["decoders"].items()}
    dots: dict[str, tuple[float, float]] = {}
    for name, values in found.items():
        gain, error = ((values.get(metric) or {}).get("value") for metric in ("conflict_gain", "ece"))
        if gain is not None and error is not None:
            dots[name] = 100 * error, 100 * gain
    if len(dots) < 2:
        return ""
    errors, gains = zip(*dots.values(), strict=True)
    across, up = page.ticks(0.0, max(10.0, *errors), 8), page.ticks(min(0.0, *gains), max(10.0, *gains), 6)
    edge = -0.02 * across[-1]  # dots at an error of 0 stand clear of the numbers
    plane = Plane((edge, across[-1]), (up[0], up[-1]), height=360, left=40, top=30, bottom=48)
    drawn = plane.grid(across, up) + plane.names("ECE, %", "conflict gain, points")
    legend = ""
    for name, (error, gain) in dots.items():
        label = f"{title(name)}: gain {gain:.1f}, ECE {error:.1f} %"
        drawn += _dot(plane, error, gain, 6, colour(name), label)
        legend += _entry(name, f"{error:.1f}")
    legend += '<span class="axis">bold: ECE, %</span>'
    label = f"{key}: conflict gain against calibration error of {', '.join(map(title, dots))}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def _sure(row: Record, decoder: str) -> Mapping[str, Any] | None:
    """A decoder's answer where it has a confidence and a verdict."""
    answer = row["decoders"].get(decoder) or {}
    known = answer.get("confidence") is not None and answer.get("correct") is not None
    return answer if known else None


def quadrants(margins: Sequence[tuple[float, float]]) -> dict[str, int]:
    """How many (M_J, M_A) are right, flips (M_A > 0 > M_J), without evidence (both < 0), or none of these."""
    found = {"right": 0, "flip": 0, "missing": 0, "other": 0}
    for joint, evidence in margins:
        if evidence > 0 > joint:
            found["flip"] += 1
        elif evidence < 0 and joint < 0:
            found["missing"] += 1
        else:
            found["right" if evidence > 0 and joint > 0 else "other"] += 1
    return found


def quadrant_plot(rows: Sequence[Record], gates: bool = True) -> str:
    """M_A over M_J of the items in conflict; "" where no item has both margins.

    Args:
        rows: records with `condition` and `margins` {"joint", "evidence"}.
        gates: mark where GACL's gate opened, by their `decoders`.
    """
    part = [row for row in rows if row["condition"] == CONFLICT]
    items: list[tuple[float, float, bool | None]] = []
    for row in part:
        margins = row.get("margins") or {}
        joint, evidence = margins.get("joint"), margins.get("evidence")
        if joint is not None and evidence is not None and math.isfinite(joint) and math.isfinite(evidence):
            items.append((joint, evidence, (row["decoders"].get("gacl") or {}).get("gate")))
    if not items:
        return ""
    shares = quadrants([(joint, evidence) for joint, evidence, _ in items])
    wide, high = _extent([joint for joint, _, _ in items]), _extent([evidence for _, evidence, _ in items])
    plane = Plane((-wide, wide), (-high, high), height=400, left=40, top=30, bottom=48)
    across, up = ([t for t in page.ticks(-most, most, 6) if abs(t) <= most] for most in (wide, high))
    left, right, top, floor = plane.left, plane.width - plane.right, plane.top, plane.height - plane.bottom
    x, y = plane.across(0), plane.down(0)
    drawn = (
        f'<rect class="repair c1" x="{left}" y="{top}" width="{x - left:.1f}" height="{y - top:.1f}"/>'
        + plane.grid(across, up)
        + plane.names("M_J, joint margin, nats", "M_A, margin of the evidence alone, nats")
        + _rule("cross", x, top, x, floor)
        + _rule("cross", left, y, right, y)
    )
    for joint, evidence, gate in thinned(items):
        x, y = (min(max(value, -most), most) for value, most in ((joint, wide), (evidence, high)))
        drawn += _dot(plane, x, y, 3.5 if gate else 3, "c1" if gate else "c0")
    for name, words, column, anchor, line in (
        ("flip", "sign flip: repairable", left + 8, "start", top + 16),
        ("right", "right either way", right - 8, "end", top + 16),
        ("missing", "missing evidence", left + 8, "start", floor - 24),
        ("other", "reversed, or a tie", right - 8, "end", floor - 24),
    ):
        share = f"{100 * shares[name] / len(items):.1f} %"
        drawn += (
            f'<text class="over" x="{column}" y="{line}" text-anchor="{anchor}">{words}'
            f'<tspan class="share" x="{column}" dy="16">{share}</tspan></text>'
        )
    opened = sum(bool(gate) for _, _, gate in items)
    legend = _entry("gacl", str(opened), "GACL's gate opened")
    legend += _entry("greedy", str(len(items) - opened), "not opened")
    if not gates:
        legend = f"<span>{len(items)} items</span>"
    elif all(gate is None for _, _, gate in items):
        legend = "<span>GACL has no answers here, so no gate is marked</span>"
    if far := sum(abs(joint) > wide or abs(evidence) > high for joint, evidence, _ in items):
        legend += f"<span>{far} lie further out, drawn on the edge</span>"
    if len(items) > MOST_DOTS:
        legend += f"<span>{MOST_DOTS} of {len(items)} items drawn, evenly; shares of all</span>"
    if len(part) > len(items):
        legend += f"<span>{len(part) - len(items)} items have no margins</span>"
    flips = f"{100 * shares['flip'] / len(items):.1f} % are sign flips"
    label = f"Margins of {len(items)} items in conflict; {flips}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def _extent(values: Sequence[float]) -> float:
    """Half the range of an axis around 0: all values, unless a few lie far out (they go to the edge)."""
    sizes = sorted(abs(value) for value in values)
    usual, most = sizes[int(0.98 * (len(sizes) - 1))], sizes[-1]
    return 1.06 * max(most if most <= 1.5 * usual else 1.2 * usual, 0.5)


def thinned(items: Sequence[Any], most: int = MOST_DOTS) -> Sequence[Any]:
    """At most `most` of the items, evenly spread over their order."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def _dot(plane: Plane, x: float, y: float, radius: float, name: str, label: str = "") -> str:
    inside = f"><title>{esc(label)}</title></circle>" if label else "/>"
    at = f'cx="{plane.across(x):.1f}" cy="{plane.down(y):.1f}"'
    return f'<circle class="dot {name}" {at} r="{radius:.1f}"{inside}'


def _middle(name: str, x: float, y: float, words: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{esc(words)}</text>'


def _rule(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


# ---------------------------------------------------------------- names and colours


def settings_words(settings: Mapping[str, Any] | None) -> str:
    """Settings in words: what is None or GACL's fixed default goes without saying."""
    if settings is None:
        return INFEASIBLE
    fixed = {"alpha_max": gacl.Settings.alpha_max, "score_norm": gacl.Settings.score_norm}
    return " ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in settings.items()
        if value is not None and fixed.get(key) != value
    )


def title(decoder: str) -> str:
    return TITLES.get(decoder, decoder)


def colour(decoder: str) -> str:
    """A decoder's colour class: by its place in `TITLES`, one of the same twelve for any other name."""
    names = list(TITLES)
    return f"c{names.index(decoder) if decoder in TITLES else zlib.crc32(decoder.encode()) % len(names)}"


def key_of(decoder: str) -> str:
    return f'<i class="key {colour(decoder)}"></i>'


def _entry(decoder: str, value: str = "", words: str = "") -> str:
    """One entry of a legend."""
    bold = f" <b>{esc(value)}</b>" if value else ""
    return f'<span><i class="{colour(decoder)}"></i>{esc(words or title(decoder))}{bold}</span>'


STYLE = """
.dot{fill:currentColor;fill-opacity:.62;stroke:var(--card);stroke-width:.8}
.dot.far{fill:none;stroke:currentColor;stroke-width:1.5}
.bar{fill:currentColor;fill-opacity:.88}.repair{fill:currentColor;fill-opacity:.08}
.budget,.cross{stroke:var(--soft);stroke-width:1.2}.budget{stroke-dasharray:4 4;opacity:.8}
svg text.tiny{font-size:10.5px}svg text.name{fill:var(--ink)}
svg text.over{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .share{fill:var(--ink);font-size:14px;font-weight:650}
"""
