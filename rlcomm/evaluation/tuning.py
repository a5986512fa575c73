"""From branch scores to results: each decoder under each of its settings, chosen on dev, reported on test.

Pure: raw records (`scored.collect`) in, `results.json` and the final records out. The same scores give the
same bytes.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rlcomm.data.controls import source
from rlcomm.data.sample import Sample
from rlcomm.decoding import contrastive, decoders, gacl, grids
from rlcomm.evaluation import metrics, repair
from rlcomm.evaluation.answers import EVIDENCE, Decided, Item, Scorer, margin
from rlcomm.evaluation.catalog import ALIGNED, CONFLICT, JOINT, Set
from rlcomm.evaluation.measures import confidence, influence_of, reliance_of
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import GENERATED, LABEL_SCORED, Answer, Raw, Record, marked
from rlcomm.evaluation.sides import Parts, Sides, against_joint, flips, macros


def count(
    raw: Sequence[Raw], sets: Sequence[Set], plan: Plan, model: str
) -> tuple[dict[str, Any], list[Record]]:
    """The `results.json` object and the final records.

    Args:
        raw: of `scored.collect`, one an item.
        sets: the same items, opened.
        plan: what is compared.
        model: its path, for the result.

    Returns:
        results: `{"model", "decoders": {name: {"settings", "benchmarks": {key: {metric: {"value", "n",
            "ci95"}}}, "chosen": {key: {"settings", "feasible", "tried", "n_dev"}}, "grid": {key:
            [{"settings", "conflict_gain", "faithful_drop"}]}}}}`. Where settings were tuned, metrics are of
            the test items alone; a decoder without a feasible setting has no answers there, only its nAUC and
            its frontier, and its `chosen` settings are null. `grid` is measured on the test items. Where
            several benchmarks have conflict and aligned items, `macro` beside `benchmarks` holds the means of
            their metrics, each of equal weight: `{"mcr": {metric: ...}, "all": {metric: ...}}`, and by the
            names of the benchmarks, joined by "+", those over several that a decoder applies to and no more.
        records: one an item, with every decoder's answer under its chosen settings.
    """
    by_id = {(record["set"], record["id"]): record for record in raw}
    found: dict[str, dict[str, Any]] = {
        name: {"settings": _settings(name, plan), "benchmarks": {}, "chosen": {}, "grid": {}}
        for name in plan.decoders
    }
    records = []
    sides: dict[str, dict[str, Sides]] = {name: {} for name in plan.decoders}
    for one in sets:
        items = [_item(sample, by_id[one.key, sample.id], plan.dev_share) for sample in one.samples]
        counted, rows = _count_set(one, items, plan)
        for name, each in counted.items():
            if each.sides is not None:
                sides[name][one.key] = each.sides
            for part in ("benchmarks", "chosen", "grid"):
                found[name][part][one.key] = getattr(each, part)
        records += rows
    for name, several in sides.items():
        found[name]["macro"] = macros(several, list(sides["greedy"]), [list(own) for own in sides.values()])
    return {"model": model, "decoders": found}, records


def in_dev(clip: str, share: float) -> bool:
    """Whether a clip belongs to the dev split: by a hash of its name that never changes."""
    return zlib.crc32(f"dev:{clip}".encode()) / 2**32 < share


def _item(sample: Sample, raw: Raw, share: float) -> Item:
    return Item(sample, raw, in_dev(source(sample), share))


def _settings(decoder: str, plan: Plan) -> dict[str, Any]:
    """What holds for one decoder in all benchmarks, for the result."""
    return {
        "reads": list(decoders.READS[decoder]),
        "prompt_style": plan.prompt_style,
        "candidate_score": "mean log-probability" if plan.normalise else "summed log-probability",
        "gacl_mode": plan.gacl_mode,
        "arbitrate": plan.arbitrate,
        "dev_share": plan.dev_share,
        "budget_points": plan.budget_points,
        "settings_tried": len(_grid(decoder, plan)),
        "default": _default(decoder, plan),
        "media": dataclasses.asdict(plan.media),
    }


def _grid(decoder: str, plan: Plan) -> list[dict[str, Any]]:
    """The settings a decoder is tuned over; the one it writes under where answers are written."""
    if plan.gacl_mode == "tokens":
        return [_default(decoder, plan)]
    return [{**_fixed(decoder, plan), **point} for point in grids.GRIDS[decoder]]


def _default(decoder: str, plan: Plan) -> dict[str, Any]:
    """A decoder's settings where nothing is tuned: the recipe's for GACL, the published ones otherwise."""
    if decoder == "gacl":
        return dataclasses.asdict(gacl.Settings(**plan.settings))
    if decoder in grids.PROMPTS or decoder == "greedy":
        return {}
    if decoder == "avcd":
        return {"a": contrastive.AVCD_A, "b": contrastive.AVCD_B}
    return {"a": contrastive.PRESETS[decoder].a, "b": contrastive.PRESETS[decoder].b}


@dataclasses.dataclass(frozen=True)
class Counted:
    """One decoder on one benchmark: its `benchmarks`, `chosen` and `grid` entries, and both sides."""

    benchmarks: dict[str, Metric]
    chosen: dict[str, Any]
    grid: list[dict[str, Any]]
    sides: Sides | None


def _count_set(one: Set, items: Sequence[Item], plan: Plan) -> tuple[dict[str, Counted], list[Record]]:
    """Every decoder on one benchmark; and the records."""
    scorer = Scorer(one, plan, _stats(items, plan))
    dev = [item for item in items if item.dev]
    tuned = plan.dev_share > 0 and {CONFLICT, ALIGNED} <= {item.condition for item in dev}
    apart = tuned or scorer.stats is not None  # dev items have had their say
    test = [item for item in items if not item.dev] if apart else list(items)
    counted = {name: _count_decoder(name, scorer, dev if tuned else [], test) for name in plan.decoders}
    chosen = {name: each.chosen["settings"] for name, each in counted.items()}
    return counted, [_record(item, scorer, chosen, tuned) for item in items]


def _count_decoder(name: str, scorer: Scorer, dev: Sequence[Item], test: Sequence[Item]) -> Counted:
    """One decoder: its settings chosen on `dev` if there are items, measured on `test`."""
    plan, clips = scorer.plan, [item.clip for item in test]
    default, grid = _default(name, plan), _grid(name, plan)
    answers = [scorer(item, name, default) for item in test]
    kind = GENERATED if all(answer.choice is None for answer in answers) else LABEL_SCORED
    applies = [answer.applies for answer in answers]
    chosen: dict[str, Any] = {"settings": default, "feasible": None, "tried": 1, "n_dev": 0}
    if not any(applies) and test:
        never = marked({"applies": metrics.mean(applies, clips)}, kind)
        return Counted(never, {**chosen, "settings": None, "applies": False}, [], None)
    if dev and plan.gacl_mode != "tokens":
        runs = _runs(scorer, name, dev, grid)
        best = repair.select(runs.gains(), runs.drops(), plan.budget_points)
        chosen = {
            "settings": grid[best.index] if best.index is not None else None,
            "feasible": best.feasible,
            "tried": best.tried,
            "n_dev": len(runs.joint_conflict) + len(runs.joint_aligned),
        }
    settings = chosen["settings"]
    rows = [] if settings is None else [_row(item, scorer(item, name, settings)) for item in test]
    found: dict[str, Metric] = {**scorer.one.count(rows)} if rows else {}
    if not all(applies):
        found["applies"] = metrics.mean(applies, clips)
    if rows:
        found |= confidence(scorer, name, settings, test)
        found |= influence_of(rows)
    entry: list[dict[str, Any]] = []
    both = None
    if {CONFLICT, ALIGNED} <= {item.condition for item in test}:
        runs = _runs(scorer, name, test, grid)
        parts = None if settings is None else _parts(scorer, name, settings, test)
        both = Sides(runs, parts, kind)
        found |= both.counted()
        entry = [
            {"settings": point, "conflict_gain": gain, "faithful_drop": drop}
            for point, gain, drop in zip(grid, runs.gains(), runs.drops(), strict=True)
        ]
    if name == "greedy":
        found |= reliance_of(scorer, test)
    return Counted(marked(found, kind), chosen, entry, both)


def _fixed(decoder: str, plan: Plan) -> dict[str, Any]:
    """What a grid does not vary."""
    if decoder != "gacl":
        return {}
    return {key: plan.settings[key] for key in ("alpha_max", "score_norm") if key in plan.settings}


def _stats(items: Sequence[Item], plan: Plan) -> gacl.Stats | None:
    """GACL's dev statistics of both branches, where its `score_norm` needs them."""
    if plan.settings.get("score_norm") not in ("center", "zscore") or "gacl" not in plan.decoders:
        return None
    rows = [item.raw["scores"] for item in items if item.dev]
    pairs = [(joint, alone) for row in rows if (joint := row.get(JOINT)) and (alone := row.get(EVIDENCE))]
    if not pairs:
        return None
    return gacl.Stats(gacl.fit_stats([joint for joint, _ in pairs]), gacl.fit_stats([a for _, a in pairs]))


