"""What the sections of diagnosis.html draw: shares as stacked bars, curves over steps, tables of metrics."""

from collections.abc import Mapping, Sequence

from rlcomm.evaluation.metrics import Metric
from rlcomm.reports import page
from rlcomm.reports.page import Column, Plane, esc

STYLE = """
.share{stroke:var(--card);stroke-width:1}.share.c0,.share.c1,.share.c2,.share.c4,.share.c5,.share.c7,.share.c8
{fill:currentColor}
svg text.rowname{fill:var(--ink);font-size:12px}svg text.inside{fill:var(--card);font-size:11px;
font-weight:600}
.charts+.scroll,.scroll+.charts{margin-top:16px}
"""
_ROW, _LETTER = 26, 6.6  # height of a bar's row and width of a letter of its name, in SVG units


def stacked(rows: Mapping[str, Mapping[str, float | None]], parts: Mapping[str, tuple[str, str]]) -> str:
    """Horizontal bars whose parts sum to 1, one a row.

    Args:
        rows: name -> part -> share in [0, 1]; a row without values is left out.
        parts: part -> (title, colour class), in the order drawn.

    Returns:
        An SVG and its legend; "" where there is nothing to draw.
    """
    shown = {name: row for name, row in rows.items() if any(row.get(part) for part in parts)}
    if not shown:
        return ""
    left = round(max(map(len, shown)) * _LETTER) + 14
    plane = Plane((0, 1), (0, 1), height=len(shown) * _ROW + 34, left=left, top=6, bottom=28)
    drawn = ""
    for number, (name, row) in enumerate(shown.items()):
        y, start = plane.top + number * _ROW, 0.0
        drawn += f'<text class="rowname" x="{left - 8}" y="{y + 16}" text-anchor="end">{esc(name)}</text>'
        for part, (title, colour) in parts.items():
            share = row.get(part) or 0.0
            x, wide = plane.across(start), plane.across(share) - plane.across(0)
            drawn += (
                f'<rect class="share {colour}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_ROW - 6}">'
                f"<title>{esc(name)}, {esc(title)}: {100 * share:.1f} %</title></rect>"
            )
            if wide > 26:
                drawn += (
                    f'<text class="inside" x="{x + wide / 2:.1f}" y="{y + 14}" text-anchor="middle">'
                    f"{100 * share:.0f}</text>"
                )
            start += share
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn += (
            f'<text x="{plane.across(tick):.1f}" y="{plane.height - 8}" text-anchor="middle">'
            f"{100 * tick:g}</text>"
        )
    legend = "".join(f'<span><i class="{colour}"></i>{esc(title)}</span>' for title, colour in parts.values())
    label = f"Shares in percent of {', '.join(title for title, _ in parts.values())} by row"
    return f'{plane.svg(label, drawn)}<div class="legend">{legend}<span class="axis">percent</span></div>'


def metric_table(first: str, rows: Mapping[str, Mapping[str, Metric]], columns: Sequence[Column]) -> str:
    """Rows of metrics with their 95 % intervals; columns that no row has are left out.

    Args:
        first: head of the column of names.
        rows: name -> metric -> `{"value", "n", "ci95"}`.
        columns: what is shown.
    """
    shown = [column for column in columns if any(column.name in row for row in rows.values())]
    head = f'<th scope="col">{esc(first)}</th>' + "".join(map(page.head, shown))
    body = ""
    for name, row in rows.items():
        size = max((metric["n"] for metric in row.values()), default=0)
        body += f'<tr><th scope="row">{esc(name)}<span class="n">n = {size}</span></th>'
        for column in shown:
            metric = row.get(column.name) or {"value": None, "ci95": None}
            body += page.cell(metric["value"], metric["ci95"], column, None)
        body += "</tr>"
    return page.table(head, body)
