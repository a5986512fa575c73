"""diagnosis.html: the balance in tiles, a section a part, and earlier diagnoses of the same items."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.diagnostics import balance, compare
from rlcomm.evaluation.benchmarks import Record
from rlcomm.reports import conflict_charts, page
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports.page import DASH, DOT, esc
from rlcomm.utils import files

TITLES = {
    "flips": (
        "Was the evidence missing, or overruled?",
        "Every item twice: with everything (joint), and without what may mislead it (the text beside the "
        "question, the picture, or the sound). A margin is the score of the right label minus the best other "
        "one, in nats. Where the evidence alone is right and the joint input is wrong, the sign has flipped: "
        "the evidence is there and loses.",
    ),
    "patching": (
        "Where it is overruled",
        "Activations of the branch without the distractor, put into the joint branch: how much of the margin "
        "comes back, by layer and place.",
    ),
    "probes": (
        "Does the model know that its senses disagree?",
        "What a linear probe and a random forest read out of the hidden states of each layer, whole clips "
        "held out, beside the same on shuffled labels.",
    ),
    "reliance": (
        "How much of the score needs the sense",
        "The same questions without a sense, with a dead or a strange one, and with fragments of it. A score "
        "without its blind control says little. R_TP is the accuracy kept without the sense over the full "
        "one (published for audio: 60 to 72 %); XS / AN the share of questions that take the whole of it, "
        "among those that need it (published: 3.0 to 4.2 %).",
    ),
}
PUBLISHED = {
    "sign_flip_rate": "published: 64.1 % (macro, GACL)",
    "text_prior": "published: 60 to 72 % (audio)",
}


def write_report(
    path: str | os.PathLike,
    diagnosis: Mapping[str, Any],
    records: Mapping[str, Sequence[Record]],
    before: Sequence[compare.Run] = (),
) -> None:
    """Writes the page, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        diagnosis: of `run.diagnose`.
        records: of every part it has.
        before: earlier diagnoses, in their order.
    """
    from rlcomm.diagnostics.run import part_of

    sections = [_header(diagnosis)]
    if before:
        this = compare.Run(f"this: {diagnosis['model']}", diagnosis, records.get("flips", ()))
        sections.append(
            page.section(
                "Before and after",
                compare.section([*before, this]),
                "The same items in every diagnosis; those whose joint margin moved farthest are listed.",
            )
        )
    for name, part in records.items():
        title, lead = TITLES[name]
        body = part_of(name).section(diagnosis[name], part)
        sections.append(page.section(title, body or "<p>Nothing to show.</p>", lead))
    sections.append(_footer(diagnosis))
    style = conflict_charts.STYLE + charts.STYLE
    files.write_text(path, page.document("rlcomm diagnose", "".join(sections), style))


def _header(diagnosis: Mapping[str, Any]) -> str:
    tiles = ""
    for column in balance.COLUMNS:
        metric = diagnosis["balance"].get(column.name)
        if metric is None or metric["value"] is None:
            continue
        low, high = metric["ci95"] or (None, None)
        interval = f"95 %: {page.number(low, column)}{DASH}{page.number(high, column)}{DOT}n = {metric['n']}"
        big = page.number(metric["value"], column)
        tiles += page.tile(column.title, big, "%", interval, "same", PUBLISHED.get(column.name, ""))
    return (
        f'<p class="kicker">rlcomm diagnose</p><h1>Why the model chose the wrong sense</h1>'
        f'<p class="lead">Model: {esc(diagnosis["model"])}. Published numbers are of other models and '
        "data.</p>"
        f'<div class="tiles">{tiles}</div>'
    )


def _footer(diagnosis: Mapping[str, Any]) -> str:
    items = DOT.join(f"{name}: {n} items" for name, n in diagnosis["items"].items())
    settings = diagnosis["settings"]
    return (
        f"<footer>{esc(items)}{DOT}distractor: {esc(settings['distractor'])}{DOT}seed {settings['seed']}"
        f"{DOT}labels are scored by the mean log-probability of their tokens under the direct prompt</footer>"
    )
