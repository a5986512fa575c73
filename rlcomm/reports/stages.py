"""The page and the table that show a run: before and after, reward curves, and clips one can watch and hear.

`write_report` makes one self-contained HTML file (clips inside, no script, nothing loaded from elsewhere);
`format_table` the same numbers as plain text.
"""

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import read_text
from rlcomm.evaluation.benchmarks import Record
from rlcomm.reports import page
from rlcomm.reports.page import DASH, DOT, ELLIPSIS, Column, Plane, esc, signed
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

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

_LEAD = """An omni model that sees a violin tends to hear it, even when the violin was muted. RL-CoMM trains
that away in three stages: a warm-up teaches the form (what is heard, what is seen, the answer), Step-RR
rewards audio reasoning that agrees with an audio-only reference, and Ans-CO makes the answer confident where
it is known. Muted accuracy counts correct &ldquo;no&rdquo; answers about an instrument that is visible but
silent; the control asks the same about one that does sound, so that always answering &ldquo;no&rdquo; gains
nothing."""

_NOTES = """<section class="notes"><h2>How to read this</h2><ul>
<li><b>Unparsed</b> answers are a class of their own, never &ldquo;no&rdquo;: learning the form is not taken
for hearing. &ldquo;Parsed only&rdquo; leaves them out.</li>
<li><b>Same audio</b>: the same sound, the picture left out. Right there and wrong with the picture is a
<b>sign flip</b>: the model hears it and lets the picture win.</li>
<li><b>Hearing exact</b>: the audio reasoning names exactly what sounds, nothing more and nothing less;
<b>seeing exact</b>: the visual reasoning what is visible. A policy that tells what it hears as what it sees
loses the second.</li>
<li><b>A-Acc and V-Acc</b>, 0&ndash;5: {judge}</li>
<li><b>Published</b>, for orientation, another model and other data (RL-CoMM, arXiv 2511.10059):
Qwen2.5-Omni-3B answers 8.22&nbsp;% of AV-ConfuseBench muted right, after SFT 5.48&nbsp;%, GRPO 15.07&nbsp;%,
RL-CoMM 27.40&nbsp;%; modified 1.14 to 2.36 (A-Acc) and 4.10 to 4.54 (V-Acc), by their judge model;
MUSIC-AVQA 54.95&nbsp;% to 79.46&nbsp;% (SFT 70.41, GRPO 70.05, Step-RR alone 74.49).</li></ul></section>
"""

_KEYWORDS = """a deterministic keyword judge: A = 5 &times; [the replaced sound is named] &times; (1 &minus;
share of the visible instruments claimed as heard), V = 5 &times; share of the visible instruments named as
seen. The paper asks a judge model; the two scales are not to be compared."""

# (title, metric names as they are logged, first one found wins)
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


def format_table(summary: Mapping[str, Any]) -> str:
    """The before/after table as plain text, at most 120 columns wide.

    Args:
        summary: `{"stages": {stage: row}}`, rows of `runner.summary`; a metric that is missing or None is
            shown as "-".

    Returns:
        Lines without a trailing newline; rates in percent, muted accuracy with its 95 % interval.
    """
    widths = {column.name: 1 + max(5, *map(len, column.head)) for column in COLUMNS}
    first = max([14] + [len(_label(stage)) for stage in summary["stages"]])
    lines = []
    for line in (0, 1):
        heads = "".join(column.head[line].rjust(widths[column.name]) for column in COLUMNS)
        lines.append(" " * first + ("muted 95 %" if line == 0 else "interval").rjust(13) + heads)
    lines.append("-" * len(lines[0]))
    for stage, row in _ordered(summary["stages"]):
        interval = (row.get("ci95") or {}).get("muted_acc")
        shown = f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}" if interval else "-"
        cells = "".join((page.number(row.get(c.name), c) or "-").rjust(widths[c.name]) for c in COLUMNS)
        lines.append(_label(stage).ljust(first) + shown.rjust(13) + cells)
    if "asymmetric" in summary:
        lines.append(_asymmetric(summary))
    return "\n".join(lines)


def _asymmetric(summary: Mapping[str, Any]) -> str:
    return f"One instrument is muted in {summary['asymmetric']:.0%} of the training scenes."


