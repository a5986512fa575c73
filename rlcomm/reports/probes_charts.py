"""The charts of conflict probes: how well each layer tells misleading text from helpful text."""

from collections.abc import Mapping
from typing import Any

from rlcomm.reports import page
from rlcomm.reports.page import DASH, Plane, esc

LINES = {
    "linear": ("Linear probe", "c1", ""),
    "forest": ("Random forest", "c2", ""),
    "linear_shuffled": ("Linear probe, labels shuffled", "c1", "4 4"),
    "forest_shuffled": ("Random forest, labels shuffled", "c2", "4 4"),
}
DOUBT = ("The model's confidence alone", "c0")
MEASURES = {"acc": "accuracy, out of fold", "auc": "area under the curve, out of fold"}


def charts(summary: Mapping[str, Any]) -> str:
    """A figure for accuracy and one for the area under the curve; "" where nothing was probed."""
    drawn = "".join(
        page.figure(f"Adversarial or faithful: {title}", body)
        for measure, title in MEASURES.items()
        if (body := by_layer(summary, measure))
    )
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def by_layer(summary: Mapping[str, Any], measure: str) -> str:
    """One measure over the layers: both probes, their controls, the model's confidence beside them.

    Args:
        summary: of `probes.summary`.
        measure: of `MEASURES`.
    """
    depth = len(summary["linear"])
    if not any(
        summary[name][layer][measure]["value"] is not None for name in LINES for layer in summary[name]
    ):
        return ""
    plane = Plane((-0.4, depth - 0.6), (0, 1), height=320, left=40, top=30, bottom=48)
    every = max(1, depth // 12)
    drawn = plane.grid([float(layer) for layer in range(0, depth, every)], [0.0, 0.25, 0.5, 0.75, 1.0])
    drawn += plane.names("layer", MEASURES[measure])
    legend = ""
    for name, (title, colour, dashes) in LINES.items():
        known = [
            (int(layer), both[measure])
            for layer, both in summary[name].items()
            if both[measure]["value"] is not None
        ]
        style = f' style="stroke-dasharray:{dashes}"' if dashes else ""
        points = plane.line([(layer, metric["value"]) for layer, metric in known])
        drawn += f'<polyline class="line {colour}" points="{points}"{style}/>'
        for layer, metric in known:
            low, high = metric["ci95"]
            x = plane.across(layer)
            said = (
                f"{title}, layer {layer}: {metric['value']:.3f} ({low:.3f} to {high:.3f}), n = {metric['n']}"
            )
            drawn += (
                f'<line class="{colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{plane.down(low):.1f}" '
                f'y2="{plane.down(high):.1f}" style="stroke:currentColor;opacity:.35"/>'
                f'<circle class="{colour}" cx="{x:.1f}" cy="{plane.down(metric["value"]):.1f}" r="3.5" '
                f'style="fill:currentColor"><title>{esc(said)}</title></circle>'
            )
        best = max((metric["value"] for _, metric in known), default=None)
        legend += _entry(title, colour, best)
    doubt = summary["doubt"][measure]["value"]
    if doubt is not None:
        y = plane.down(doubt)
        drawn += (
            f'<line class="{DOUBT[1]}" x1="{plane.left}" x2="{plane.width - plane.right}" y1="{y:.1f}" '
            f'y2="{y:.1f}" style="stroke:currentColor;stroke-dasharray:2 3"/>'
        )
    legend += _entry(*DOUBT, doubt) + '<span class="axis">bold: the best layer\'s</span>'
    label = f"Probes of conflict by layer: {MEASURES[measure]}"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}</div>'


def _entry(title: str, colour: str, value: float | None) -> str:
    bold = DASH if value is None else f"{value:.2f}"
    return f'<span><i class="{colour}"></i>{esc(title)} <b>{bold}</b></span>'
