"""The charts of decoders under conflict: what each is called, its colour, and one function a chart.

Every chart is a `Drawing`, or None where there is nothing to draw.
"""

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.decoding import gacl
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.margins import quadrant
from rlcomm.evaluation.metrics import reliability_bins
from rlcomm.evaluation.records import Record
from rlcomm.evaluation.repair import frontier
from rlcomm.reports.charts import Chart, Drawing, Key, ticks
from rlcomm.reports.tables import DASH

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


def frontiers(results: Mapping[str, Any], key: str) -> Drawing | None:
    """Gain against drop: every setting a dot, every decoder's frontier a line, the budget."""
    grids = {name: grid for name, found in results["decoders"].items() if (grid := found["grid"].get(key))}
    points = [point for grid in grids.values() for point in grid]
    if not points:
        return None
    budget = float(next(iter(results["decoders"].values()))["settings"].get("budget_points", 5.0))
    drops, gains = ([100 * point[name] for point in points] for name in ("faithful_drop", "conflict_gain"))
    across = ticks(max(-FARTHEST, min(0.0, *drops)), min(FARTHEST, max(10.0, 2 * budget, *drops)), 8)
    up = ticks(min(0.0, *gains), max(10.0, *gains), 6)
    edge = across[0] - 0.02 * (across[-1] - across[0])  # dots at a drop of 0 stand clear of the numbers
    chart = Chart(across, up, ("faithful drop, points", "conflict gain, points"), (edge, across[-1]))
    chart.line([(budget, up[0]), (budget, up[-1])], "soft", "budget", 1.2, (4, 4))
    chart.text((budget, up[-1]), f"budget {budget:g}", "left", shift=(5, 6), kind="over")
    for name in reversed(grids):  # the first decoders lie on top
        steps = frontier_steps(
            [point["conflict_gain"] for point in grids[name]],
            [point["faithful_drop"] for point in grids[name]],
            across[-1],
        )
        chart.line(steps, colour(name))
    beyond = 0
    for name in reversed(grids):
        inside: list[tuple[tuple[float, float], str]] = []
        far: list[tuple[tuple[float, float], str]] = []
        for point in grids[name]:
            gain, drop = 100 * point["conflict_gain"], 100 * point["faithful_drop"]
            words = " ".join(filter(None, (title(name), settings_words(point["settings"]))))
            place = min(max(drop, across[0]), across[-1]), gain
            dots = inside if place[0] == drop else far
            dots.append((place, f"{words}: gain {gain:.1f}, drop {drop:.1f}"))
        for dots, kind in ((inside, "dot"), (far, "dot far")):
            chart.dots([p for p, _ in dots], colour(name), [4.5] * len(dots), [w for _, w in dots], kind)
        beyond += len(far)
    keys = [_key(name, _percent(value(results, name, key, "nauc_5"))) for name in grids]
    if beyond:
        keys.append(Key(f"hollow, on the edge: {beyond} settings beyond it"))
    return chart.drawing(key, keys, f"bold: {NAUC_5}")


def conditions(results: Mapping[str, Any], key: str, rows: Sequence[Record]) -> Drawing | None:
    """Accuracy under each condition, bars by decoder; None for a set that has no conditions."""
    found = accuracy_by_condition(rows)
    if not found:
        return None
    decoders = [name for name in results["decoders"] if any(name in part for part in found.values())]
    chart = Chart((), ticks(0, 100), ("", "right answers, %"), (0, len(found)), None, 310, top=44, bottom=44)
    wide = 0.86 / max(1, len(decoders))
    for number, (condition, part) in enumerate(found.items()):
        for place, name in enumerate(decoders):
            if name not in part:
                continue
            value, size = part[name]
            left = number + 0.07 + place * wide
            words = f"{title(name)}, {condition}: {100 * value:.1f} % of {size}"
            height = max(100 * value, 0.7)  # a share of 0 is seen as well
            chart.box((left + 0.06 * wide, 0), (0.88 * wide, height), colour(name), words, 0.88)
            if wide * 508 / len(found) >= 17:  # room for three digits
                chart.text((left + wide / 2, height), f"{100 * value:.0f}", size=10.5, shift=(0, 4))
        words = CONDITION_NAMES.get(key, {}).get(condition, condition)
        size = max(n for _, n in part.values())
        chart.text((number + 0.5, 0), words, colour="ink", shift=(0, -18))
        chart.text((number + 0.5, 0), f"n = {size}", size=10.5, shift=(0, -33))
    without = [Key(f"{title(name)}: {INFEASIBLE}") for name in results["decoders"] if name not in decoders]
    return chart.drawing(key, [*map(_key, decoders), *without])


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


