"""The page and the tables of decoders under conflict: what each repairs, at which price, how sure it is.

`write_report` makes one self-contained HTML file of `results.json` and the records (`tuning.count`);
`format_table` prints the main numbers, `format_runs` the means over several runs.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.evaluation.records import Record
from rlcomm.reports import conflict_charts as charts
from rlcomm.reports import page
from rlcomm.reports.charts import drawn
from rlcomm.reports.conflict_lines import (
    COLUMNS,
    NOT_APPLIED,
    Blind,
    Block,
    Line,
    blind,
    blocks,
    column,
    conflict_keys,
    headlines,
    metrics_of,
    models,
    names_of,
    other_keys,
)  # fmt: skip
from rlcomm.reports.page import Tile
from rlcomm.reports.tables import (
    DASH,
    DOT,
    Cell,
    Column,
    Table,
    between,
    by_metric,
    cells,
    markdown,
    mean_of_runs,
    named,
    number,
    plain,
    signed,
)  # fmt: skip
from rlcomm.utils.errors import UserError

PUBLISHED = {
    "music_avqa": "MUSIC-AVQA 54.95 % to 79.46 % (SFT 70.41, GRPO 70.05, Step-RR alone 74.49)",
    "avqa": "AVQA 83.78 % to 95.87 %",
    "avconfuse_muted": "AV-ConfuseBench muted 8.22 % to 27.40 % (SFT 5.48, GRPO 15.07)",
    "avconfuse_modified": "modified 1.14 to 2.36 (A-Acc) and 4.10 to 4.54 (V-Acc), by their judge model",
    "avhbench": "AVHBench 65.85, 59.65 and 48.77 % to 78.96, 65.63 and 51.85 %",
}
"""Qwen2.5-Omni-3B and what RL-CoMM (arXiv 2511.10059) makes of it, by benchmark."""
WIDTH = 110  # of the text table


# ---------------------------------------------------------------- printed


def format_table(results: Mapping[str, Any]) -> str:
    """Decoders x benchmarks as plain text, at most 110 columns wide unless one name alone is wider.

    Args:
        results: of `tuning.count`; a metric that is missing or None is shown as "-".

    Returns:
        Lines without a trailing newline, rates in percent: a table for each benchmark with conflict and for
        their macro mean, then the accuracy on the others, then every score under the controls asked for.
    """
    tables = [_text_block(block) for block in blocks(results)] + _text_others(results)
    for one in blind(results):
        rows = [
            [name, *(number((metrics.get(name) or {}).get("value"), column(name))
                     for metrics in one.conditions.values())]
            for name in one.names
        ]  # fmt: skip
        tables.append(plain([one.key, *one.conditions], rows))
    return "\n\n".join(tables)


def _text_block(block: Block) -> str:
    heads: list[str | tuple[str, str]] = ["decoder", *(each.head for each in COLUMNS), "tried", "settings"]
    rows = [
        [line.decoder, *(number(line.value(each.name), each) for each in COLUMNS),
         None if line.tried is None else str(line.tried), line.settings or None]
        for line in block.lines
    ]  # fmt: skip
    title = textwrap.wrap(block.title, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*title, plain(heads, rows, (0, len(heads) - 1), width=WIDTH)])


def _text_others(results: Mapping[str, Any]) -> list[str]:
    """Tables of decoders by the headline metrics of the benchmarks without conflict, as wide as fits."""
    first = max(len("decoder"), *map(len, results["decoders"]), 0)
    parts: list[list[tuple[str, str]]] = []
    used = WIDTH
    for one in [(key, name) for key in other_keys(results) for name in headlines(results, key)]:
        room = max(*map(len, one), 6) + 2
        if used + room > WIDTH:
            parts, used = [*parts, []], first
        parts[-1].append(one)
        used += room
    tables = []
    for part in parts:
        rows = [
            [name, *(number(charts.value(results, name, key, one), column(one)) for key, one in part)]
            for name in results["decoders"]
        ]  # fmt: skip
        heads: list[str | tuple[str, str]] = ["decoder", *part]
        tables.append(plain(heads, rows))
    return tables


def format_runs(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Several evaluations (seeds) with the same benchmarks and decoders as Markdown: their mean, decoder by
    decoder, with its 95 % interval over the runs (Student's t).

    Args:
        runs: name -> results of `tuning.count`.

    Returns:
        A table for each conflict benchmark and macro mean of the first run. A decoder that is infeasible in
        some run has its nAUC alone, and how often it was; one that does not apply to a benchmark has no mean
        over a set that holds it, and the cell says so.
    """
    found = {name: {block.title: block for block in blocks(results)} for name, results in runs.items()}
    asked = {name: (list(found[name]), sorted(results["decoders"])) for name, results in runs.items()}
    if odd := [name for name in asked if asked[name] != asked[next(iter(asked))]]:
        raise UserError(
            f"{odd[0]}: has other benchmarks or decoders than {next(iter(asked))}, so their mean means "
            "nothing; show evaluations of one recipe together."
        )
    # calibration is what training may cost, so it stands here where a trained model does
    trained = any(models(results) for results in runs.values())
    columns = [each for each in COLUMNS if trained or each.name != "ece"]
    heads = ["decoder", "settings tried", *(each.title for each in columns), "infeasible"]
    tables = []
    for title, first in next(iter(found.values())).items():
        rows = [
            _mean_row([one for run in found.values() for one in run[title].lines if one.decoder == name],
                      columns, len(first.keys))
            for name in (line.decoder for line in first.lines)
        ]  # fmt: skip
        tables.append(f"**{title}**, mean of {', '.join(runs)}\n\n{markdown(heads, rows)}")
    return "\n\n".join(tables)


