"""The page and the table of decoders under conflict: what each repairs, at which price, how sure it is.

`write_report` makes one self-contained HTML file of `results.json` and the records (`decide.count`), no
script, nothing loaded from elsewhere; `format_table` the main numbers as plain text.
"""

import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcomm.evaluation import catalog
from rlcomm.evaluation.benchmarks import Record
from rlcomm.evaluation.metrics import Metric
from rlcomm.reports import blind, page
from rlcomm.reports import conflict_charts as charts
from rlcomm.reports.page import DASH, DOT, Column, esc, signed
from rlcomm.reports.stages import mean_interval
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

COLUMNS = (
    Column("conflict_acc", ("confl.", "acc"), "Conflict accuracy"),
    Column("aligned_acc", ("aligned", "acc"), "Aligned accuracy", ""),  # a price with a budget, not a goal
    Column("conflict_gain", ("confl.", "gain"), "Conflict gain"),
    Column("faithful_drop", ("faithf.", "drop"), "Faithful drop", ""),  # the same price
    Column("nauc_5", ("nAUC", "@0-5"), charts.NAUC_5),
    Column("nauc_10", ("nAUC", "@0-10"), charts.NAUC_10),
    Column(
        "sign_flip_rate", ("sign", "flips"), "Sign flips", ""
    ),  # of the model: with the joint answer alone
    Column("ece", ("", "ECE"), "ECE", "low"),
)
PUBLISHED = {
    "music_avqa": "MUSIC-AVQA 54.95&nbsp;% to 79.46&nbsp;% (SFT 70.41, GRPO 70.05, Step-RR alone 74.49)",
    "avqa": "AVQA 83.78&nbsp;% to 95.87&nbsp;%",
    "avconfuse_muted": "AV-ConfuseBench muted 8.22&nbsp;% to 27.40&nbsp;% (SFT 5.48, GRPO 15.07)",
    "avconfuse_modified": "modified 1.14 to 2.36 (A-Acc) and 4.10 to 4.54 (V-Acc), by their judge model",
    "avhbench": "AVHBench 65.85, 59.65 and 48.77&nbsp;% to 78.96, 65.63 and 51.85&nbsp;%",
}
"""Qwen2.5-Omni-3B and what RL-CoMM (arXiv 2511.10059) makes of it, by benchmark."""
NOT_APPLIED = "does not apply"  # no item has the branches that the decoder reads
HEADLINES = ("acc", "a_acc", "v_acc")  # of a benchmark without conflict
WIDTH = 110  # of the text table

_LEAD = """A model that is told one thing and hears another tends to follow the text, or the picture, even
where it hears well. A decoder repairs the answer afterwards, without training: it weighs what the model says
with and without the conflicting sense. What counts is what it wins where the senses disagree
(<b>conflict gain</b>) and what it costs where they agree (<b>faithful drop</b>)."""


@dataclass(frozen=True)
class Line:
    """One decoder in a table of a conflict benchmark, or of the mean over several.

    Attributes:
        decoder: its name.
        metrics: by name.
        settings: chosen, in words; "infeasible" where none keeps within the budget.
        tried: number of settings behind its nAUC; None where it differs by benchmark.
        lacking: number of the table's benchmarks that it does not apply to.
    """

    decoder: str
    metrics: Mapping[str, Metric]
    settings: str
    tried: int | None
    lacking: int = 0

    def value(self, name: str) -> float | None:
        return (self.metrics.get(name) or {}).get("value")


@dataclass(frozen=True)
class Block:
    """One table: of a conflict benchmark, or of the mean over several (`keys`)."""

    title: str
    keys: Sequence[str]
    lines: Sequence[Line]


def format_table(results: Mapping[str, Any]) -> str:
    """Decoders x benchmarks as plain text, at most 110 columns wide unless one name alone is wider.

    Args:
        results: of `decide.count`; a metric that is missing or None is shown as "-".

    Returns:
        Lines without a trailing newline, rates in percent: a table for each benchmark with conflict and for
        their macro mean, then the accuracy on the others, then every score under the controls asked for.
    """
    tables = [_text_block(block) for block in _blocks(results)]
    return "\n\n".join(tables + _text_others(results) + blind.text(results, _column))


