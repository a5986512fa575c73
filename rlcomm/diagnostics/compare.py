"""The same items before and after: several diagnoses side by side, and which items changed sides.

runs/base  runs/warmup  runs/step_rr  ->  a row of balance each, and from -> to of the quadrants of flips
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcomm.diagnostics import flips
from rlcomm.diagnostics.items import Record
from rlcomm.evaluation import metrics
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import read_records
from rlcomm.reports.charts import drawn
from rlcomm.reports.diagnosis import BALANCE
from rlcomm.reports.diagnosis_charts import stacked
from rlcomm.reports.page import Block
from rlcomm.reports.tables import Cell, Column, Table, between, by_name, named, number, plain
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
    rows = [[run.name, *(_shown(run.diagnosis["balance"].get(c.name), c) for c in BALANCE)] for run in runs]
    tables = [plain(["", *(column.head for column in BALANCE)], rows)]
    for before, after in itertools.pairwise(runs):
        if not (both := pairs(before, after)):
            continue
        about = f"{len(both)} items in conflict, before down, after across"
        counts = [[old, *map(str, row.values())] for old, row in transitions(both).items()]
        moved = []
        for name, metric in change(both).items():
            scale, unit = (100, "points") if name == "flip" else (1, "nats")
            low, high = metric["ci95"] or (0.0, 0.0)
            value = scale * (metric["value"] or 0.0)
            moved.append(f"{name} {value:+.2f} [{scale * low:+.2f}, {scale * high:+.2f}] {unit}")
        table = plain(["", *flips.QUADRANTS], counts)
        tables.append("\n".join([f"{before.name} -> {after.name}: {about}", table, *moved]))
    return "\n\n".join(tables)


def _shown(metric: Metric | None, column: Column) -> str | None:
    if metric is None or metric["value"] is None:
        return None
    return f"{number(metric['value'], column)} {between(metric['ci95'], column)}".strip()


def section(runs: Sequence[Run]) -> list[Block]:
    """Balance of all runs, quadrants of the shared items in conflict, and those items side by side."""
    table = by_name("run", {run.name: run.diagnosis["balance"] for run in runs}, BALANCE)
    known = [{r["key"] for r in run.flips} for run in runs]
    shared = set.intersection(*known) if all(known) else set()
    items = [
        [r for r in run.flips if r["key"] in shared and r["usual"] and r["condition"] == CONFLICT]
        for run in runs
    ]
    if not items[0]:
        return [table]
    shares = {
        run.name: {name: sum(r["quadrant"] == name for r in part) / len(part) for name in flips.QUADRANTS}
        for run, part in zip(runs, items, strict=True)
    }
    figure = stacked(f"The same {len(items[0])} items in conflict", shares, flips.QUADRANTS)
    by_key = [{r["key"]: r for r in part} for part in items]
    moved = sorted(
        by_key[0],
        key=lambda key: -abs(by_key[-1][key]["margins"]["joint"] - by_key[0][key]["margins"]["joint"]),
    )
    columns = [named(title) for title in ("item", *(f"{run.name}: M_J, M_A" for run in runs))]
    rows = [[Cell(key), *(_margins(part[key]) for part in by_key)] for key in moved[:SHOWN]]
    return [table, drawn([figure]), Table(columns, rows)]


def _margins(item: Record) -> Cell:
    joint, reference = item["margins"]["joint"], item["margins"]["reference"]
    title, colour = flips.QUADRANTS[item["quadrant"]]
    return Cell(f"{joint:.2f}, {reference:.2f}", colour=colour, hint=title)
