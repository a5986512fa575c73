"""Every score with its blind control beside it: tables of `results["conditions"]` (`conflict.evaluate`).

avconfuse_muted      full   no audio   silent audio   other audio
accuracy             62.0       71.0           70.5          64.0
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlcomm.data.controls import FULL
from rlcomm.reports import page
from rlcomm.reports.page import Column, esc

ColumnOf = Callable[[str], Column]
"""A metric's name -> how it is shown."""


def text(results: Mapping[str, Any], column_of: ColumnOf) -> list[str]:
    """A plain table a benchmark: a row a metric, a column a condition; "-" where a condition has no such."""
    tables = []
    for key, conditions in _benchmarks(results).items():
        names = _metrics(results, key, conditions)
        first = max(len(name) for name in (key, *names)) + 2
        width = max(len(condition) for condition in conditions) + 2
        rows = [key.ljust(first) + "".join(condition.rjust(width) for condition in conditions)]
        rows.append("-" * len(rows[0]))
        for name in names:
            values = [_value(results, condition, key, name) for condition in conditions]
            cells = "".join((page.number(value, column_of(name)) or "-").rjust(width) for value in values)
            rows.append(name.ljust(first) + cells)
        tables.append("\n".join(rows))
    return tables


def tables(results: Mapping[str, Any], column_of: ColumnOf) -> str:
    """The same for the page, with intervals; "" where nothing was asked under a condition."""
    drawn = ""
    for key, conditions in _benchmarks(results).items():
        head = f'<th scope="col">{esc(key)}</th>' + "".join(
            f'<th scope="col">{esc(condition.replace("_", " "))}</th>' for condition in conditions
        )
        body = ""
        for name in _metrics(results, key, conditions):
            column = column_of(name)
            body += f'<tr><th scope="row">{esc(column.title)}</th>'
            for condition in conditions:
                metric = results["conditions"][condition][key].get(name) or {}
                body += page.cell(metric.get("value"), metric.get("ci95"), column, None)
            body += "</tr>"
        drawn += page.table(head, body)
    return drawn


def _benchmarks(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Benchmark -> the conditions it was asked under, the full one first; only those with a control."""
    found: dict[str, list[str]] = {}
    for condition, benchmarks in (results.get("conditions") or {}).items():
        for key in benchmarks:
            found.setdefault(key, []).append(condition)
    return {key: conditions for key, conditions in found.items() if len(conditions) > 1}


def _metrics(results: Mapping[str, Any], key: str, conditions: Sequence[str]) -> list[str]:
    """The metrics of the full answers that some control has too."""
    others = [results["conditions"][condition][key] for condition in conditions if condition != FULL]
    return [name for name in results["conditions"][FULL][key] if any(name in other for other in others)]


def _value(results: Mapping[str, Any], condition: str, key: str, name: str) -> float | None:
    return (results["conditions"][condition][key].get(name) or {}).get("value")
