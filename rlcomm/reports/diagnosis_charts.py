"""What diagnosis.html draws: shares as stacked bars, recovery as heat maps, probes by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.reports.charts import RIGHT, WIDTH, Chart, Drawing, Key, ticks
from rlcomm.reports.tables import DASH

GROUPS = {
    "audio": "audio span",
    "video": "video span",
    "text": "text evidence",
    "question": "question",
    "answer": "answer position",
    "all": "all of them",
}
RULES = {
    "tokens": "token by token",
    "mean": "mean of the reference's",
    "absent": "not in the reference: its mean over the question",
    "mixed": "by several rules",
}
PROBES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "linear": ("Linear probe", "c1", ()),
    "forest": ("Random forest", "c2", ()),
    "linear_shuffled": ("Linear probe, labels shuffled", "c1", (1.7, 1.7)),
    "forest_shuffled": ("Random forest, labels shuffled", "c2", (1.7, 1.7)),
}
DOUBT = ("The model's confidence alone", "c0")
MEASURES = {"acc": "accuracy, out of fold", "auc": "area under the curve, out of fold"}
MOST_DOTS = 800
ROW, LETTER = 26, 6.6  # height of a bar's row and width of a letter of its name, in SVG units


def stacked(
    caption: str, rows: Mapping[str, Mapping[str, float | None]], parts: Mapping[str, tuple[str, str]]
) -> Drawing | None:
    """Horizontal bars whose parts sum to 1, one a row.

    Args:
        caption: above it.
        rows: name -> part -> share in [0, 1]; a row without values is left out.
        parts: part -> (title, colour), in the order drawn.

    Returns:
        None where there is nothing to draw.
    """
    shown = {name: row for name, row in rows.items() if any(row.get(part) for part in parts)}
    if not shown:
        return None
    left = round(max(map(len, shown)) * LETTER) + 14
    height = len(shown) * ROW + 34
    chart = Chart(ticks(0, 100, 4), (), y=(0, len(shown)), height=height, left=left, top=6, bottom=28)
    for number, (name, row) in enumerate(shown.items()):
        floor, start = len(shown) - 1 - number + 6 / ROW, 0.0
        chart.text((0, floor), name, "right", "ink", shift=(-8, 5))
        for part, (title, colour) in parts.items():
            share = 100 * (row.get(part) or 0.0)
            words = f"{name}, {title}: {share:.1f} %"
            chart.box((start, floor), (share, 1 - 6 / ROW), colour, words, edge="card")
            if share / 100 * (WIDTH - left - RIGHT) > 26:
                chart.text((start + share / 2, floor), f"{share:.0f}", colour="card", size=11, shift=(0, 6))
            start += share
    return chart.drawing(caption, [Key(title, "", colour) for title, colour in parts.values()], "percent")


def heat_map(
    caption: str, cells: Mapping[str, Mapping[str, Any]], rules: Mapping[str, Mapping[str, Any]]
) -> Drawing | None:
    """Recovery by layer (across) and group (down); blue recovers, red moves away, empty is 0.

    Args:
        caption: above it.
        cells: {group: {layer: metric}}.
        rules: {group: {rule: share}}: how each group's places were paired; told as most items have it.
    """
    depth = max(map(len, cells.values()), default=0)
    if not depth:
        return None
    left, wide = 104, (WIDTH - 104 - RIGHT) / depth
    every = max(1, round(24 / wide))  # layers a number, where cells are narrow
    many, names = len(cells), ("layer", "")
    chart = Chart((), (), names, (0, depth), (0, many), 74 + 34 * many, left=left, top=24, bottom=40)
    for number in range(0, depth, every):
        chart.text((number + 0.5, 0), str(number), shift=(0, -17))
    for row, (group, layers) in enumerate(cells.items()):
        floor = many - 1 - row
        chart.text((0, floor + 0.5), GROUPS[group], "right", shift=(-8, -4))
        for layer, metric in layers.items():
            value, corner = metric["value"], (int(layer) + 1 / wide, floor + 1 / 34)
            shade = 0.0 if value is None else 0.75 * min(1.0, abs(value))
            colour = "c1" if value is None or value >= 0 else "c5"
            chart.box(
                corner, (1 - 2 / wide, 1 - 2 / 34), colour, _recovered(group, layer, metric), shade, "line"
            )
            if wide >= 34:
                words = DASH if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
                chart.text((int(layer) + 0.5, floor + 0.5), words, colour="ink", shift=(0, -4))
    paired = {group: rules[group] for group in cells if group in rules and group != "all"}
    most = {
        group: max((share["value"], rule) for rule, share in found.items()) for group, found in paired.items()
    }
    return chart.drawing(
        caption, [Key(f"{GROUPS[group]}: {RULES[rule]}") for group, (_, rule) in most.items()]
    )


def _recovered(group: str, layer: str, metric: Mapping[str, Any]) -> str:
    where = f"{GROUPS[group]}, layer {layer}"
    return f"{where}: not measured" if metric["value"] is None else f"{where}: {_measured(metric)}"


def _measured(metric: Mapping[str, Any]) -> str:
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} ({low:.3f} to {high:.3f}), n = {metric['n']}"


def displacements(
    caption: str, points: Sequence[tuple[float, float]], correlation: Mapping[str, Any]
) -> Drawing:
    """Displacement of the margin by patching (up) over that by the reference branch (across), in nats.

    Args:
        caption: above it.
        points: (by patching, by the branch) of each item, one or more.
        correlation: Spearman's, a metric.
    """
    moved, branch = zip(*points, strict=True)
    across, up = (ticks(min(0.0, *values), max(0.5, *values), 6) for values in (branch, moved))
    chart = Chart(across, up, ("reference branch, nats", "answer position patched, nats"), height=320)
    shown = points[:: max(1, -(-len(points) // MOST_DOTS))]
    chart.dots([(b, a) for a, b in shown], "c1", [3.2] * len(shown))
    value = DASH if correlation["value"] is None else f"{correlation['value']:.2f}"
    return chart.drawing(caption, [Key("Spearman", value), Key(f"{len(shown)} of {len(points)} items drawn")])


def probes(caption: str, summary: Mapping[str, Any], measure: str) -> Drawing | None:
    """One measure over the layers: both probes, their controls, the model's confidence beside them.

    Args:
        caption: above it.
        summary: {name of `PROBES`: {layer: {measure: metric}}, "doubt": {measure: metric}}.
        measure: of `MEASURES`.

    Returns:
        None where no layer has a value.
    """
    known = {
        name: [(int(layer), both[measure]) for layer, both in summary[name].items()
               if both[measure]["value"] is not None]
        for name in PROBES
    }  # fmt: skip
    if not any(known.values()):
        return None
    depth = len(summary["linear"])
    across, up = range(0, depth, max(1, depth // 12)), (0.0, 0.25, 0.5, 0.75, 1.0)
    chart = Chart(across, up, ("layer", MEASURES[measure]), (-0.4, depth - 0.6), height=320)
    keys = []
    for name, (title, colour, dashes) in PROBES.items():
        points = [(layer, metric["value"]) for layer, metric in known[name]]
        for layer, metric in known[name]:
            chart.line([(layer, end) for end in metric["ci95"]], colour, "interval", 1)
        if points:
            chart.line(points, colour, dashes=dashes)
        words = [f"{title}, layer {layer}: {_measured(metric)}" for layer, metric in known[name]]
        chart.dots(points, colour, [3.5] * len(points), words)
        keys.append(_best(title, colour, max((value for _, value in points), default=None)))
    doubt = summary["doubt"][measure]["value"]
    if doubt is not None:
        chart.line([(-0.4, doubt), (depth - 0.6, doubt)], DOUBT[1], "line", 1, (2, 3))
    return chart.drawing(caption, [*keys, _best(*DOUBT, doubt)], "bold: the best layer's")


def _best(title: str, colour: str, value: float | None) -> Key:
    return Key(title, DASH if value is None else f"{value:.2f}", colour)