def format_runs(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Several evaluations (seeds) with the same benchmarks and decoders as Markdown: their mean, decoder by
    decoder, with its 95 % interval over the runs (Student's t).

    Args:
        runs: name -> results of `decide.count`.

    Returns:
        A table for each conflict benchmark and macro mean of the first run. A decoder that is infeasible in
        some run has its nAUC alone, and how often it was; one that does not apply to a benchmark has no mean
        over a set that holds it, and the cell says so.
    """
    blocks = {name: {block.title: block for block in _blocks(results)} for name, results in runs.items()}
    asked = {name: (list(found), sorted(results["decoders"])) for (name, found), results in
             zip(blocks.items(), runs.values(), strict=True)}  # fmt: skip
    if odd := [name for name in asked if asked[name] != asked[next(iter(asked))]]:
        raise UserError(
            f"{odd[0]}: has other benchmarks or decoders than {next(iter(asked))}, so their mean means "
            "nothing; show evaluations of one recipe together."
        )
    # calibration is what training may cost, so it stands here where a trained model does
    trained = any(models(results) for results in runs.values())
    columns = [column for column in COLUMNS if trained or column.name != "ece"]
    tables = []
    for title, first in next(iter(blocks.values())).items():
        heads = ["decoder", "settings tried", *(column.title for column in columns), "infeasible"]
        rows = [f"**{title}**, mean of {', '.join(runs)}", "", _markdown(heads), "|---" * len(heads) + "|"]
        for line in first.lines:
            several = [
                one for found in blocks.values() for one in found[title].lines if one.decoder == line.decoder
            ]
            cells = [charts.title(line.decoder), str(line.tried) if line.tried is not None else DASH]
            for column in columns:
                values = [value for one in several if (value := one.value(column.name)) is not None]
                cells.append(_mean(values) if len(values) == len(runs) else DASH)
            never = sum(charts.INFEASIBLE in one.settings for one in several)
            many, most = len(first.keys), max(one.lacking for one in several)
            why = [NOT_APPLIED + ("" if most == many else f" to {most} of {many} benchmarks")] if most else []
            why += [f"{never} of {len(several)}"] if never else []
            rows.append(_markdown([*cells, "; ".join(why)]))
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(rates: Sequence[float]) -> str:
    mean, (low, high) = mean_interval([100 * rate for rate in rates])
    return f"{mean:.1f}" if len(rates) < 2 or low == high else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def write_report(
    path: str | os.PathLike,
    results: Mapping[str, Any],
    records: Sequence[Record],
    title: str = "rlcomm: decoding when the senses disagree",
) -> None:
    """Writes `report.html`, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        results: of `decide.count`.
        records: the final records of the same evaluation; the charts are of those with `split` "test".
        title: of the page.
    """
    by_set: dict[str, list[Record]] = {}
    for record in records:
        if record["split"] == "test":
            by_set.setdefault(record["set"], []).append(record)
    conflict, others = conflict_keys(results), other_keys(results)
    tables = "".join(_block(results, block) for block in _blocks(results))
    parts = [
        (
            "Decoders under conflict",
            tables,
            "One row a decoder, the same test items in each. Percent, with 95 % bootstrap intervals over "
            "clips; the best of each column is marked. Gain and drop are against the joint answer.",
        ),
        (
            "What a repair costs",
            _figures((key, charts.frontiers(results, key)) for key in conflict),
            "Each dot is one setting of a decoder; the line is the most it gains with settings that cost at "
            "most so much (its frontier). nAUC is the mean height of the line up to the budget. Further up "
            "and left is better.",
        ),
        (
            "Accuracy by condition",
            _figures((key, charts.conditions(results, key, rows)) for key, rows in by_set.items()),
            "Share of right answers under each condition, under the chosen settings.",
        ),
        (
            "Is it as sure as it is right?",
            _figures((key, charts.reliability(results, rows)) for key, rows in by_set.items()),
            "Answers in ten bins of confidence: on the diagonal a decoder is as often right as it is sure, "
            "below it is too sure. A larger dot is more answers.",
        ),
        (
            "What it wins, and how well it knows when it is wrong",
            _figures((key, charts.calibration(results, key)) for key in conflict),
            "Conflict gain over the calibration error (ECE) of all answers. Further up and left is better.",
        ),
        (
            "What is there to repair",
            _figures((key, charts.quadrant_plot(rows)) for key, rows in by_set.items()),
            "Each dot is an item in conflict: how far the right answer leads with everything given (across) "
            "and with the conflicting sense left out (up). Upper left is what a decoder can repair: the "
            "evidence alone is right, and the joint answer is wrong.",
        ),
        (
            "Other benchmarks",
            "".join(_others(results, key) for key in others),
            "No conflicting and agreeing items side by side, so nothing is tuned here: every decoder runs "
            "under its default settings.",
        ),
        (
            "With its blind control beside it",
            blind.tables(results, _column),
            "Greedy answers to the same questions with a sense left out, dead, of another clip, or in part. "
            "What is right without a sense does not show that it was used.",
        ),
    ]
    body = _header(title, results)
    body += "".join(page.section(heading, inner, lead) for heading, inner, lead in parts if inner)
    files.write_text(
        path, page.document(title, body + _notes(results) + _footer(results, records), _STYLE + charts.STYLE)
    )


# ---------------------------------------------------------------- what the tables show


def conflict_keys(results: Mapping[str, Any]) -> list[str]:
    """The benchmarks with conflicting and agreeing items, where decoders are measured against each other."""
    return [key for key in _keys(results) if any("nauc_5" in m for m in _of(results, key).values())]


def models(results: Mapping[str, Any]) -> list[str]:
    """The lines that are other models (`beside.add`), in their order."""
    return [name for name, found in results["decoders"].items() if "model" in found["settings"]]


def other_keys(results: Mapping[str, Any]) -> list[str]:
    conflict = conflict_keys(results)
    return [key for key in _keys(results) if key not in conflict]


def _keys(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for found in results["decoders"].values() for key in found["benchmarks"]))


def _of(results: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Metric]]:
    """Decoder -> its metrics of a benchmark, which may be none."""
    return {name: found["benchmarks"].get(key) or {} for name, found in results["decoders"].items()}


def _blocks(results: Mapping[str, Any]) -> list[Block]:
    """Each conflict benchmark; then the mean over those of a group (`mcr`), over all, and over those that a
    decoder applies to where these are several and not all: of every decoder, so that like stands by like."""
    keys, names = conflict_keys(results), list(results["decoders"])
    blocks = [Block(key, [key], [_line(results, name, key) for name in names]) for key in keys]
    groups = {name: list(members) for name, members in catalog.GROUPS.items() if set(members) <= set(keys)}
    if len(keys) > 1 and not any(set(keys) == set(members) for members in groups.values()):
        groups["all"] = keys
    for group, part in groups.items():
        title = f"{group}, macro mean of {len(part)} benchmarks"
        blocks.append(Block(title, part, [_macro(results, name, group, part) for name in names]))
    for some, able in _parts(results, keys, names).items():
        if any(set(some) == set(members) for members in groups.values()):
            continue  # stands there already
        who = f"{', '.join(map(charts.title, able))} {'apply' if len(able) > 1 else 'applies'}"
        title = f"where {who}, macro mean of {len(some)} of {len(keys)} benchmarks: {', '.join(some)}"
        lines = [_macro(results, name, catalog.group_name(some), some) for name in names]
        blocks.append(Block(title, some, lines))
    return blocks


def _parts(
    results: Mapping[str, Any], keys: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, ...], list[str]]:
    """Benchmarks, several and not all -> the decoders that apply to these alone."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        part = tuple(key for key in keys if not _line(results, name, key).lacking)
        if 1 < len(part) < len(keys):
            found.setdefault(part, []).append(name)
    return found


def _line(results: Mapping[str, Any], decoder: str, key: str) -> Line:
    found = results["decoders"][decoder]
    chosen = found["chosen"].get(key) or {"settings": {}, "tried": 1}
    tried = max(len(found["grid"].get(key) or ()), chosen["tried"])
    lacking = int(not chosen.get("applies", True))
    words = NOT_APPLIED if lacking else charts.settings_words(chosen["settings"])
    return Line(decoder, found["benchmarks"].get(key) or {}, words, tried, lacking)


def _macro(results: Mapping[str, Any], decoder: str, group: str, keys: Sequence[str]) -> Line:
    """Means over benchmarks of equal weight; none of a metric that one of them lacks.

    With their intervals where the results hold them (`macro`), else the plain means.
    """
    lines = [_line(results, decoder, key) for key in keys]
    metrics: dict[str, Metric] = {}
    for column in COLUMNS:
        values = [value for line in lines if (value := line.value(column.name)) is not None]
        if len(values) == len(lines):
            metrics[column.name] = {"value": sum(values) / len(values), "n": len(values), "ci95": None}
    metrics.update((results["decoders"][decoder].get("macro") or {}).get(group) or {})
    lacking = sum(line.lacking for line in lines)
    without = sum(line.settings == charts.INFEASIBLE for line in lines)
    words = [f"applies to {len(keys) - lacking} of {len(keys)}"] if lacking else []
    words = [NOT_APPLIED] if lacking == len(keys) else words
    words += [f"{charts.INFEASIBLE} on {without} of {len(keys)}"] if without else []
    tried = {line.tried for line in lines}
    return Line(
        decoder,
        metrics,
        "; ".join(words),
        tried.pop() if len(tried) == 1 else None,
        lacking,
    )


def _column(name: str) -> Column:
    """How any metric of a benchmark is shown."""
    for column in COLUMNS:
        if column.name == name:
            return column
    ratio = name in ("a_acc", "v_acc", "mrs") or name.startswith("norm_acc")
    better = "high" if ratio or name.startswith("acc") or name == "evidence_conflict_acc" else ""
    words = "accuracy" if name == "acc" else name.replace("_", " ")
    for short, full in (("acc", "accuracy"), ("mean confidence", "mean confidence")):
        if words.startswith(f"{short} "):
            words = f"{full}, {words.removeprefix(short).lstrip()}"
    return Column(name, (name, ""), words[:1].upper() + words[1:], better, 1 if ratio else 100)


def _about(results: Mapping[str, Any], key: str) -> str:
    """How settings came about in one conflict benchmark, and on what it was measured."""
    metrics = [m for m in _of(results, key).values() if "conflict_acc" in m]
    sizes = [
        f"{metrics[0][name]['n']} {word}"
        for name, word in (("conflict_acc", "in conflict"), ("aligned_acc", "aligned"))
        if metrics and name in metrics[0]
    ]
    measured = f"{' and '.join(sizes)} test items" if sizes else "test items"
    dev = max((found["chosen"].get(key) or {}).get("n_dev", 0) for found in results["decoders"].values())
    how = f"settings chosen on {dev} dev items" if dev else "default settings, nothing tuned"
    return f"{measured}; {how}"


# ---------------------------------------------------------------- plain text


def _text_block(block: Block) -> str:
    width, first = 8, max([17] + [len(line.decoder) + 1 for line in block.lines])
    rows = textwrap.wrap(block.title, WIDTH, break_long_words=False, break_on_hyphens=False)
    for row, (tried, settings) in enumerate((("", ""), ("tried", "settings"))):
        heads = "".join(column.head[row].rjust(width) for column in COLUMNS)
        rows.append(("decoder" if row else "").ljust(first) + heads + tried.rjust(6) + f"  {settings}")
    rows.append("-" * WIDTH)
    for line in block.lines:
        cells = "".join((page.number(line.value(c.name), c) or "-").rjust(width) for c in COLUMNS)
        tried = "-" if line.tried is None else str(line.tried)
        text = f"{line.decoder.ljust(first)}{cells}{tried.rjust(6)}  {line.settings or '-'}"
        rows.append(text if len(text) <= WIDTH else text[: WIDTH - 3] + "...")
    return "\n".join(row.rstrip() for row in rows)


def _text_others(results: Mapping[str, Any]) -> list[str]:
    """Tables of decoders by the headline metrics of the benchmarks without conflict, as wide as fits."""
    columns = [(key, name) for key in other_keys(results) for name in _headlines(results, key)]
    first = max([17] + [len(name) + 1 for name in results["decoders"]])
    tables: list[str] = []
    while columns:
        used, taken = first, 0
        while taken < len(columns) and (not taken or used + _room(columns[taken]) <= WIDTH):
            used += _room(columns[taken])
            taken += 1
        part, columns = columns[:taken], columns[taken:]
        rows = [" " * first + "".join(key.rjust(_room((key, name))) for key, name in part)]
        rows.append("decoder".ljust(first) + "".join(name.rjust(_room((key, name))) for key, name in part))
        rows.append("-" * used)
        for decoder, found in results["decoders"].items():
            cells = ""
            for key, name in part:
                value = ((found["benchmarks"].get(key) or {}).get(name) or {}).get("value")
                cells += (page.number(value, _column(name)) or "-").rjust(_room((key, name)))
            rows.append(decoder.ljust(first) + cells)
        tables.append("\n".join(rows))
    return tables


def _room(column: tuple[str, str]) -> int:
    return max(*map(len, column), 6) + 2


def _headlines(results: Mapping[str, Any], key: str) -> list[str]:
    """The metrics that stand for a benchmark: its accuracy, or its scores, or whatever it has first."""
    names = list(dict.fromkeys(name for metrics in _of(results, key).values() for name in metrics))
    if "acc" in names:
        return ["acc"]
    return [name for name in HEADLINES if name in names] or names[:1]


# ---------------------------------------------------------------- header, tables, notes


def _header(title: str, results: Mapping[str, Any]) -> str:
    tiles = "".join(_tiles(results))
    tiles = f'<div class="tiles">{tiles}</div>' if tiles else ""
    return (
        f'<header><p class="kicker">Modality conflict report</p><h1>{esc(title)}</h1>'
        f'<p class="lead">{_LEAD}</p>{tiles}</header>\n'
    )


def _tiles(results: Mapping[str, Any]) -> list[str]:
    """Another model, else GACL (or the first other decoder) against the joint answer: accuracy, price,
    frontier, and sign flips.

    Of the mean where there are several conflict benchmarks; the accuracies of the joint answer where there is
    none.
    """
    blocks = _blocks(results)
    if not blocks:
        shown = [(key, name) for key in other_keys(results) for name in _headlines(results, key)][:4]
        return [
            page.tile(f"{key}, {_column(name).title}", page.number(metric["value"], _column(name)), "", "",
                      "same", f"{charts.title(decoder)}, n = {metric['n']}")
            for key, name in shown
            for decoder, metrics in list(_of(results, key).items())[:1]
            if (metric := metrics.get(name)) and metric["value"] is not None
        ]  # fmt: skip
    widest = max(blocks, key=lambda block: len(block.keys))
    where, lines = widest.title, widest.lines
    by_name = {line.decoder: line for line in lines}
    joint = by_name.get("greedy")
    wanted = [by_name[name] for name in (*models(results), "gacl") if name in by_name]
    mine = next(iter(wanted), None) or next((line for line in lines if line is not joint), lines[0])
    tiles = []
    for name in ("conflict_acc", "aligned_acc"):
        value, before = mine.value(name), joint.value(name) if joint else None
        heading = f"{_column(name).title}, {charts.title(mine.decoder)}"
        if value is None:
            tiles.append(page.tile(heading, DASH, "", mine.settings or "not measured", "down", where))
            continue
        change, good, source = "", "same", where
        if before is not None and mine is not joint:
            points = 100 * (value - before)
            change = f"{signed(points)} points"
            good = "up" if points > 0.05 else "down" if points < -0.05 else "same"
            source = f"from {100 * before:.1f} %, {charts.title('greedy')}; {where}"
        tiles.append(page.tile(heading, f"{100 * value:.1f}", "%", change, good, source))
    if (area := mine.value("nauc_5")) is not None and mine is not joint:
        rivals = {line.decoder: v for line in lines if (v := line.value("nauc_5")) is not None}
        del rivals[mine.decoder]
        best = max(rivals, key=rivals.__getitem__, default=None)
        change = f"next best: {charts.title(best)} {100 * rivals[best]:.1f}" if best else ""
        source = where if mine.tried is None else f"{mine.tried} settings tried; {where}"
        heading = f"{charts.NAUC_5}, {charts.title(mine.decoder)}"
        tiles.append(page.tile(heading, f"{100 * area:.1f}", "", change, "same", source))
    if joint and (flips := joint.value("sign_flip_rate")) is not None:
        words = "repairable: the evidence alone is right"
        tiles.append(page.tile("Sign flips", f"{100 * flips:.1f}", "%", words, "same", where))
    return tiles


def _block(results: Mapping[str, Any], block: Block) -> str:
    """The table of one conflict benchmark (or mean), its other metrics folded away below."""
    shown = [c for c in COLUMNS if c.name != "sign_flip_rate"]
    columns = [c for c in shown if any(line.value(c.name) is not None for line in block.lines)]
    top = {c.name: page.best([line.value(c.name) for line in block.lines], c) for c in columns}
    body = ""
    for line in block.lines:
        cells = ""
        for c in columns:
            cells += page.cell(
                line.value(c.name), (line.metrics.get(c.name) or {}).get("ci95"), c, top[c.name]
            )
        mark = " none" if charts.INFEASIBLE in line.settings else ""
        body += (
            f'<tr><th scope="row">{charts.key_of(line.decoder)}{esc(charts.title(line.decoder))}</th>{cells}'
            f"<td>{DASH if line.tried is None else line.tried}</td>"
            f'<td class="set{mark}">{esc(line.settings) or DASH}</td></tr>'
        )
    heads = '<th scope="col">Decoder</th>' + "".join(map(page.head, columns))
    heads += '<th scope="col">Settings tried</th><th scope="col" class="set">Chosen</th>'
    facts = [_about(results, block.keys[0])] if len(block.keys) == 1 else ["each benchmark counts alike"]
    for line in block.lines:
        facts += _diagnosis(line)
    shown_table = f"<h3>{esc(block.title)}</h3><p>{esc(DOT.join(facts))}</p>{page.table(heads, body)}"
    known = {c.name for c in COLUMNS} | {"evidence_conflict_acc"}
    rest = list(dict.fromkeys(name for line in block.lines for name in line.metrics if name not in known))
    if len(block.keys) > 1 or not rest:
        return shown_table
    summary = f"All other metrics of {esc(block.title)}"
    return (
        f"{shown_table}<details><summary>{summary}</summary>{_metrics(results, block.title, rest)}</details>"
    )


def _diagnosis(line: Line) -> list[str]:
    """What the joint answer's line says of the model: how much there is to repair."""
    facts = []
    whose = "" if line.decoder == "greedy" else f"{charts.title(line.decoder)}: "  # of another model
    for name, words in (("sign_flip_rate", "sign flips"), ("evidence_conflict_acc", "evidence alone right")):
        if (value := line.value(name)) is not None:
            interval = line.metrics[name].get("ci95")
            span = f" ({100 * interval[0]:.1f}{DASH}{100 * interval[1]:.1f})" if interval else ""
            facts.append(f"{whose}{words} {100 * value:.1f} %{span}")
    return facts


def _others(results: Mapping[str, Any], key: str) -> str:
    names = list(dict.fromkeys(name for metrics in _of(results, key).values() for name in metrics))
    return f"<h3>{esc(key)}</h3>{_metrics(results, key, names)}" if names else ""


def _metrics(results: Mapping[str, Any], key: str, names: Sequence[str]) -> str:
    """Metrics by decoder, one row a metric."""
    found = {name: metrics for name, metrics in _of(results, key).items() if metrics}
    heads = "".join(f'<th scope="col">{charts.key_of(name)}{esc(charts.title(name))}</th>' for name in found)
    body = ""
    for name in names:
        column, values = _column(name), [metrics.get(name) or {} for metrics in found.values()]
        top = page.best([value.get("value") for value in values], column)
        cells = "".join(page.cell(value.get("value"), value.get("ci95"), column, top) for value in values)
        size = max((value.get("n", 0) for value in values), default=0)
        body += f'<tr><th scope="row">{esc(column.title)} <span class="n">n = {size}</span></th>{cells}</tr>'
    return page.table(f'<th scope="col">Metric</th>{heads}', body)


def _notes(results: Mapping[str, Any]) -> str:
    plan = _plan(results)
    known = [words for key, words in PUBLISHED.items() if key in _keys(results)]
    trained = (
        "<li><b>Published</b>, for orientation, another model and other data (RL-CoMM, arXiv 2511.10059), "
        f"Qwen2.5-Omni-3B before and after: {'; '.join(known)}.</li>"
        if known
        else ""
    )
    share, budget = plan.get("dev_share") or 0.0, plan.get("budget_points", 5.0)
    paths = {name: results["decoders"][name]["settings"]["model"] for name in models(results)}
    said = "; ".join(f"{esc(name)} is {esc(path)}" for name, path in paths.items())
    line = f"<li><b>Other models</b>: {said}. Their joint answers against this one's.</li>\n" if said else ""
    split = (
        f"a clip belongs to dev by a hash of its name ({100 * share:g}&nbsp;% of the clips), with all its "
        f"items. On dev each decoder gets the setting with the most conflict gain among those that cost at "
        f"most {budget:g} points of aligned accuracy; every number here is of the test items, the rest. A "
        "benchmark without aligned items is not split: its settings are the defaults, and all its items are "
        "test items."
        if share
        else "there is none (dev_share is 0): nothing was tuned, every decoder ran under its default "
        "settings, and every item is a test item."
    )
    return f"""<section class="notes"><h2>How to read this</h2><ul>
<li><b>Conflict gain</b>: accuracy on the items in conflict minus that of the joint answer.
<b>Faithful drop</b>: the joint answer's accuracy on the aligned items minus the decoder's. Both in points, on
the same items.</li>
<li><b>Dev and test</b>: {split}</li>
<li><b>Infeasible</b>: no setting of the decoder kept within the budget on dev. It is shown as such, not under
its least bad setting, and not left out; its nAUC, which needs no choice, still stands.</li>
<li><b>nAUC @0{DASH}B</b>: the mean of the frontier (the largest gain at a drop of at most K) over K from 0 to
B points, times 100. It takes the best of the settings on the very items it is measured on, so it <b>grows
with the number of settings tried</b>: read it beside that number.</li>
<li><b>Sign flip</b>: M is the score of the right answer minus that of what the text claims (or of the best
other one), M_J with everything given and M_A with the conflicting sense left out. M_A &gt; 0 &gt; M_J can be
repaired by weighing the evidence; where both are below 0 the evidence is missing, and no weighing helps.</li>
<li><b>ECE</b>: mean distance of confidence and accuracy over ten bins. A small set shows some by chance.</li>
{line}<li><b>Macro mean</b>: each benchmark counts alike. A decoder that is infeasible on one of them has
none, but for nAUC. One that does not apply to one of them has none at all; where it applies to several, a
table of these alone follows, with every decoder. Where no interval stands, none was computed.</li>
<li><b>Published</b>, for orientation, another model and other data (GACL, arXiv 2606.05161), macro means: the
joint answer 15.0&nbsp;% right in conflict and 97.2&nbsp;% where the text is faithful; GACL 56.7&nbsp;% and
92.9&nbsp;%. {charts.NAUC_5}: GACL 33.3, AAD 15.5, ACD 6.7. Sign flips 64.1&nbsp;%.</li>
{trained}</ul></section>
"""


def _footer(results: Mapping[str, Any], records: Sequence[Record]) -> str:
    plan = _plan(results)
    facts = [f"model {results.get('model') or 'unnamed'}", f"{len(records)} items"]
    facts += [
        f"{words} {plan[key]}"
        for key, words in (("prompt_style", "prompt style"), ("gacl_mode", "GACL over"),
                           ("arbitrate", "arbitrates"), ("candidate_score", "scored by"))
        if plan.get(key) is not None
    ]  # fmt: skip
    return f"<footer>{esc(DOT.join(facts))}</footer>\n"


def _plan(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """What holds for all decoders alike."""
    return next((found["settings"] for found in results["decoders"].values()), {})


def _figures(drawn: Iterable[tuple[str, str]]) -> str:
    """Charts beside each other; those that show nothing are left out."""
    shown = "".join(page.figure(key, chart) for key, chart in drawn if chart)
    return f'<div class="charts">{shown}</div>' if shown else ""


_STYLE = """
h3{font-size:1.02rem;margin:26px 0 2px}section>h3+p{font-size:.88rem;margin:0 0 10px;max-width:none}
.charts figure:only-child{max-width:760px}
.key{display:inline-block;width:9px;height:9px;border-radius:99px;background:currentColor;margin-right:8px}
thead .key{margin-right:5px}
td.set,th.set{text-align:left;white-space:nowrap;padding-right:14px}td.set{font-size:.84rem;line-height:1.75;color:var(--soft)}
td.none{color:var(--wrong);font-weight:600}
details{margin-top:10px}summary{cursor:pointer;color:var(--soft);font-size:.88rem;padding:4px 0}
details .scroll{margin-top:6px}
"""