def reliability(results: Mapping[str, Any], key: str, rows: Sequence[Record]) -> Drawing | None:
    """Accuracy over confidence of the joint answer, of GACL, and of the others where they are few."""
    decoders = [name for name in results["decoders"] if any(_sure(row, name) for row in rows)]
    if len(decoders) > 4:  # and other models
        first = [name for name in decoders if name in ("greedy", "gacl") or name not in TITLES]
        decoders = first or decoders[:2]
    if not decoders:
        return None
    chart = Chart(ticks(0, 1), ticks(0, 1), ("confidence", "share right"))
    chart.line([(0, 0), (1, 1)], "soft", "budget", 1.2, (4, 4))
    keys = []
    for name in decoders:
        answers = [answer for row in rows if (answer := _sure(row, name))]
        bins = reliability_bins([a["confidence"] for a in answers], [bool(a["correct"]) for a in answers])
        bins = [one for one in bins if one["n"]]
        error = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(answers)
        points = [(one["confidence"], one["accuracy"]) for one in bins]
        words = [
            f"{title(name)}: {one['n']} answers, confidence {100 * x:.0f} %, right {100 * y:.0f} %"
            for (x, y), one in zip(points, bins, strict=True)
        ]
        chart.line(points, colour(name))
        chart.dots(points, colour(name), [3 + 8 * math.sqrt(one["n"] / len(answers)) for one in bins], words)
        keys.append(_key(name, f"{100 * error:.1f}"))
    return chart.drawing(key, keys, "bold: ECE, %")


def calibration(results: Mapping[str, Any], key: str) -> Drawing | None:
    """Conflict gain over the calibration error, a dot for every decoder under its chosen settings."""
    dots: dict[str, tuple[float, float]] = {}
    for name in results["decoders"]:
        gain, error = (value(results, name, key, metric) for metric in ("conflict_gain", "ece"))
        if gain is not None and error is not None:
            dots[name] = 100 * error, 100 * gain
    if len(dots) < 2:
        return None
    errors, gains = zip(*dots.values(), strict=True)
    across, up = ticks(0.0, max(10.0, *errors), 8), ticks(min(0.0, *gains), max(10.0, *gains), 6)
    edge = -0.02 * across[-1]  # dots at an error of 0 stand clear of the numbers
    chart = Chart(across, up, ("ECE, %", "conflict gain, points"), (edge, across[-1]))
    for name, (error, gain) in dots.items():
        words = f"{title(name)}: gain {gain:.1f}, ECE {error:.1f} %"
        chart.dots([(error, gain)], colour(name), [6], [words])
    return chart.drawing(
        key, [_key(name, f"{error:.1f}") for name, (error, _) in dots.items()], "bold: ECE, %"
    )


def _sure(row: Record, decoder: str) -> Mapping[str, Any] | None:
    """A decoder's answer where it has a confidence and a verdict."""
    answer = row["decoders"].get(decoder) or {}
    known = answer.get("confidence") is not None and answer.get("correct") is not None
    return answer if known else None


