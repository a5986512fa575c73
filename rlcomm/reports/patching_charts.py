"""The charts of activation patching: where recovery is, and whether it goes with the branches' scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.diagnostics import patching
from rlcomm.diagnostics.hooks import COMPONENTS
from rlcomm.diagnostics.patching import Record
from rlcomm.diagnostics.segments import GROUPS
from rlcomm.reports import page
from rlcomm.reports.page import DASH, Plane, esc

COMPONENT_NAMES = {"residual": "Residual stream", "attention": "Attention output", "mlp": "MLP output"}
GROUP_NAMES = {
    "audio": "audio span",
    "video": "video span",
    "text": "text evidence",
    "question": "question",
    "answer": "answer position",
    "all": "all of them",
}
RULE_NAMES = {
    "tokens": "token by token",
    "mean": "mean of the reference's",
    "absent": "not in the reference: its mean over the question",
    "mixed": "by several rules",
}
MOST_DOTS = 800


def charts(summary: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Figures by what was left out; "" where nothing was patched."""
    drawn = ""
    for distractor, found in summary.items():
        patched = [r for r in records if r["distractor"] == distractor and r["patched"] is not None]
        if not patched:
            continue
        flips = [record for record in patched if patching.is_flip(record)]
        key, what = ("recovery_flips", "sign flips") if flips else ("recovery", "items")
        size = len(flips or patched)
        for component in COMPONENTS:
            drawn += page.figure(
                f"{COMPONENT_NAMES[component]}, {distractor} left out: recovery of {size} {what}",
                heat_map(found[key][component]) + _legend(found["rules"]),
            )
        drawn += page.figure(
            f"Margin moved by patching and by the branch, {distractor} left out",
            scatter([patching.displacements(record) for record in patched], found["spearman"]),
        )
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def heat_map(cells: Mapping[str, Mapping[str, Any]]) -> str:
    """Recovery by layer (across) and group (down); blue recovers, red moves away, empty is 0.

    Args:
        cells: {group: {layer: metric}}.
    """
    groups = [group for group in GROUPS if group in cells]
    depth = max((len(cells[group]) for group in groups), default=0)
    if not depth:
        return ""
    plane = Plane((0, depth), (0, len(groups)), height=74 + 34 * len(groups), left=104, top=24, bottom=40)
    wide = plane.across(1) - plane.across(0)
    every = max(1, round(24 / wide))  # layers a number, where cells are narrow
    drawn = plane.names("layer", "")
    for row, group in enumerate(groups):
        top, floor = plane.down(len(groups) - row), plane.down(len(groups) - row - 1)
        drawn += (
            f'<text x="{plane.left - 8}" y="{(top + floor) / 2 + 4:.1f}" text-anchor="end">'
            f"{esc(GROUP_NAMES[group])}</text>"
        )
        for layer, metric in cells[group].items():
            value = metric["value"]
            x = plane.across(int(layer))
            shade = 0.0 if value is None else 0.75 * min(1.0, abs(value))
            colour = "c1" if value is None or value >= 0 else "c5"
            drawn += (
                f'<rect class="{colour}" x="{x + 1:.1f}" y="{top + 1:.1f}" width="{max(1.0, wide - 2):.1f}" '
                f'height="{floor - top - 2:.1f}" rx="2" style="fill:currentColor;fill-opacity:{shade:.3f};'
                f'stroke:var(--line)"><title>{esc(_said(group, layer, metric))}</title></rect>'
            )
            if wide >= 34:
                words = DASH if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
                drawn += (
                    f'<text x="{x + wide / 2:.1f}" y="{(top + floor) / 2 + 4:.1f}" text-anchor="middle" '
                    f'style="fill:var(--ink);pointer-events:none">{words}</text>'
                )
    low = plane.height - plane.bottom + 17
    for number in range(0, depth, every):
        drawn += f'<text x="{plane.across(number + 0.5):.1f}" y="{low}" text-anchor="middle">{number}</text>'
    return plane.svg(f"Recovery by layer of {', '.join(GROUP_NAMES[group] for group in groups)}", drawn)


def _said(group: str, layer: str, metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return f"{GROUP_NAMES[group]}, layer {layer}: not measured"
    low, high = metric["ci95"]
    return (
        f"{GROUP_NAMES[group]}, layer {layer}: {metric['value']:.3f} ({low:.3f} to {high:.3f}, "
        f"n = {metric['n']})"
    )


def _legend(rules: Mapping[str, Mapping[str, Any]]) -> str:
    """How each group's places were paired, as most items have it."""
    words = ""
    for group in GROUPS:
        if group in rules and group != "all":
            _, most = max((share["value"], rule) for rule, share in rules[group].items())
            words += f"<span>{esc(GROUP_NAMES[group])}: {esc(RULE_NAMES[most])}</span>"
    return f'<div class="legend">{words}</div>'


def scatter(points: Sequence[tuple[float, float]], correlation: Mapping[str, Any]) -> str:
    """Displacement of the margin by patching (up) over that by the reference branch (across), in nats."""
    across = page.ticks(min(0.0, *(b for _, b in points)), max(0.5, *(b for _, b in points)), 6)
    up = page.ticks(min(0.0, *(a for a, _ in points)), max(0.5, *(a for a, _ in points)), 6)
    plane = Plane((across[0], across[-1]), (up[0], up[-1]), height=320, left=44, top=30, bottom=48)
    drawn = plane.grid(across, up) + plane.names("reference branch, nats", "answer position patched, nats")
    shown = points[:: max(1, -(-len(points) // MOST_DOTS))]
    for moved, branch in shown:
        drawn += (
            f'<circle class="c1" cx="{plane.across(branch):.1f}" cy="{plane.down(moved):.1f}" r="3.2" '
            'style="fill:currentColor;fill-opacity:.6"/>'
        )
    value = DASH if correlation["value"] is None else f"{correlation['value']:.2f}"
    label = f"Displacement by patching over displacement of the branch, {len(points)} items"
    return (
        f'{plane.svg(label, drawn)}<div class="legend"><span>Spearman <b>{value}</b></span>'
        f"<span>{len(shown)} of {len(points)} items drawn</span></div>"
    )