def _mean_row(lines: Sequence[Line], columns: Sequence[Column], many: int) -> list[str | None]:
    """A decoder's means over its lines, one a run, in a table of `many` benchmarks."""
    row = [charts.title(lines[0].decoder), None if lines[0].tried is None else str(lines[0].tried)]
    for each in columns:
        values = [100 * value for line in lines if (value := line.value(each.name)) is not None]
        row.append(mean_of_runs(values) if len(values) == len(lines) else None)
    never, most = (
        sum(charts.INFEASIBLE in line.settings for line in lines),
        max(line.lacking for line in lines),
    )
    why = [NOT_APPLIED + ("" if most == many else f" to {most} of {many} benchmarks")] if most else []
    why += [f"{never} of {len(lines)}"] if never else []
    return [*row, "; ".join(why)]


# ---------------------------------------------------------------- the page


def write_report(
    path: str | os.PathLike,
    results: Mapping[str, Any],
    records: Sequence[Record],
    title: str = "rlcomm: decoding when the senses disagree",
) -> None:
    """Writes `report.html`, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        results: of `tuning.count`.
        records: the final records of the same evaluation; the charts are of those with `split` "test".
        title: of the page.
    """
    plan: Mapping[str, Any] = next((found["settings"] for found in results["decoders"].values()), {})
    facts = [f"model {results.get('model') or 'unnamed'}", f"{len(records)} items"]
    facts += [
        f"{words} {plan[key]}"
        for key, words in (("prompt_style", "prompt style"), ("gacl_mode", "GACL over"),
                           ("arbitrate", "arbitrates"), ("candidate_score", "scored by"))
        if plan.get(key) is not None
    ]  # fmt: skip
    by_set: dict[str, list[Record]] = {}
    for record in records:
        if record["split"] == "test":
            by_set.setdefault(record["set"], []).append(record)
    keys, others = conflict_keys(results), other_keys(results)
    page.write(
        path, "conflict.html.j2", title, _tiles(results), facts=facts,
        tables=[_table(results, block) for block in blocks(results)],
        frontiers=drawn([charts.frontiers(results, key) for key in keys]),
        conditions=drawn([charts.conditions(results, key, rows) for key, rows in by_set.items()]),
        reliability=drawn([charts.reliability(results, key, rows) for key, rows in by_set.items()]),
        calibration=drawn([charts.calibration(results, key) for key in keys]),
        quadrants=drawn([charts.quadrant_plot(key, rows) for key, rows in by_set.items()]),
        others=[_metrics(results, key, names, key) for key in others if (names := names_of(results, key))],
        blind=[_beside_controls(one) for one in blind(results)],
        share=100 * (plan.get("dev_share") or 0.0), budget=plan.get("budget_points", 5.0),
        models={name: results["decoders"][name]["settings"]["model"] for name in models(results)},
        published=[words for key, words in PUBLISHED.items() if key in (*keys, *others)], nauc=charts.NAUC_5,
    )  # fmt: skip


def _table(results: Mapping[str, Any], block: Block) -> Table:
    """The table of one conflict benchmark (or mean), its other metrics folded away below."""
    shown = [
        each for each in COLUMNS
        if each.name != "sign_flip_rate" and any(line.value(each.name) is not None for line in block.lines)
    ]  # fmt: skip
    parts = [[Cell(charts.title(line.decoder), colour=charts.colour(line.decoder)) for line in block.lines]]
    parts += [cells([line.metrics.get(each.name) for line in block.lines], each) for each in shown]
    parts.append([Cell(None if line.tried is None else str(line.tried)) for line in block.lines])
    parts.append(
        [Cell(line.settings or None, mark="none" if charts.INFEASIBLE in line.settings else "")
         for line in block.lines]
    )  # fmt: skip
    columns = [named("Decoder"), *shown, named("Settings tried"), named("Chosen", left=True)]
    one = len(block.keys) == 1
    facts = [_about(results, block.keys[0]) if one else "each benchmark counts alike"]
    facts += [fact for line in block.lines for fact in _diagnosis(line)]
    known = {each.name for each in COLUMNS} | {"evidence_conflict_acc"}
    rest = list(dict.fromkeys(name for line in block.lines for name in line.metrics if name not in known))
    more = (
        _metrics(results, block.title, rest, f"All other metrics of {block.title}") if one and rest else None
    )
    return Table(columns, list(zip(*parts, strict=True)), block.title, DOT.join(facts), more)