def quadrant_plot(caption: str, rows: Sequence[Mapping[str, Any]], gates: bool = True) -> Drawing | None:
    """M_A over M_J of the items in conflict; None where no item has both margins.

    Args:
        caption: above it.
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
        return None
    shares: Counter[str] = Counter(quadrant(joint, evidence) for joint, evidence, _ in items)
    wide, high = _extent([joint for joint, _, _ in items]), _extent([evidence for _, evidence, _ in items])
    across, up = ([t for t in ticks(-most, most, 6) if abs(t) <= most] for most in (wide, high))
    names = "M_J, joint margin, nats", "M_A, margin of the evidence alone, nats"
    chart = Chart(across, up, names, (-wide, wide), (-high, high), 400)
    chart.box((-wide, 0), (wide, high), "c1", alpha=0.08)
    chart.line([(0, -high), (0, high)], "soft", "cross", 1.2)
    chart.line([(-wide, 0), (wide, 0)], "soft", "cross", 1.2)
    for opened in (False, True):
        dots = [
            (min(max(joint, -wide), wide), min(max(evidence, -high), high))
            for joint, evidence, gate in thinned(items)
            if bool(gate) is opened
        ]
        chart.dots(dots, "c1" if opened else "c0", [3.5 if opened else 3] * len(dots))
    for name, words, side, up_ in (
        ("flip", "sign flip: repairable", -1, 1),
        ("right", "right either way", 1, 1),
        ("missing", "missing evidence", -1, -1),
        ("other", "reversed, or a tie", 1, -1),
    ):
        place, anchor, first = (
            (side * wide, up_ * high),
            "right" if side > 0 else "left",
            -16 if up_ > 0 else 24,
        )
        share = f"{100 * shares[name] / len(items):.1f} %"
        chart.text(place, words, anchor, shift=(-8 * side, first), kind="over")
        chart.text(place, share, anchor, "ink", 14, (-8 * side, first - 16), "over share")
    return chart.drawing(caption, _items(items, len(part), wide, high, gates))


def _items(
    items: Sequence[tuple[float, float, bool | None]], asked: int, wide: float, high: float, gates: bool
) -> list[Key]:
    """The legend of a quadrant plot: what is marked, and what is not seen."""
    opened = sum(bool(gate) for _, _, gate in items)
    keys = [Key("GACL's gate opened", str(opened), "c1"), Key("not opened", str(len(items) - opened), "c0")]
    if not gates:
        keys = [Key(f"{len(items)} items")]
    elif all(gate is None for _, _, gate in items):
        keys = [Key("GACL has no answers here, so no gate is marked")]
    if far := sum(abs(joint) > wide or abs(evidence) > high for joint, evidence, _ in items):
        keys.append(Key(f"{far} lie further out, drawn on the edge"))
    if len(items) > MOST_DOTS:
        keys.append(Key(f"{MOST_DOTS} of {len(items)} items drawn, evenly; shares of all"))
    if asked > len(items):
        keys.append(Key(f"{asked - len(items)} items have no margins"))
    return keys


def _extent(values: Sequence[float]) -> float:
    """Half the range of an axis around 0: all values, unless a few lie far out (they go to the edge)."""
    sizes = sorted(abs(value) for value in values)
    usual, most = sizes[int(0.98 * (len(sizes) - 1))], sizes[-1]
    return 1.06 * max(most if most <= 1.5 * usual else 1.2 * usual, 0.5)


def thinned(items: Sequence[Any], most: int = MOST_DOTS) -> Sequence[Any]:
    """At most `most` of the items, evenly spread over their order."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


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
    """A decoder's colour: by its place in `TITLES`, one of the same twelve for any other name."""
    names = list(TITLES)
    other = zlib.crc32(decoder.encode("utf-8", "replace")) % len(names)
    return f"c{names.index(decoder) if decoder in TITLES else other}"


def _key(decoder: str, value: str = "") -> Key:
    return Key(title(decoder), value, colour(decoder))


def value(results: Mapping[str, Any], decoder: str, key: str, metric: str) -> float | None:
    return ((results["decoders"][decoder]["benchmarks"].get(key) or {}).get(metric) or {}).get("value")


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"