def _side(items: Sequence[Item], condition: str) -> list[Item]:
    return [item for item in items if item.condition == condition]


def _runs(
    scorer: Scorer, decoder: str, items: Sequence[Item], grid: Sequence[Mapping[str, Any]]
) -> repair.Runs:
    conflict, aligned = _side(items, CONFLICT), _side(items, ALIGNED)
    return repair.Runs(
        [scorer(item, "greedy", {}).correct for item in conflict],
        [scorer(item, "greedy", {}).correct for item in aligned],
        [[scorer(item, decoder, point).correct for item in conflict] for point in grid],
        [[scorer(item, decoder, point).correct for item in aligned] for point in grid],
        [item.clip for item in conflict],
        [item.clip for item in aligned],
    )


def _parts(scorer: Scorer, decoder: str, settings: Mapping[str, Any], items: Sequence[Item]) -> Parts:
    """What a decoder is worth on both sides, item by item; beside greedy decoding, which is the joint branch,
    what its evidence alone is worth: the sign flips and evidence_conflict_acc, its accuracy in conflict."""

    def compared(condition: str) -> tuple[list[bool], list[bool], list[str]]:
        part = _side(items, condition)
        joint = [scorer(item, "greedy", {}).correct for item in part]
        return joint, [scorer(item, decoder, settings).correct for item in part], [i.clip for i in part]

    found = against_joint(compared(CONFLICT), compared(ALIGNED))
    scored = [item for item in _side(items, CONFLICT) if item.raw["scores"].get(EVIDENCE)]
    if decoder == "greedy" and scored:
        clips = [item.clip for item in scored]
        found |= flips([(margin(item, "joint"), margin(item, EVIDENCE)) for item in scored], clips)
        alone = [float(scorer.branch(item, EVIDENCE).correct) for item in scored]
        found["evidence_conflict_acc"] = alone, clips
    return found


