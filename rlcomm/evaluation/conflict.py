"""Every benchmark under every decoder, in one pass over the model.

    sets -> batches -> scores of all candidates in all branches                         (scored: the model)
    scores -> decoders under all their settings -> the one chosen on dev -> metrics     (tuning: pure)

What a batch scored is kept in a journal, a file each, so an interrupted evaluation goes on where it stood,
and several processes share the batches (`runner`).
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data import controls
from rlcomm.evaluation import beside, judged, runner, scored
from rlcomm.evaluation.benchmarks import avconfuse
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import Raw, Record
from rlcomm.evaluation.tuning import count
from rlcomm.utils import files
from rlcomm.utils.journal import close_journal


def evaluate(
    policy: Any,
    sets: Sequence[Set],
    plan: Plan,
    out: str | os.PathLike,
    *,
    cache_dir: str | None = None,
    progress: bool = True,
    judge: dict[str, Any] | None = None,
    others: Sequence[beside.Other] = (),
) -> dict[str, Any] | None:
    """Runs what is not scored yet and writes `records.jsonl` and `results.json` into `out`.

    Args:
        policy: of `omni.policy.load_policy`.
        sets: of `catalog.open_sets`.
        plan: what is compared.
        out: run folder; the scores of an interrupted evaluation lie in its `scores/`.
        cache_dir: of decoded media.
        progress: show a bar.
        judge: a judge model for the modified set, as keywords of `judged.judge_set`; None: the keywords.
        others: of `beside.load`: finished evaluations of other models on the same items.

    Returns:
        The results (`tuning.count`); None on all processes but the first.

    Raises:
        UserError: `out` holds the scores of another evaluation.
    """
    out = Path(out)
    journal = runner.claim(out / "scores", policy, sets, plan.scored())
    batches = scored.batches(policy, sets, plan, cache_dir)
    found = runner.shared(policy.model, batches, journal, progress=progress)
    if found is None:
        return None
    raw: list[Raw] = [record for rows in found for record in rows]
    if judge is not None:
        sets = [
            judged.judge_set(one, raw, plan.prompt_style, **judge) if one.key == avconfuse.MODIFIED else one
            for one in sets
        ]
    model = str(getattr(policy, "path", ""))
    results, records = count([r for r in raw if "media" not in r], sets, plan, model)
    results, records = beside.add(results, records, others)
    results["judge"] = judged.name(judge)
    if plan.conditions:
        results["conditions"], blind = _count_conditions(raw, sets, plan, model)
        files.write_jsonl(out / "conditions.jsonl", blind)
    files.write_jsonl(out / "records.jsonl", records)
    files.write_json(out / "results.json", results)
    close_journal(journal)
    return results


def _count_conditions(
    raw: Sequence[Raw], sets: Sequence[Set], plan: Plan, model: str
) -> tuple[dict[str, Any], list[Record]]:
    """`{condition: {benchmark: {metric: ...}}}` of greedy decoding, and the records behind it.

    A benchmark stands under the conditions that change something about its items, counted over these alone;
    `full` holds what the same plan gives where nothing is changed.
    """
    greedy = dataclasses.replace(plan, decoders=("greedy",))
    found: dict[str, Any] = {}
    records: list[Record] = []
    for condition in (controls.FULL, *plan.conditions):
        part = [record for record in raw if record.get("media", controls.FULL) == condition]
        there = {(record["set"], record["id"]) for record in part}
        asked = [
            dataclasses.replace(one, samples=[s for s in one.samples if (one.key, s.id) in there])
            for one in sets
        ]
        asked = [one for one in asked if one.samples]
        results, rows = count(part, asked, greedy, model)
        found[condition] = results["decoders"]["greedy"]["benchmarks"]
        if condition != controls.FULL:
            records += [{"media": condition, **row} for row in rows]
    return found, records
