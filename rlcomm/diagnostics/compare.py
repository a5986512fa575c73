"""The same items before and after: several diagnoses side by side, and which items changed sides.

runs/base  runs/warmup  runs/step_rr  ->  a row of balance each, and from -> to of the quadrants of flips
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcomm.diagnostics import balance, flips
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import Record
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.runner import read_records
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports import page
from rlcomm.reports.page import DASH, Column, esc
from rlcomm.utils.errors import UserError

SHOWN = 40  # items of the page's side by side table


@dataclass(frozen=True)
class Run:
    """One diagnosis.

    Attributes:
        name: its folder.
        diagnosis: of diagnosis.json.
        flips: records of flips.jsonl; [] where flips were not measured.
    """

    name: str
    diagnosis: Mapping[str, Any]
    flips: Sequence[Record]


def load(folder: str | Path) -> Run:
    """Reads the folder of a finished diagnosis.

    Raises:
        UserError: it is none.
    """
    folder = Path(folder)
    place = folder / "diagnosis.json"
    if not place.is_file():
        raise UserError(
            f"{folder}: has no diagnosis.json, so there is nothing to compare with; give the output_dir of a "
            "finished `rlcomm diagnose`."
        )
    records = read_records(folder / "flips.jsonl") if (folder / "flips.jsonl").is_file() else []
    return Run(str(folder), json.loads(place.read_text(encoding="utf-8")), records)


def pairs(before: Run, after: Run) -> list[tuple[Record, Record]]:
    """The items in conflict that both runs have measured, the usual distractor left out."""
    old = {r["key"]: r for r in before.flips}
    return [
        (old[r["key"]], r)
        for r in after.flips
        if r["key"] in old and r["usual"] and r["condition"] == CONFLICT
    ]


def transitions(both: Sequence[tuple[Record, Record]]) -> dict[str, dict[str, int]]:
    """Quadrant before -> quadrant after -> items."""
    found = {old: dict.fromkeys(flips.QUADRANTS, 0) for old in flips.QUADRANTS}
    for before, after in both:
        found[before["quadrant"]][after["quadrant"]] += 1
    return found


def change(both: Sequence[tuple[Record, Record]]) -> dict[str, Metric]:
    """What changed, item by item (paired, intervals over clips): the flip rate, and both margins in nats."""
    clips = [after["source"] for _, after in both]
    gained = [int(a["quadrant"] == "flip") - int(b["quadrant"] == "flip") for b, a in both]
    found = {"flip": metrics.mean([float(value) for value in gained], clips)}
    for name in ("joint", "reference"):
        found[f"margin_{name}"] = metrics.mean(
            [a["margins"][name] - b["margins"][name] for b, a in both], clips
        )
    return found


def format_table(runs: Sequence[Run]) -> str:
    """Diagnoses as plain text: a row of balance each, then where the items of one went in the next.

    Rates in percent; "-" where a part was not measured.
    """
    first = max(14, *(len(run.name) for run in runs)) + 2
    width = 16
    lines = [" " * first + "".join(c.head[line].rjust(width) for c in balance.COLUMNS) for line in (0, 1)]
    lines.append("-" * len(lines[0]))
    for run in runs:
        cells = "".join(_shown(run.diagnosis["balance"].get(c.name), c).rjust(width) for c in balance.COLUMNS)
        lines.append(run.name.ljust(first) + cells)
    for before, after in itertools.pairwise(runs):
        if not (both := pairs(before, after)):
            continue
        about = f"{len(both)} items in conflict, before down, after across"
        lines += ["", f"{before.name} -> {after.name}: {about}"]
        lines.append(" " * first + "".join(name.rjust(9) for name in flips.QUADRANTS))
        for old, row in transitions(both).items():
            lines.append(old.ljust(first) + "".join(str(n).rjust(9) for n in row.values()))
        for name, metric in change(both).items():
            scale, unit = (100, "points") if name == "flip" else (1, "nats")
            low, high = metric["ci95"] or (0.0, 0.0)
            lines.append(
                f"{name.ljust(first)}{scale * (metric['value'] or 0.0):+.2f} "
                f"[{scale * low:+.2f}, {scale * high:+.2f}] {unit}"
            )
    return "\n".join(lines)


def section(runs: Sequence[Run]) -> str:
    """Balance of all runs, quadrants of the shared items in conflict, and those items side by side."""
    rows = {run.name: run.diagnosis["balance"] for run in runs}
    body = charts.metric_table("run", rows, balance.COLUMNS)
    known = [{r["key"] for r in run.flips} for run in runs]
    shared = set.intersection(*known) if all(known) else set()
    items = [
        [r for r in run.flips if r["key"] in shared and r["usual"] and r["condition"] == CONFLICT]
        for run in runs
    ]
    if not items[0]:
        return body
    shares = {
        run.name: {name: sum(r["quadrant"] == name for r in part) / len(part) for name in flips.QUADRANTS}
        for run, part in zip(runs, items, strict=True)
    }
    figure = page.figure(
        f"The same {len(items[0])} items in conflict", charts.stacked(shares, flips.QUADRANTS)
    )
    by_key = [{r["key"]: r["margins"] | {"quadrant": r["quadrant"]} for r in part} for part in items]
    moved = sorted(
        by_key[0],
        key=lambda key: -abs(by_key[-1][key]["joint"] - by_key[0][key]["joint"]),
    )[:SHOWN]
    head = '<th scope="col">item</th>' + "".join(
        f'<th scope="col">{esc(run.name)}: M_J, M_A</th>' for run in runs
    )
    rows_ = ""
    for key in moved:
        cells = "".join(_margins(part[key]) for part in by_key)
        rows_ += f'<tr><th scope="row">{esc(key)}</th>{cells}</tr>'
    return f'{body}<div class="charts">{figure}</div>' + page.table(head, rows_)


def _margins(item: Mapping[str, Any]) -> str:
    title, colour = flips.QUADRANTS[item["quadrant"]]
    mark = f'<span class="{colour}" title="{esc(title)}">\N{BLACK CIRCLE}</span>'
    return f"<td>{mark} {item['joint']:.2f}, {item['reference']:.2f}</td>"


def _shown(metric: Metric | None, column: Column) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    text = page.number(metric["value"], column)
    low, high = metric["ci95"] or (None, None)
    return f"{text} {page.number(low, column)}{DASH}{page.number(high, column)}" if low is not None else text