def _row(item: Item, answer: Decided) -> Record:
    """One decoder's record as the benchmarks count it."""
    about: Record = {
        "benchmark": item.raw["benchmark"],
        "id": item.sample.id,
        "video_id": item.clip,
        "view": JOINT,
        "gold": item.sample.answer,
    }
    return about | cast(Record, answer.fields)


def _record(
    item: Item, scorer: Scorer, chosen: Mapping[str, Mapping[str, Any] | None], tuned: bool
) -> Record:
    """The final record: the item, every branch's scores, every decoder's answer under its chosen settings."""
    answers: dict[str, Answer] = {
        name: scorer(item, name, settings).record()
        for name, settings in chosen.items()
        if settings is not None
    }
    return {
        "benchmark": item.raw["benchmark"],
        "set": item.raw["set"],
        "id": item.sample.id,
        "video_id": item.clip,
        "view": JOINT,
        "prompt_style": scorer.plan.prompt_style,
        "split": "dev" if tuned and item.dev else "test",
        "condition": item.condition,
        "pair": item.sample.meta.get("pair"),
        "question": item.sample.question,
        "gold": item.sample.answer,
        "text_answer": item.sample.meta.get("text_answer"),
        "candidates": item.raw["candidates"],
        "scores": item.raw["scores"],
        "margins": {name: margin(item, name) for name in (JOINT, EVIDENCE)},
        "texts": item.raw["texts"],
        "reasoning": item.raw["reasoning"],
        "decoders": answers,
    }
