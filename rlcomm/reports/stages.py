"""The page and the tables that show a run: before and after, reward curves, and clips to watch and hear.

`write_report` makes one self-contained HTML file; `format_table` the same numbers as plain text.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.sample import read_text
from rlcomm.reports import page
from rlcomm.reports.charts import Chart, Drawing, Key, drawn, ticks
from rlcomm.reports.clips import embedded, pick_clips
from rlcomm.reports.page import Tile
from rlcomm.reports.tables import (
    Column,
    Table,
    by_metric,
    by_name,
    markdown,
    mean_of_runs,
    named,
    number,
    plain,
    signed,
)  # fmt: skip
from rlcomm.utils.errors import UserError

__all__ = ["format_seeds", "format_table", "pick_clips", "read_curve", "write_balance", "write_report"]

STAGES = {
    "base": "Base (direct)",
    "base_steps": "Base (steps)",
    "warmup": "Warm-up",
    "step_rr": "Step-RR",
    "ans_co": "Ans-CO",
}
COLUMNS = (
    Column("muted_acc", ("muted", "acc"), "Muted accuracy"),
    Column("muted_acc_parsed", ("muted", "parsed"), "Muted, parsed only"),
    Column("muted_unparsed", ("un-", "parsed"), "Unparsed", "low"),
    Column(
        "muted_yes_rate",
        ("muted", "yes"),
        "Muted \N{LEFT DOUBLE QUOTATION MARK}yes\N{RIGHT DOUBLE QUOTATION MARK}",
        "",  # silence lowers it too, so less is not always better
    ),
    Column("control_acc", ("con-", "trol"), "Control accuracy"),
    Column("sync_acc", ("sync", "acc"), "Sync accuracy"),
    Column("same_audio_muted_acc", ("same-a", "muted"), "Same audio, muted"),
    Column("same_audio_control_acc", ("same-a", "contr"), "Same audio, control"),
    Column("sign_flip_rate", ("sign", "flips"), "Sign flips", "low"),
    Column("format_rate", ("for-", "mat"), "Format"),
    Column("hearing_exact", ("hears", "exact"), "Hearing exact"),
    Column("seeing_exact", ("sees", "exact"), "Seeing exact"),
    Column("modified_a_acc", ("A-Acc", "0-5"), "A-Acc (0\N{EN DASH}5)", scale=1),
    Column("modified_v_acc", ("V-Acc", "0-5"), "V-Acc (0\N{EN DASH}5)", scale=1),
)
SEED_COLUMNS = (
    "muted_acc", "muted_acc_parsed", "muted_unparsed", "control_acc", "sync_acc", "same_audio_muted_acc",
    "same_audio_control_acc", "sign_flip_rate", "format_rate", "hearing_exact", "hearing_exact_muted",
    "hearing_exact_sync", "seeing_exact_muted",
)  # fmt: skip
CURVES = (
    ("format", ("rewards/format/mean",)),
    ("arr", ("rewards/arr/mean",)),
    ("avc", ("rewards/avc/mean",)),
    ("accuracy", ("rewards/accuracy/mean",)),
    ("total", ("reward", "rewards/total/mean")),
    ("muted accuracy", ("eval/avconfuse_muted/acc",)),
    ("answer entropy", ("ansco/answer_entropy",)),
    ("gate rate", ("ansco/gate_rate",)),
)
BALANCE = (
    ("audio reliance", ("diagnose/audio_reliance",)),
    ("visual reliance", ("diagnose/visual_reliance",)),
    ("text prior", ("diagnose/text_prior",)),
    ("sign flips", ("diagnose/sign_flip_rate",)),
    ("muted accuracy", ("diagnose/muted_acc",)),
)
KINDS = {
    "exist": "existence",
    "localis": "location",
    "count": "counting",
    "comp": "comparison",
    "temp": "temporal",
}

Rows = Sequence[Mapping[str, Any]]  # of a metrics.jsonl


# ---------------------------------------------------------------- printed


def format_table(summary: Mapping[str, Any]) -> str:
    """The before/after table as plain text, at most 120 columns wide.

    Args:
        summary: `{"stages": {stage: row}}`, rows of `generated.summary`; a metric that is missing or None is
            shown as "-".

    Returns:
        Lines without a trailing newline; rates in percent, muted accuracy with its 95 % interval.
    """
    rows: list[list[str | None]] = []
    for stage, row in _ordered(summary["stages"]):
        interval = (row.get("ci95") or {}).get("muted_acc")
        span = f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}" if interval else None
        rows.append([_label(stage), span, *(number(row.get(c.name), c) for c in COLUMNS)])
    table = plain(["", ("muted 95 %", "interval"), *(column.head for column in COLUMNS)], rows, gap=1)
    return f"{table}\n{_asymmetric(summary)}".rstrip()


def format_seeds(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of several runs of the same stages: each run, then their mean with its 95 % interval.

    Args:
        runs: name of the run (its seed) -> `summary.json` object.

    Returns:
        Per stage one row a run and one of means, rates in percent, the mean as `mean [low, high]`
        (`tables.mean_interval`); "-" where a stage has no such metric in every run. A stage whose runs are
        all the same (the base, which no seed changes) has one row.
    """
    rows: list[list[str | None]] = []
    for stage, _ in _ordered(next(iter(runs.values()))["stages"]):
        table = {
            run: [summary["stages"].get(stage, {}).get(name) for name in SEED_COLUMNS]
            for run, summary in runs.items()
            if stage in summary["stages"]
        }
        same = len({tuple(values) for values in table.values()}) == 1
        for run, values in {} if same else table.items():
            rows.append([_label(stage), run, *(None if v is None else f"{100 * v:.1f}" for v in values)])
        columns = [column[:1] if same else column for column in zip(*table.values(), strict=True)]
        means = [
            None if None in column else mean_of_runs([100 * rate for rate in column], equal=True)
            for column in columns
        ]
        rows.append([_label(stage), "all" if same else "mean", *means])
    return markdown(["stage", "run", *(name.replace("_", " ") for name in SEED_COLUMNS)], rows, missing="-")