def _metrics(results: Mapping[str, Any], key: str, names: Sequence[str], title: str) -> Table:
    """Metrics by decoder, one row a metric."""
    found = {
        named(charts.title(name), charts.colour(name)): metrics
        for name, metrics in metrics_of(results, key).items()
        if metrics
    }
    made = by_metric("Metric", found, [column(name) for name in names], best=True)
    return Table(made.columns, made.rows, title)


def _beside_controls(one: Blind) -> Table:
    found = {named(condition.replace("_", " ")): metrics for condition, metrics in one.conditions.items()}
    return by_metric(one.key, found, [column(name) for name in one.names], sizes=False)


def _about(results: Mapping[str, Any], key: str) -> str:
    """How settings came about in one conflict benchmark, and on what it was measured."""
    metrics = [m for m in metrics_of(results, key).values() if "conflict_acc" in m]
    sizes = [
        f"{metrics[0][name]['n']} {word}"
        for name, word in (("conflict_acc", "in conflict"), ("aligned_acc", "aligned"))
        if metrics and name in metrics[0]
    ]
    measured = f"{' and '.join(sizes)} test items" if sizes else "test items"
    dev = max((found["chosen"].get(key) or {}).get("n_dev", 0) for found in results["decoders"].values())
    how = f"settings chosen on {dev} dev items" if dev else "default settings, nothing tuned"
    return f"{measured}; {how}"


def _diagnosis(line: Line) -> list[str]:
    """What the joint answer's line says of the model: how much there is to repair."""
    facts = []
    whose = "" if line.decoder == "greedy" else f"{charts.title(line.decoder)}: "  # of another model
    for name, words in (("sign_flip_rate", "sign flips"), ("evidence_conflict_acc", "evidence alone right")):
        if (value := line.value(name)) is not None:
            span = between(line.metrics[name].get("ci95"), column(name))
            facts.append(f"{whose}{words} {100 * value:.1f} %{f' ({span})' if span else ''}")
    return facts


def _tiles(results: Mapping[str, Any]) -> list[Tile]:
    """Another model, else GACL (or the first other decoder) against the joint answer: accuracy, price,
    frontier, and sign flips.

    Of the mean where there are several conflict benchmarks; the accuracies of the joint answer where there is
    none.
    """
    found = blocks(results)
    if not found:
        shown = [(key, name) for key in other_keys(results) for name in headlines(results, key)][:4]
        return [
            Tile(f"{key}, {column(name).title}", number(metric["value"], column(name)) or DASH,
                 source=f"{charts.title(decoder)}, n = {metric['n']}")
            for key, name in shown
            for decoder, metrics in list(metrics_of(results, key).items())[:1]
            if (metric := metrics.get(name)) and metric["value"] is not None
        ]  # fmt: skip
    widest = max(found, key=lambda block: len(block.keys))
    where, lines = widest.title, widest.lines
    by_name = {line.decoder: line for line in lines}
    joint = by_name.get("greedy")
    wanted = [by_name[name] for name in (*models(results), "gacl") if name in by_name]
    mine = next(iter(wanted), None) or next((line for line in lines if line is not joint), lines[0])
    tiles = [_compared(name, mine, joint, where) for name in ("conflict_acc", "aligned_acc")]
    if (area := mine.value("nauc_5")) is not None and mine is not joint:
        rivals = {line.decoder: v for line in lines if (v := line.value("nauc_5")) is not None}
        del rivals[mine.decoder]
        best = max(rivals, key=rivals.__getitem__, default=None)
        change = f"next best: {charts.title(best)} {100 * rivals[best]:.1f}" if best else ""
        source = where if mine.tried is None else f"{mine.tried} settings tried; {where}"
        heading = f"{charts.NAUC_5}, {charts.title(mine.decoder)}"
        tiles.append(Tile(heading, f"{100 * area:.1f}", "", change, "same", source))
    if joint and (flips := joint.value("sign_flip_rate")) is not None:
        words = "repairable: the evidence alone is right"
        tiles.append(Tile("Sign flips", f"{100 * flips:.1f}", "%", words, "same", where))
    return tiles


def _compared(name: str, mine: Line, joint: Line | None, where: str) -> Tile:
    """A metric of one line against the joint answer's."""
    value, before = mine.value(name), joint.value(name) if joint else None
    heading = f"{column(name).title}, {charts.title(mine.decoder)}"
    if value is None:
        return Tile(heading, DASH, "", mine.settings or "not measured", "down", where)
    big = f"{100 * value:.1f}"
    if before is None or mine is joint:
        return Tile(heading, big, "%", source=where)
    points = 100 * (value - before)
    source = f"from {100 * before:.1f} %, {charts.title('greedy')}; {where}"
    return Tile(heading, big, "%", f"{signed(points)} points", page.moved(points), source)
