"""Tables: padded text and Markdown by tabulate, and the cells that a page's template lays out.

plain(["stage", ("muted", "acc")], [["Base", "12.5"]])
         muted
stage      acc
--------------
Base      12.5
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

DASH, DOT = "\N{EN DASH}", " \N{MIDDLE DOT} "

Metrics = Mapping[str, Mapping[str, Any]]  # name -> {"value", "n", "ci95"}
Row = Sequence[str | None]  # None: there is no value


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        name: its key.
        head: two short words, for the text table.
        title: for the page.
        better: "high", "low", or "" where neither is.
        scale: 100 for rates, 1 for scores and ratios.
        colour: of a dot before the title (`charts.COLOURS`); "": none.
        left: words, not numbers.
    """

    name: str
    head: tuple[str, str]
    title: str
    better: str = "high"
    scale: int = 100
    colour: str = ""
    left: bool = False


def named(title: str, colour: str = "", left: bool = False) -> Column:
    """A column that is no metric, or of several."""
    return Column(title, ("", title), title, "", colour=colour, left=left)


@dataclass(frozen=True)
class Cell:
    """A cell on a page.

    Attributes:
        text: None: there is no value.
        detail: small, below it.
        mark: CSS classes.
        colour: of a dot before it; "": none.
        hint: what the dot means, shown when one points at it.
        n: how many items it rests on, in small.
    """

    text: str | None
    detail: str = ""
    mark: str = ""
    colour: str = ""
    hint: str = ""
    n: int | None = None


@dataclass(frozen=True)
class Table:
    """A table on a page; the first column names the rows.

    Attributes:
        columns: with the first.
        rows: as many cells each.
        title, about: above it.
        more: another table, folded away below it.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    about: str = ""
    more: "Table | None" = None


# ---------------------------------------------------------------- text


def plain(
    heads: Sequence[str | tuple[str, str]], rows: Sequence[Row], left: Sequence[int] = (0,), gap: int = 2,
    width: int | None = None,
) -> str:  # fmt: skip
    """A padded text table.

    Args:
        heads: of the columns, one or two lines each.
        rows: cells; None is shown as "-".
        left: columns that begin at the left; the others end at the right.
        gap: spaces between columns.
        width: longer lines are cut.
    """
    apart, rule = DataRow("", " " * gap, ""), Line("", "-", "-" * gap, "")
    shape = TableFormat(None, rule, None, None, apart, apart, 0, None)
    lines = zip(*(("", head) if isinstance(head, str) else head for head in heads), strict=True)
    body = [["-" if cell is None else cell for cell in row] for row in rows]
    sides = ["left" if number in left else "right" for number in range(len(heads))]
    whole = [*(line for line in lines if any(line)), SEPARATING_LINE, *body]
    text = tabulate(whole, tablefmt=shape, disable_numparse=True, colalign=sides)
    return "\n".join(_cut(line.rstrip(), width) for line in text.splitlines())


def _cut(line: str, width: int | None) -> str:
    if width is None or len(line) <= width:
        return line
    return line[:width] if set(line) == {"-"} else f"{line[: width - 3]}..."


def markdown(heads: Sequence[str], rows: Sequence[Row], missing: str = DASH) -> str:
    """A Markdown table; None is shown as `missing`."""
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True, missingval=missing)


# ---------------------------------------------------------------- numbers


def number(value: float | None, column: Column) -> str | None:
    """One digit for rates in percent, two for scores."""
    return None if value is None else f"{value * column.scale:.{1 if column.scale == 100 else 2}f}"


def signed(value: float) -> str:
    return f"+{value:.1f}" if value > 0 else f"\N{MINUS SIGN}{abs(value):.1f}" if value < 0 else "0.0"


def between(interval: Sequence[float] | None, column: Column) -> str:
    """An interval in the column's unit; "" where there is none."""
    return f"{number(interval[0], column)}{DASH}{number(interval[1], column)}" if interval else ""


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % interval by Student's t over independent runs: mean +- t_{0.975, n-1} s / sqrt(n).

    Three values 1, 2, 3: mean 2, s = 1, t = 4.303, half width 4.303 / sqrt(3) = 2.484.
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, (mean, mean)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def mean_of_runs(values: Sequence[float], digits: int = 1, equal: bool = False) -> str:
    """`mean [low, high]` (`mean_interval`); the mean alone of one run, or of runs that are all the same
    unless `equal`."""
    mean, (low, high) = mean_interval(values)
    if len(values) < 2 or (low == high and not equal):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


# ---------------------------------------------------------------- cells


def cell(metric: Mapping[str, Any] | None, column: Column, top: float | None = None) -> Cell:
    """A metric with its 95 % interval, marked where its value is the best (`top`)."""
    value = (metric or {}).get("value")
    if metric is None or value is None:
        return Cell(None)
    return Cell(number(value, column), between(metric.get("ci95"), column), "best" if value == top else "")


def cells(metrics: Sequence[Mapping[str, Any] | None], column: Column) -> list[Cell]:
    """Metrics to be compared with each other: the best is marked, where some are better than others."""
    values = {value for metric in metrics if metric and (value := metric.get("value")) is not None}
    top = None
    if len(values) > 1 and column.better:
        top = max(values) if column.better == "high" else min(values)
    return [cell(metric, column, top) for metric in metrics]


def by_name(
    first: str, rows: Mapping[str, Metrics], columns: Sequence[Column], best: bool = False, sizes: bool = True
) -> Table:
    """A row a name, a column a metric; columns that no row has are left out.

    Args:
        first: head of the column of names.
        rows: name -> metric -> `{"value", "n", "ci95"}`.
        columns: what is shown.
        best: mark the best of each column.
        sizes: say beside each name how many items it rests on at most.
    """
    shown = [column for column in columns if any(column.name in row for row in rows.values())]
    upright = [
        cells(metrics, column) if best else [cell(metric, column) for metric in metrics]
        for column in shown
        for metrics in [[row.get(column.name) for row in rows.values()]]
    ]
    names = [
        Cell(name, n=max((metric["n"] for metric in row.values()), default=0) if sizes else None)
        for name, row in rows.items()
    ]
    body = list(zip(names, *upright, strict=True))
    return Table([named(first), *shown], body)


def by_metric(
    first: str,
    found: Mapping[Column, Metrics],
    rows: Sequence[Column],
    best: bool = False,
    sizes: bool = True,
) -> Table:
    """The same lying down: a row a metric (`rows`), a column whoever has them (`found`)."""
    body = []
    for row in rows:
        metrics = [one.get(row.name) for one in found.values()]
        size = max((metric.get("n", 0) for metric in metrics if metric), default=0)
        name = Cell(row.title, n=size if sizes else None)
        body.append([name, *(cells(metrics, row) if best else [cell(metric, row) for metric in metrics])])
    return Table([named(first), *found], body)
