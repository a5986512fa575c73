"""`rlcomm diagnose`: parts over blocks of items, a journal of what is done, one diagnosis.json and its page.

    sets -> items, questions -> blocks of whole clips -> part.measure -> journal
    journal -> part.summary -> diagnosis.json
            -> part.section -> diagnosis.html

The loop is the evaluator's (`evaluation.runner`): the blocks are always the same and every record is read
back from the journal, so a run that was cut off and several processes end in the same bytes.
"""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from rlcomm.data.media import MediaSettings
from rlcomm.diagnostics import balance, compare, reliance
from rlcomm.diagnostics.compare import Run
from rlcomm.diagnostics.items import Pairs, Record, blocks, items_of
from rlcomm.evaluation import runner
from rlcomm.evaluation.catalog import Set
from rlcomm.reports import diagnosis as report
from rlcomm.reports.page import Block
from rlcomm.utils import files
from rlcomm.utils.errors import UserError
from rlcomm.utils.journal import close_journal

PARTS = ("flips", "patching", "probes", "reliance")
BLOCK = 16  # items at least in a block: what an interruption can lose


@dataclass(frozen=True)
class Plan:
    """What is diagnosed, and how.

    Attributes:
        which: of `PARTS`.
        distractor: what the reference of an item leaves out (`items.items_of`) in patching and probes; flips
            are measured for everything that can be left out.
        batch_size: prompts a forward.
        seed: of what a part draws.
        media: how clips are decoded.
    """

    which: tuple[str, ...] = PARTS
    distractor: str = "auto"
    batch_size: int = 16
    seed: int = 0
    media: MediaSettings = field(default_factory=MediaSettings)


def part_of(name: str) -> ModuleType:
    """The module of a part.

    Raises:
        UserError: this installation has no such part.
    """
    try:
        return importlib.import_module(f"rlcomm.diagnostics.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"rlcomm.diagnostics.{name}":
            raise
        raise UserError(
            f"part {name!r} of a diagnosis is not in this version of rlcomm; leave it out or install a newer "
            "one."
        ) from error


def units(name: str, sets: Sequence[Set], plan: Plan) -> list[Any]:
    """What a part measures: the questions that stand alone for reliance, items for the others."""
    if name == "reliance":
        return [one for each in sets for one in reliance.questions_of(each.key, each.samples)]
    distractor = "all" if name == "flips" else plan.distractor
    return [one for each in sets for one in items_of(each.key, each.samples, distractor)]


def check(sets: Sequence[Set], plan: Plan) -> None:
    """Whether every part of a plan is there and has something to measure.

    Raises:
        UserError: a part that is not there, or benchmarks without an item for it.
    """
    for name in plan.which:
        part_of(name)
        if not units(name, sets, plan):
            raise UserError(
                f"part {name!r} of a diagnosis finds no item with labels in the benchmarks "
                f"({', '.join(one.key for one in sets)}); add one such as avconfuse_muted or mcr_aqa, or "
                "leave the part out."
            )


def batches(
    policy: Any, sets: Sequence[Set], plan: Plan, cache_dir: str | None = None
) -> list[tuple[str, runner.Batch]]:
    """Part, and one block of what it measures; always in the same blocks."""
    pairs = Pairs(policy, plan.media, cache_dir=cache_dir)
    found = []
    for name in plan.which:
        for number, block in enumerate(blocks(units(name, sets, plan), BLOCK)):
            measure = partial(
                part_of(name).measure, policy, block, pairs=pairs, batch_size=plan.batch_size, seed=plan.seed
            )
            found.append((name, runner.Batch(f"{name}-{number:06d}", len(block), name, measure)))
    return found


def measured(
    policy: Any, sets: Sequence[Set], plan: Plan, cache_dir: str | None = None
) -> dict[str, list[Record]]:
    """The records of every part, measured by this process alone, without a journal."""
    todo = batches(policy, sets, plan, cache_dir)
    rows = runner.measured(policy.model, [batch for _, batch in todo], progress=False)
    return in_order([name for name, _ in todo], rows, sets, plan)


def in_order(
    names: Sequence[str], rows: Sequence[Sequence[Record]], sets: Sequence[Set], plan: Plan
) -> dict[str, list[Record]]:
    """The records of every part in the order of the files, out of those of its blocks.

    Args:
        names: the part of each block.
        rows: of each block.
    """
    found: dict[str, list[Record]] = {}
    for part in plan.which:
        place = {one.key: i for i, one in enumerate(units(part, sets, plan))}
        records = [
            record for name, block in zip(names, rows, strict=True) for record in block if name == part
        ]
        found[part] = sorted(records, key=lambda record: place[record["key"]])
    return found


def summarised(records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """Every part's summary, and what of them makes the modality balance (`balance.of`)."""
    found = {name: part_of(name).summary(part) for name, part in records.items()}
    return {"balance": balance.of(records, found), **found}


def diagnose(
    policy: Any,
    sets: Sequence[Set],
    plan: Plan,
    out: str | os.PathLike,
    *,
    before: Sequence[Run] = (),
    cache_dir: str | None = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Measures what is not measured yet and writes `<part>.jsonl`, `diagnosis.json` and `diagnosis.html`.

    Args:
        policy: of `omni.policy.load_policy`.
        sets: of `catalog.open_sets`.
        plan: what is diagnosed.
        out: folder; the records of an interrupted diagnosis lie in its `measured/`.
        before: earlier diagnoses (`compare.load`), shown beside this one in their order.
        cache_dir: of decoded media.
        progress: show a bar.

    Returns:
        diagnosis.json; None on all processes but the first.

    Raises:
        UserError: as in `check`, or `out` holds another diagnosis that was cut off.
    """
    out = Path(out)
    check(sets, plan)
    asked = json.loads(json.dumps(dataclasses.asdict(plan)))
    journal = runner.claim(out / "measured", policy, sets, asked)
    todo = batches(policy, sets, plan, cache_dir)
    rows = runner.shared(policy.model, [batch for _, batch in todo], journal, "diagnose", progress)
    if rows is None:
        return None
    records = in_order([name for name, _ in todo], rows, sets, plan)
    diagnosis = {
        "model": str(getattr(policy, "path", "")),
        "settings": asked,
        "items": {name: len(part) for name, part in records.items()},
        **summarised(records),
    }
    for name, part in records.items():
        files.write_jsonl(out / f"{name}.jsonl", part)
    files.write_json(out / "diagnosis.json", diagnosis)
    report.write_report(out / "diagnosis.html", diagnosis, _sections(diagnosis, records, before))
    close_journal(journal)
    return diagnosis


def _sections(
    diagnosis: Mapping[str, Any], records: Mapping[str, Sequence[Record]], before: Sequence[Run]
) -> dict[str, Sequence[Block]]:
    """What the page shows: the earlier diagnoses and this one side by side, then every part."""
    found: dict[str, Sequence[Block]] = {}
    if before:
        this = Run(f"this: {diagnosis['model']}", diagnosis, records.get("flips", ()))
        found["before"] = compare.section([*before, this])
    return {**found, **{name: part_of(name).section(diagnosis[name], part) for name, part in records.items()}}