def read_curve(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl` (one object a logging step); a missing file is an empty curve.

    Raises:
        UserError: a row is not JSON.
    """
    if not Path(path).is_file():
        return []
    rows = []
    for number_, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, row {number_}: is not valid JSON ({error}); remove the row.") from error
    return rows


# ---------------------------------------------------------------- pages


def write_report(
    path: str | os.PathLike,
    summary: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    curves: Mapping[str, Rows] | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
    title: str = "rlcomm: when eyes and ears disagree",
) -> None:
    """Writes `report.html`, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        summary: the pipeline's `summary.json`: `{"stages": {stage: row of generated.summary},
            "seconds_method", ...}`.
        results: `results.json` objects by stage, for the table per question type; stages without one are left
            out.
        curves: rows of each stage's `metrics.jsonl` (`read_curve`), by stage.
        clips: of `pick_clips`.
        title: of the page.

    Raises:
        UserError: a clip file cannot be read or decoded.
    """
    results, curves, stages = results or {}, curves or {}, _ordered(summary["stages"])
    page.write(
        path, "stages.html.j2", title, _tiles(summary), facts=_facts(summary),
        span=" to ".join(_label(stage) for stage, _ in stages[:1] + stages[-1:]), labels=STAGES,
        before_after=_table(summary), asymmetric=_asymmetric(summary),
        training=_curves(curves, CURVES), while_diagnosed=_curves(curves, BALANCE),
        exact=(summary.get("reference") or {}).get("reference_hearing_exact"),
        clips=[embedded(clip) for clip in clips], types=_types(results), judges=_judges(results),
    )  # fmt: skip


def write_balance(path: str | os.PathLike, rows: Rows, stage: str) -> None:
    """Writes the modality balance over training steps as a page of its own; nothing before there are two
    measurements to draw a line through.

    Args:
        path: where; written beside and renamed.
        rows: of a `metrics.jsonl`, with "step" and "diagnose/...".
        stage: what trains.
    """
    if shown := _curves({stage: rows}, BALANCE):
        page.write(path, "balance.html.j2", "rlcomm: modality balance", drawn=shown)


def _tiles(summary: Mapping[str, Any]) -> list[Tile]:
    """What the last stage reached, against the first that has the number."""
    rows = _ordered(summary["stages"])
    tiles = []
    for column in (c for c in COLUMNS if c.name in ("muted_acc", "control_acc", "sync_acc", "hearing_exact")):
        known = [(stage, row[column.name]) for stage, row in rows if row.get(column.name) is not None]
        if len(known) < 2 or known[-1][0] != rows[-1][0]:
            continue
        (stage, before), (_, after) = known[0], known[-1]
        change = 100 * (after - before)
        tiles.append(
            Tile(column.title, f"{100 * after:.1f}", "%", f"{signed(change)} points", page.moved(change),
                 f"from {100 * before:.1f} %, {_label(stage)}")
        )  # fmt: skip
    return tiles


def _table(summary: Mapping[str, Any]) -> Table:
    rows: dict[str, dict[str, Any]] = {}
    for stage, row in _ordered(summary["stages"]):
        intervals = row.get("ci95") or {}
        rows[_label(stage)] = {
            column.name: {"value": row[column.name], "ci95": intervals.get(column.name)}
            for column in COLUMNS
            if row.get(column.name) is not None
        }
    return by_name("Stage", rows, COLUMNS, best=True, sizes=False)


def _types(results: Mapping[str, Any]) -> list[Table]:
    """Accuracy by question type, a column a stage; none where no stage has any."""
    rows = {}
    for stage, value in results.items():
        try:
            rows[stage] = value["decoders"]["greedy"]["benchmarks"]["music_avqa"]
        except (KeyError, TypeError):
            continue
    stages = [stage for stage, _ in _ordered(rows)]
    names = [name for stage in stages[:1] for name in rows[stage] if name.startswith("acc_")]
    names = [n for n in names if n.removeprefix("acc_").startswith(("audio_", "visual_"))] or names
    if not names:
        return []
    found = {
        named(_label(stage)): {
            name: {"value": metric["value"], "n": metric["n"] if stage == stages[0] else 0}
            for name, metric in rows[stage].items()
        }
        for stage in stages
    }
    return [
        by_metric(
            "Question type", found, [Column(n, ("", ""), _type_title(n)) for n in ["acc", *names]], True
        )
    ]


def _type_title(name: str) -> str:
    """ "acc_audio_visual_count" -> "Audio-visual counting"."""
    source, _, kind = name.removeprefix("acc_").rpartition("_")
    if name == "acc":
        return "All"
    if name in ("acc_audio", "acc_visual", "acc_audio_visual"):
        return f"{name.removeprefix('acc_').replace('_', '-')}, all kinds".capitalize()
    return f"{source.replace('_', '-')} {KINDS.get(kind, kind)}".strip().capitalize()


def _judges(results: Mapping[str, Any]) -> tuple[str, bool]:
    """Who scored the modified clips: the judge models, and whether the keyword judge did."""
    greedy = [one.get("decoders", {}).get("greedy", {}) for one in results.values()]
    names = {one.get("settings", {}).get("judge", "keywords") for one in greedy}
    models = "; ".join(sorted(names - {"keywords"}))
    return models, not models or "keywords" in names


def _facts(summary: Mapping[str, Any]) -> list[str]:
    facts = []
    if (seconds := summary.get("seconds_method")) is not None:
        facts.append(f"method {_duration(seconds)}")
    if (seconds := summary.get("seconds_total")) is not None:
        facts.append(f"in all {_duration(seconds)}")
    if (memory := summary.get("peak_rss_mb")) is not None:
        facts.append(f"at most {memory / 1024:.1f} GB of memory")
    return facts + [f"{name} {version}" for name, version in (summary.get("versions") or {}).items()]


# ---------------------------------------------------------------- curves


def _curves(curves: Mapping[str, Rows], known: Sequence[tuple[str, tuple[str, ...]]]) -> list[Drawing]:
    return drawn([curve(_label(stage), rows, known) for stage, rows in curves.items()])


def curve(caption: str, rows: Rows, known: Sequence[tuple[str, tuple[str, ...]]] = CURVES) -> Drawing | None:
    """One line chart of the known series in `rows`, as logged and smoothed; None where there is nothing to
    draw."""
    series = []
    for index, (name, keys) in enumerate(known):
        for key in keys:
            points = [
                (float(row.get("step", i)), float(row[key]))
                for i, row in enumerate(rows)
                if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])
            ]
            if len(points) > 1:
                series.append((f"c{index}", name, points))
                break
    if not series:
        return None
    steps, values = zip(*(point for _, _, points in series for point in points), strict=True)
    first, last = min(steps), max(steps)
    up = ticks(min(0.0, *values), max(1.0, *values))
    across = [tick for tick in ticks(first, last, 6) if first <= tick <= last]
    chart = Chart(across, up, x=(first, last), height=260, top=14, bottom=30)
    legend = []
    for colour, name, points in series:
        smooth = _smoothed([y for _, y in points])
        chart.line(points, colour, "raw", 1)
        chart.line([(x, y) for (x, _), y in zip(points, smooth, strict=True)], colour)
        legend.append(Key(name, f"{smooth[-1]:.2f}", colour))
    return chart.drawing(caption, legend, "x: optimiser step")


def _smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving mean over about a tenth of the curve."""
    half = max(1, len(values) // 20)
    return [
        sum(part) / len(part)
        for i in range(len(values))
        for part in [values[max(0, i - half) : i + half + 1]]
    ]


# ---------------------------------------------------------------- small things


def _asymmetric(summary: Mapping[str, Any]) -> str:
    if "asymmetric" not in summary:
        return ""
    return f"One instrument is muted in {summary['asymmetric']:.0%} of the training scenes."


def _ordered(stages: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Known stages in the order of the method, then others as they come."""
    known = [name for name in STAGES if name in stages]
    return [(name, stages[name]) for name in known + [name for name in stages if name not in STAGES]]


def _label(stage: str) -> str:
    return STAGES.get(stage, stage)


def _duration(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"
