"""diagnosis.html: the balance in tiles, a section a part, and earlier diagnoses of the same items."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.reports import page
from rlcomm.reports.page import Block, Tile
from rlcomm.reports.tables import DOT, Column, between, number

BALANCE = (
    Column("audio_reliance", ("audio", "rel."), "Audio reliance", ""),
    Column("visual_reliance", ("visual", "rel."), "Visual reliance", ""),
    Column("text_prior", ("text", "prior"), "Text prior", "low"),
    Column("sign_flip_rate", ("sign", "flips"), "Sign flips", "low"),
    Column("muted_acc", ("muted", "acc"), "Muted accuracy"),
)
PUBLISHED = {
    "sign_flip_rate": "published: 64.1 % (macro, GACL)",
    "text_prior": "published: 60 to 72 % (audio)",
}


def write_report(
    path: str | os.PathLike, diagnosis: Mapping[str, Any], parts: Mapping[str, Sequence[Block]]
) -> None:
    """Writes the page, one file that needs nothing else.

    Args:
        path: where; written beside and renamed.
        diagnosis: of diagnosis.json.
        parts: what each section shows, in their order; "before": earlier diagnoses beside this one.
    """
    settings = diagnosis["settings"]
    facts = [f"{name}: {n} items" for name, n in diagnosis["items"].items()]
    facts += [f"distractor: {settings['distractor']}", f"seed {settings['seed']}"]
    facts.append("labels are scored by the mean log-probability of their tokens under the direct prompt")
    page.write(
        path, "diagnosis.html.j2", "rlcomm diagnose", _tiles(diagnosis["balance"]), facts=facts,
        model=diagnosis["model"], parts=parts,
    )  # fmt: skip


def _tiles(balance: Mapping[str, Any]) -> list[Tile]:
    tiles = []
    for column in BALANCE:
        metric = balance.get(column.name)
        if metric is None or (big := number(metric["value"], column)) is None:
            continue
        span = f"95 %: {between(metric['ci95'], column)}{DOT}n = {metric['n']}"
        tiles.append(Tile(column.title, big, "%", span, "same", PUBLISHED.get(column.name, "")))
    return tiles