SEED_COLUMNS = (
    "muted_acc", "muted_acc_parsed", "muted_unparsed", "control_acc", "sync_acc", "same_audio_muted_acc",
    "same_audio_control_acc", "sign_flip_rate", "format_rate", "hearing_exact", "hearing_exact_muted",
    "hearing_exact_sync", "seeing_exact_muted",
)  # fmt: skip


def format_seeds(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of several runs of the same stages: each run, then their mean with its 95 % interval.

    Args:
        runs: name of the run (its seed) -> `summary.json` object.

    Returns:
        Per stage one row a run and one of means, rates in percent, the mean as `mean [low, high]`
        (`mean_interval`); "-" where a stage has no such metric in every run. A stage whose runs are all the
        same (the base, which no seed changes) has one row.
    """
    lines = ["| stage | run | " + " | ".join(name.replace("_", " ") for name in SEED_COLUMNS) + " |"]
    lines.append("|---" * (len(SEED_COLUMNS) + 2) + "|")
    for stage, _ in _ordered(next(iter(runs.values()))["stages"]):
        table = {
            run: [summary["stages"].get(stage, {}).get(name) for name in SEED_COLUMNS]
            for run, summary in runs.items()
            if stage in summary["stages"]
        }
        columns = list(zip(*table.values(), strict=True))
        if len({tuple(values) for values in table.values()}) == 1:
            table, columns = {"all": next(iter(table.values()))}, [column[:1] for column in columns]
        means = ["-" if None in column else _mean_interval(column) for column in columns]
        if len(table) > 1:
            for run, values in table.items():
                shown = ["-" if value is None else f"{100 * value:.1f}" for value in values]
                lines.append(f"| {_label(stage)} | {run} | " + " | ".join(shown) + " |")
        lines.append(
            f"| {_label(stage)} | {'mean' if len(table) > 1 else 'all'} | " + " | ".join(means) + " |"
        )
    return "\n".join(lines)


def _mean_interval(rates: Sequence[float]) -> str:
    mean, (low, high) = mean_interval([100 * rate for rate in rates])
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]" if len(rates) > 1 else f"{mean:.1f}"


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % interval by Student's t over independent runs: mean +- t_{0.975, n-1} s / sqrt(n).

    Three values 1, 2, 3: mean 2, s = 1, t = 4.303, half width 4.303 / sqrt(3) = 2.484.
    """
    from scipy.stats import t

    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        return mean, (mean, mean)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    return mean, (mean - half, mean + half)


def read_curve(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl` (one object a logging step); a missing file is an empty curve.

    Raises:
        UserError: a row is not JSON.
    """
    if not Path(path).is_file():
        return []
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, row {number}: is not valid JSON ({error}); remove the row.") from error
    return rows


def _reference(summary: Mapping[str, Any]) -> str:
    """A sentence to stand beside ARR: how far the reference that it compares with can be believed."""
    exact = (summary.get("reference") or {}).get("reference_hearing_exact")
    return (
        ""
        if exact is None
        else f" The reference that ARR compares with names exactly what sounds in {exact:.1%} of the rows."
    )


def pick_clips(records: Mapping[str, Sequence[Record]], count: int = 5) -> list[dict[str, Any]]:
    """Chooses clips that tell the story, what is not solved included.

    In this order, each taken once and each of another clip where that is possible: a muted one that the last
    stage repaired, one that it still gets wrong, a replaced sound, a sounding control, another repaired one;
    then whatever muted items are left, in file order.

    Args:
        records: records of each stage, first stage first; joint view is used.
        count: how many.

    Returns:
        Clips for `write_report`.
    """
    joint = {
        stage: {(r["benchmark"], r["id"]): r for r in rows if r["view"] == "joint"}
        for stage, rows in records.items()
    }
    if not joint:
        return []
    stages = list(joint)
    first, last = joint[stages[0]], joint[stages[-1]]

    def keys(benchmark: str, wanted: tuple[bool | None, bool | None]) -> list[tuple[str, str]]:
        return [
            key
            for key, r in last.items()
            if key[0] == benchmark
            and all(
                want is None or (stage.get(key) or {}).get("correct") is want
                for want, stage in zip(wanted, (first, last), strict=True)
            )
        ]

    repaired = keys("avconfuse_muted", (False, True))
    queues = [
        repaired,
        keys("avconfuse_muted", (None, False)),
        keys("avconfuse_modified", (None, None)),
        keys("avconfuse_control", (None, None)),
        repaired,
        keys("avconfuse_muted", (None, None)),
        list(last),
    ]
    chosen: list[tuple[str, str]] = []
    for turn in range(count + len(queues)):
        seen = {last[key]["video_id"] for key in chosen}
        left = [key for key in queues[min(turn, len(queues) - 1)] if key not in chosen]
        left = [key for key in left if last[key]["video_id"] not in seen] or left
        if left and len(chosen) < count:
            chosen.append(left[0])
    clips = []
    for key in chosen:
        record = last[key]
        known = record.get("truth") or {}
        clips.append(
            {
                "video": record["video"],
                "kind": record["benchmark"],
                "question": record["question"],
                "gold": record["gold"],
                "visible": known.get("visible"),
                "sounding": _listed(known.get("audible")) + _listed(known.get("ambient")) if known else None,
                "said": {
                    stage: {
                        k: rows[key].get(k)
                        for k in (
                            "prompt_style",
                            "completion",
                            "answer",
                            "hearing",
                            "seeing",
                            "correct",
                            "a_acc",
                            "v_acc",
                        )
                    }
                    for stage, rows in joint.items()
                    if key in rows
                },
            }
        )
    return clips


def write_report(
    path: str | os.PathLike,
    summary: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
    title: str = "rlcomm: when eyes and ears disagree",
) -> None:
    """Writes `report.html`, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        summary: the pipeline's `summary.json`: `{"stages": {stage: row of runner.summary}, "seconds_method",
            ...}`.
        results: `results.json` objects by stage, for the table per question type; stages without one are left
            out.
        curves: rows of each stage's `metrics.jsonl` (`read_curve`), by stage.
        clips: of `pick_clips`: `{"video", "kind", "question", "gold", "visible", "sounding", "said"}`.
        title: of the page.

    Raises:
        UserError: a clip file cannot be read or decoded.
    """
    drawn = [(stage, svg) for stage, rows in (curves or {}).items() if (svg := _chart(rows))]
    sections = [
        _header(title, summary),
        page.section(
            "Before and after",
            _table(summary),
            "One row a stage, the same test items in each. Rates in percent "
            "with their 95 % bootstrap interval over clips; the best of each column is marked."
            + (" " + _asymmetric(summary) if "asymmetric" in summary else ""),
        ),
    ]
    if drawn:
        figures = "".join(page.figure(_label(stage), chart) for stage, chart in drawn)
        sections.append(
            page.section(
                "While training",
                f'<div class="charts">{figures}</div>',
                "Rewards and, in Ans-CO, the entropy of the answer in nats: the faint line as "
                "logged, the strong one smoothed." + _reference(summary),
            )
        )
    if balance := _balance(curves or {}):
        sections.append(balance)
    if clips:
        cards = "".join(_card(number, clip) for number, clip in enumerate(clips, start=1))
        sections.append(
            page.section(
                "Watch and listen",
                f'<div class="cards">{cards}</div>',
                "Clips of the test set, playable here, and what every stage said about them.",
            )
        )
    if types := _types(results or {}):
        sections.append(
            page.section(
                "Sync accuracy by question type",
                types,
                "MUSIC-AVQA questions about clips whose picture and sound agree, in percent.",
            )
        )
    sections.append(_NOTES.replace("{judge}", _judges(results or {})))
    sections.append(_footer(summary))
    files.write_text(path, page.document(title, "".join(sections), _STYLE))


def write_balance(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], stage: str) -> None:
    """Writes the modality balance over training steps as a page of its own; nothing before there are two
    measurements to draw a line through.

    Args:
        path: where; written beside and renamed.
        rows: of a `metrics.jsonl`, with "step" and "diagnose/...".
        stage: what trains.
    """
    if section := _balance({stage: rows}):
        head = '<header><p class="kicker">rlcomm train</p><h1>Modality balance</h1></header>\n'
        files.write_text(path, page.document("rlcomm: modality balance", head + section, _STYLE))


def _balance(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The dashboard of a diagnosis during training, a chart a stage; "" where none was diagnosed."""
    charts = [(stage, svg) for stage, rows in curves.items() if (svg := _chart(rows, BALANCE))]
    if not charts:
        return ""
    figures = "".join(page.figure(_label(stage), chart) for stage, chart in charts)
    return page.section(
        "Modality balance while training",
        f'<div class="charts">{figures}</div>',
        "Of the questions answered right, the share lost without the sound (audio reliance) and "
        "without the picture (visual reliance); the accuracy kept with the question alone (text "
        "prior); conflicts whose evidence alone is right and loses (sign flips); accuracy on muted "
        "clips.",
    )


def _judges(results: Mapping[str, Any]) -> str:
    """Who scored the modified clips, in words."""
    greedy = [one.get("decoders", {}).get("greedy", {}) for one in results.values()]
    names = {one.get("settings", {}).get("judge", "keywords") for one in greedy}
    models = "; ".join(sorted(names - {"keywords"}))
    if not models:
        return _KEYWORDS
    asked = f"scored by a judge model ({esc(models)})."
    return asked if "keywords" not in names else f"{asked} Stages without it: {_KEYWORDS}"


def _header(title: str, summary: Mapping[str, Any]) -> str:
    rows = _ordered(summary["stages"])
    tiles = ""
    if len(rows) > 1:
        start, end = rows[0], rows[-1]
        for column in (
            c for c in COLUMNS if c.name in ("muted_acc", "control_acc", "sync_acc", "hearing_exact")
        ):
            known = [(stage, row[column.name]) for stage, row in rows if row.get(column.name) is not None]
            after = end[1].get(column.name)
            if after is None or len(known) < 2:
                continue
            stage, before = known[0]
            change = 100 * (after - before)
            good = "up" if change > 0.05 else "down" if change < -0.05 else "same"
            tiles += page.tile(
                column.title, f"{100 * after:.1f}", "%", f"{signed(change)} points", good,
                f"from {100 * before:.1f} %, {_label(stage)}",
            )  # fmt: skip
        span = esc(f"{_label(start[0])} to {_label(end[0])}")
        tiles = f'<div class="tiles" aria-label="{span}">{tiles}</div>'
    return (
        f'<header><p class="kicker">Modality conflict report</p><h1>{esc(title)}</h1>'
        f'<p class="lead">{_LEAD}</p>{tiles}</header>\n'
    )


def _table(summary: Mapping[str, Any]) -> str:
    rows = _ordered(summary["stages"])
    columns = [c for c in COLUMNS if any(row.get(c.name) is not None for _, row in rows)]
    top = {c.name: page.best([row.get(c.name) for _, row in rows], c) for c in columns}
    body = ""
    for stage, row in rows:
        intervals = row.get("ci95") or {}
        cells = "".join(page.cell(row.get(c.name), intervals.get(c.name), c, top[c.name]) for c in columns)
        body += f'<tr><th scope="row">{esc(_label(stage))}</th>{cells}</tr>'
    return page.table('<th scope="col">Stage</th>' + "".join(map(page.head, columns)), body)


def _types(results: Mapping[str, Any]) -> str:
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
        return ""
    head = "".join(f'<th scope="col">{esc(_label(stage))}</th>' for stage in stages)
    body = ""
    for name in ["acc", *names]:
        values = [rows[stage].get(name, {}).get("value") for stage in stages]
        top = max((v for v in values if v is not None), default=None)
        marks = [" class=best" if v is not None and v == top and len(set(values)) > 1 else "" for v in values]
        cells = "".join(
            f"<td{mark}>{DASH if v is None else f'{100 * v:.1f}'}</td>"
            for v, mark in zip(values, marks, strict=True)
        )
        size = rows[stages[0]][name]["n"]
        title = f'{esc(_type_title(name))} <span class="n">n = {size}</span>'
        body += f'<tr><th scope="row">{title}</th>{cells}</tr>'
    return page.table(f'<th scope="col">Question type</th>{head}', body, "types")


_KIND_TITLES = {
    "exist": "existence",
    "localis": "location",
    "count": "counting",
    "comp": "comparison",
    "temp": "temporal",
}


def _type_title(name: str) -> str:
    """ "acc_audio_visual_count" -> "Audio-visual counting"."""
    source, _, kind = name.removeprefix("acc_").rpartition("_")
    if name == "acc":
        return "All"
    if name in ("acc_audio", "acc_visual", "acc_audio_visual"):
        return f"{name.removeprefix('acc_').replace('_', '-')}, all kinds".capitalize()
    return f"{source.replace('_', '-')} {_KIND_TITLES.get(kind, kind)}".strip().capitalize()


def _card(number: int, clip: Mapping[str, Any]) -> str:
    try:
        data = base64.b64encode(Path(clip["video"]).read_bytes()).decode()
    except OSError as error:
        raise UserError(
            f"{clip['video']}: cannot be put into the report ({error.strerror}); build the data again or "
            "leave the clip out."
        ) from error
    poster, width, height = _poster(clip["video"])
    kinds = {
        "avconfuse_muted": "visible but muted",
        "avconfuse_control": "control: it sounds",
        "avconfuse_modified": "sound replaced",
    }
    facts = ""
    for name, words in (("Seen", clip.get("visible")), ("Sounding", clip.get("sounding"))):
        if words is not None:
            chips = (
                "".join(f'<span class="chip">{esc(w)}</span>' for w in words)
                or '<span class="chip">nothing</span>'
            )
            facts += f"<dt>{name}</dt><dd>{chips}</dd>"
    said = "".join(_said(stage, words) for stage, words in clip["said"].items())
    return (
        f'<article class="card"><div class="clip"><video controls loop playsinline preload="metadata" '
        f'style="aspect-ratio:{width}/{height}" poster="data:image/png;base64,{poster}" '
        f'src="data:video/mp4;base64,{data}" aria-label="Clip {number}"></video>'
        f'<span class="kind">{esc(kinds.get(str(clip.get("kind")), str(clip.get("kind", "clip"))))}</span>'
        f'<p class="question">{esc(str(clip["question"]))}</p><dl>{facts}'
        f'<dt>Right answer</dt><dd class="gold">{esc(str(clip["gold"]))}</dd></dl></div>'
        f'<ol class="said">{said}</ol></article>'
    )


def _poster(path: str) -> tuple[str, int, int]:
    """The first frame as base64 PNG, with its width and height in pixels: seen before one presses play.

    Raises:
        MediaError: the clip cannot be decoded.
    """
    frames = load_clip(path, None, MediaSettings()).frames
    assert frames is not None  # a picture was asked for, so its absence is a MediaError
    frame = frames[0]
    height, width = frame.shape[:2]
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "rgb24", Fraction(1)
    packets = encoder.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")) + encoder.encode(None)
    return base64.b64encode(b"".join(bytes(p) for p in packets)).decode(), width, height


def _said(stage: str, words: Mapping[str, Any]) -> str:
    correct = words.get("correct")
    if correct is None:
        scores = [
            f"{name} {words[key]:.1f}"
            for name, key in (("A", "a_acc"), ("V", "v_acc"))
            if words.get(key) is not None
        ]
        mark = f'<span class="mark neutral">{esc(DOT.join(scores))}</span>' if scores else ""
    else:
        mark = (
            '<span class="mark right">\N{CHECK MARK} right</span>'
            if correct
            else '<span class="mark wrong">\N{BALLOT X} wrong</span>'
        )
    lines = ""
    if words.get("prompt_style") != "direct":
        for name, key in (("hears", "hearing"), ("sees", "seeing")):
            if words.get(key):
                lines += f'<p><span class="tag">{name}</span>{esc(str(words[key]))}</p>'
    answer = words.get("answer")
    if answer is None:
        raw = str(words.get("completion") or "")
        raw = raw if len(raw) <= 160 else raw[:160] + ELLIPSIS
        shown = f'<span><em>unparsed</em> <span class="quoted">{esc(raw)}</span></span>'
    else:
        shown = f"<strong>{esc(str(answer))}</strong>"
    return (
        f'<li><div class="who"><span>{esc(_label(stage))}</span>{mark}</div>{lines}'
        f'<p><span class="tag">answers</span>{shown}</p></li>'
    )


def _footer(summary: Mapping[str, Any]) -> str:
    facts = []
    if (seconds := summary.get("seconds_method")) is not None:
        facts.append(f"method {_duration(seconds)}")
    if (seconds := summary.get("seconds_total")) is not None:
        facts.append(f"in all {_duration(seconds)}")
    if (memory := summary.get("peak_rss_mb")) is not None:
        facts.append(f"at most {memory / 1024:.1f} GB of memory")
    facts += [f"{name} {version}" for name, version in (summary.get("versions") or {}).items()]
    return f"<footer>{esc(DOT.join(facts))}</footer>\n" if facts else ""


# ---------------------------------------------------------------- charts


def _chart(rows: Sequence[Mapping[str, Any]], known: Sequence[tuple[str, tuple[str, ...]]] = CURVES) -> str:
    """One line chart of the known series in `rows`; "" where there is nothing to draw."""
    series = []
    for index, (name, keys) in enumerate(known):
        for key in keys:
            points = [
                (float(row.get("step", i)), float(row[key]))
                for i, row in enumerate(rows)
                if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])
            ]
            if len(points) > 1:
                series.append((index, name, points))
                break
    if not series:
        return ""
    steps = [x for _, _, points in series for x, _ in points]
    values = [y for _, _, points in series for _, y in points]
    low, high = min(0.0, *values), max(1.0, *values)
    ticks = page.ticks(low, high)
    first, last = min(steps), max(steps)
    plane = Plane((first, last), (min(low, ticks[0]), max(high, ticks[-1])))
    lines = plane.grid([t for t in page.ticks(first, last, 6) if first <= t <= last], ticks)
    for index, _, points in series:
        smooth = _smoothed([y for _, y in points])
        strong = [(x, y) for (x, _), y in zip(points, smooth, strict=True)]
        lines += f'<polyline class="raw c{index}" points="{plane.line(points)}"/>'
        lines += f'<polyline class="line c{index}" points="{plane.line(strong)}"/>'
    legend = "".join(
        f'<span><i class="c{index}"></i>{esc(name)} <b>{_smoothed([y for _, y in points])[-1]:.2f}</b></span>'
        for index, name, points in series
    )
    names = ", ".join(name for _, name, _ in series)
    shown = plane.svg(f"{names} over optimiser steps", lines)
    return f'{shown}<div class="legend">{legend}<span class="axis">x: optimiser step</span></div>'


def _smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving mean over about a tenth of the curve."""
    half = max(1, len(values) // 20)
    return [
        sum(part) / len(part)
        for i in range(len(values))
        for part in [values[max(0, i - half) : i + half + 1]]
    ]


# ---------------------------------------------------------------- small things


def _ordered(stages: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Known stages in the order of the method, then others as they come."""
    known = [name for name in STAGES if name in stages]
    return [(name, stages[name]) for name in known + [name for name in stages if name not in STAGES]]


def _label(stage: str) -> str:
    return STAGES.get(stage, stage)


def _duration(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(v) for v in value]


_STYLE = """
.cards{display:grid;gap:18px}
.card{display:grid;grid-template-columns:minmax(240px,320px) 1fr;overflow:hidden}
.clip{padding:18px;border-right:1px solid var(--line)}
video{width:100%;object-fit:contain;border-radius:8px;background:#000;display:block;
image-rendering:auto}
.kind{display:inline-block;margin-top:12px;font-size:.76rem;font-weight:600;color:var(--accent);
text-transform:uppercase;
letter-spacing:.05em}
.question{font-weight:600;margin:2px 0 10px;overflow-wrap:anywhere;white-space:pre-line}
dl{display:grid;grid-template-columns:auto 1fr;gap:6px 12px;margin:0;font-size:.9rem}dt{color:var(--soft)}
dd{margin:0;
overflow-wrap:anywhere}
.chip{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 9px;margin:0 5px 4px 0;
font-size:.84rem}
.gold{font-weight:600}
.said{list-style:none;margin:0;padding:6px 20px;font-size:.93rem}
.said li{padding:12px 0;border-bottom:1px solid var(--line)}.said li:last-child{border-bottom:0}
.said p{margin:3px 0 0;overflow-wrap:anywhere;display:grid;grid-template-columns:66px 1fr}
.who{display:flex;justify-content:space-between;gap:10px;font-weight:600}
.tag{color:var(--soft);font-size:.84rem}.quoted{color:var(--soft);font-size:.86rem}
.mark{font-size:.84rem;white-space:nowrap}.mark.right{color:var(--right)}.mark.wrong{color:var(--wrong)}
.mark.neutral{color:var(--soft)}
@media (max-width:720px){.card{grid-template-columns:1fr}.clip{border-right:0;
border-bottom:1px solid var(--line)}}
"""
