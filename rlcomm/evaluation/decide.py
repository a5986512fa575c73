"""From branch scores to results: each decoder under each of its settings, chosen on dev, reported on test.

Pure: raw records (`conflict.collect`) in, `results.json` and the final records out. The same scores give the
same bytes.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlcomm.data.controls import source
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders, gacl, grids
from rlcomm.evaluation import influence, margins, metrics, reliance, repair
from rlcomm.evaluation.benchmarks import Reading, Record, common
from rlcomm.evaluation.catalog import ALIGNED, CONFLICT, GROUPS, Set, group_name
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.runner import read

if TYPE_CHECKING:
    from rlcomm.evaluation.conflict import Plan

BUDGETS = (5, 10)  # points, of nAUC@0-B and the frontier at B
EVIDENCE = "evidence"


@dataclasses.dataclass(frozen=True)
class Item:
    """One item with what the branches say of it.

    Attributes:
        sample: what is asked.
        raw: its raw record.
        dev: whether settings may be chosen on it.
    """

    sample: Sample
    raw: Record
    dev: bool

    @property
    def clip(self) -> str:
        """What it is drawn with in intervals, and told dev from test by."""
        return source(self.sample)

    @property
    def condition(self) -> str | None:
        return self.sample.meta.get("condition")


@dataclasses.dataclass(frozen=True)
class Answer:
    """One decoder's answer to one item.

    Attributes:
        choice: among the candidates; None: it was written freely.
        text: the answer in words, or None.
        fields: as its benchmark scores it.
    """

    choice: decoders.Choice | None
    text: str | None
    fields: dict[str, Any]

    @property
    def correct(self) -> bool:
        return bool(self.fields["correct"])

    @property
    def applies(self) -> bool:
        """Whether the decoder did anything, or lacked a branch and left the joint answer as it was."""
        return self.choice is None or self.choice.applies

    @property
    def confidence(self) -> float | None:
        """softmax of the decoder's scores at its answer, in [0, 1]; None where nothing was scored against
        it: of one candidate alone (the branches wrote the same) it would be 1 whatever the model thinks."""
        if self.choice is None or self.choice.prediction is None or len(self.choice.scores) < 2:
            return None
        scores = self.choice.scores
        top = max(scores)
        if not math.isfinite(top):
            return None
        total = math.fsum(math.exp(score - top) for score in scores)
        return min(1.0, math.exp(scores[self.choice.prediction] - top) / total)


def count(
    raw: Sequence[Record], sets: Sequence[Set], plan: "Plan", model: str
) -> tuple[dict[str, Any], list[Record]]:
    """The `results.json` object and the final records.

    Args:
        raw: of `conflict.collect`, one an item.
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
        for name, parts in counted.items():
            if (both := parts.pop("sides")) is not None:
                sides[name][one.key] = both
            for part, value in parts.items():
                found[name][part][one.key] = value
        records += rows
    for name, several in sides.items():
        found[name]["macro"] = macros(several, list(sides["greedy"]), [list(own) for own in sides.values()])
    return {"model": model, "decoders": found}, records


def in_dev(clip: str, share: float) -> bool:
    """Whether a clip belongs to the dev split: by a hash of its name that never changes."""
    return zlib.crc32(f"dev:{clip}".encode()) / 2**32 < share


def _item(sample: Sample, raw: Record, share: float) -> Item:
    return Item(sample, raw, in_dev(source(sample), share))


def _settings(decoder: str, plan: "Plan") -> dict[str, Any]:
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


def _grid(decoder: str, plan: "Plan") -> list[dict[str, Any]]:
    """The settings a decoder is tuned over; the one it writes under where answers are written."""
    if plan.gacl_mode == "tokens":
        return [_default(decoder, plan)]
    return [{**_fixed(decoder, plan), **point} for point in grids.GRIDS[decoder]]


def _default(decoder: str, plan: "Plan") -> dict[str, Any]:
    """A decoder's settings where nothing is tuned: the recipe's for GACL, the published ones otherwise."""
    if decoder == "gacl":
        return dataclasses.asdict(gacl.Settings(**plan.settings))
    if decoder in grids.PROMPTS or decoder == "greedy":
        return {}
    from rlcomm.decoding import contrastive

    if decoder == "avcd":
        return {"a": contrastive.AVCD_A, "b": contrastive.AVCD_B}
    return {"a": contrastive.PRESETS[decoder].a, "b": contrastive.PRESETS[decoder].b}


def _count_set(
    one: Set, items: Sequence[Item], plan: "Plan"
) -> tuple[dict[str, dict[str, Any]], list[Record]]:
    """Per decoder its `benchmarks`, `chosen` and `grid` entries of one benchmark; and the records."""
    scorer = _Scorer(one, plan, _stats(items, plan))
    dev = [item for item in items if item.dev]
    tuned = plan.dev_share > 0 and {CONFLICT, ALIGNED} <= {item.condition for item in dev}
    apart = tuned or scorer.stats is not None  # dev items have had their say
    test = [item for item in items if not item.dev] if apart else list(items)
    counted: dict[str, dict[str, Any]] = {}
    chosen: dict[str, dict[str, Any] | None] = {}
    for name in plan.decoders:
        picked: dict[str, Any] | None = _default(name, plan)
        grid = _grid(name, plan)
        about = {"settings": picked, "feasible": None, "tried": 1, "n_dev": 0}
        applies = [scorer(item, name, picked or {}).applies for item in test]
        if not any(applies) and test:
            about = {**about, "settings": None, "applies": False}
            never = {"applies": metrics.mean(applies, [item.clip for item in test])}
            chosen[name] = None
            counted[name] = {"benchmarks": never, "chosen": about, "grid": [], "sides": None}
            continue
        if tuned and plan.gacl_mode != "tokens":
            runs = _runs(scorer, name, dev, grid)
            best = repair.select(runs.gains(), runs.drops(), plan.budget_points)
            picked = grid[best.index] if best.index is not None else None
            about = {
                "settings": picked,
                "feasible": best.feasible,
                "tried": best.tried,
                "n_dev": len(runs.joint_conflict) + len(runs.joint_aligned),
            }
        chosen[name] = picked
        rows = [] if picked is None else [_row(item, scorer(item, name, picked)) for item in test]
        found: dict[str, Metric] = {**one.count(rows)} if rows else {}
        if not all(applies):
            found["applies"] = metrics.mean(applies, [item.clip for item in test])
        if rows:
            found.update(_confidence(scorer, name, picked or {}, test))
            found.update(_influence(rows))
        entry: list[dict[str, Any]] = []
        both = None
        if {CONFLICT, ALIGNED} <= {item.condition for item in test}:
            runs = _runs(scorer, name, test, grid)
            for budget in BUDGETS:
                found[f"nauc_{budget}"] = repair.nauc(runs, budget)
                found[f"frontier_{budget}"] = repair.best_gain(runs, budget)
            both = Sides(runs, _parts(scorer, name, picked, test) if picked is not None else None)
            if both.parts is not None:
                found.update(
                    {key: metrics.mean(values, clips) for key, (values, clips) in both.parts.items()}
                )
            entry = [
                {"settings": point, "conflict_gain": gain, "faithful_drop": drop}
                for point, gain, drop in zip(grid, runs.gains(), runs.drops(), strict=True)
            ]
        if name == "greedy":
            found.update(_reliance(scorer, test))
        counted[name] = {"benchmarks": found, "chosen": about, "grid": entry, "sides": both}
    return counted, [_record(item, scorer, chosen, tuned) for item in items]


@dataclasses.dataclass(frozen=True)
class Sides:
    """One decoder on the conflict and aligned test items of one benchmark.

    Attributes:
        runs: under each of its settings.
        parts: under the chosen one: metric -> (value of each item, its clip); None: infeasible.
    """

    runs: repair.Runs
    parts: dict[str, tuple[list[float], list[str]]] | None


def macros(
    several: Mapping[str, Sides], keys: Sequence[str], parts: Iterable[Sequence[str]] = ()
) -> dict[str, dict[str, Metric]]:
    """The means of one decoder over the benchmarks of each group, over all of `keys` ("all"), and over each
    of `parts` that is neither (`group_name`).

    Args:
        several: benchmark -> the decoder on it.
        keys: the benchmarks with both sides, the same ones for every decoder.
        parts: those that each decoder applies to, so that every other one stands beside it there.
    """
    groups = {**GROUPS, "all": tuple(keys)}
    for part in parts:
        if not any(set(part) == set(members) for members in groups.values()):
            groups[group_name(part)] = tuple(part)
    return {
        group: _macro([several[key] for key in members])
        for group, members in groups.items()
        if len(members) > 1 and set(members) <= set(several)
    }


def _macro(several: Sequence[Sides]) -> dict[str, Metric]:
    """The means over benchmarks; without a feasible setting in each of them nAUC and frontier alone."""
    found: dict[str, Metric] = {}
    runs = [both.runs for both in several]
    for budget in BUDGETS:
        found[f"nauc_{budget}"] = repair.macro_nauc(runs, budget)
        found[f"frontier_{budget}"] = repair.macro_best_gain(runs, budget)
    parts = [both.parts for both in several if both.parts is not None]
    if len(parts) == len(several):
        for key in parts[0]:
            if all(key in part for part in parts):
                pairs = [part[key] for part in parts]
                found[key] = metrics.macro_mean([v for v, _ in pairs], [clips for _, clips in pairs])
    return found


class _Scorer:
    """A decoder's answer to an item, with its benchmark's score; every answer is scored once."""

    def __init__(self, one: Set, plan: "Plan", stats: gacl.Stats | None) -> None:
        self.one, self.plan, self.stats = one, plan, stats
        self.known: dict[tuple[str, str, str | None], dict[str, Any]] = {}

    def __call__(self, item: Item, decoder: str, settings: Mapping[str, Any]) -> Answer:
        raw = item.raw
        if decoder in raw["texts"]:
            text = raw["texts"][decoder]
            reading = read(text, self.plan.prompt_style)
            return Answer(None, reading.answer, self._fields(item, reading))
        choice = decoders.choose(decoder, raw["scores"], settings, self.stats if decoder == "gacl" else None)
        there = [
            b
            for b in decoders.READS[decoder]
            if b == "joint" or raw["scores"].get(b) or b in raw["reasoning"]
        ]
        if len(there) == len(decoders.READS[decoder]) and not choice.applies:
            # the branch is there and never came to an answer: its own is unparsed, else the joint one stands
            own = decoder in grids.PROMPTS
            choice = decoders.Choice(None, ()) if own else dataclasses.replace(choice, applies=True)
        text = raw["candidates"][choice.prediction] if choice.prediction is not None else None
        return Answer(choice, text, self._fields(item, self._reading(item, choice.prediction)))

    def _reading(self, item: Item, prediction: int | None) -> Reading:
        """A candidate as something to be scored: by itself, or in the words in which a branch gave it."""
        if prediction is None:
            return Reading("", None, "", "")
        if item.raw["completions"]:
            return read(item.raw["completions"][prediction], self.plan.prompt_style)
        text = item.raw["candidates"][prediction]
        return Reading(text, text, text, text)

    def _fields(self, item: Item, reading: Reading) -> dict[str, Any]:
        key = item.sample.id, reading.text, reading.answer
        if key not in self.known:
            self.known[key] = self.one.score(item.sample, reading)
        return self.known[key]

    def branch(self, item: Item, branch: str) -> Answer:
        """The answer of one branch by itself: the best of its scores."""
        scores = item.raw["scores"].get(branch)
        prediction = max(range(len(scores)), key=scores.__getitem__) if scores else None
        text = item.raw["candidates"][prediction] if prediction is not None else None
        choice = decoders.Choice(prediction, tuple(scores or ()))
        return Answer(choice, text, self._fields(item, self._reading(item, prediction)))


def _fixed(decoder: str, plan: "Plan") -> dict[str, Any]:
    """What a grid does not vary."""
    if decoder != "gacl":
        return {}
    return {key: plan.settings[key] for key in ("alpha_max", "score_norm") if key in plan.settings}


def _stats(items: Sequence[Item], plan: "Plan") -> gacl.Stats | None:
    """GACL's dev statistics of both branches, where its `score_norm` needs them."""
    if plan.settings.get("score_norm") not in ("center", "zscore") or "gacl" not in plan.decoders:
        return None
    rows = [item.raw["scores"] for item in items if item.dev]
    rows = [row for row in rows if row.get("joint") and row.get(EVIDENCE)]
    if not rows:
        return None
    return gacl.Stats(
        gacl.fit_stats([row["joint"] for row in rows]), gacl.fit_stats([row[EVIDENCE] for row in rows])
    )


def _side(items: Sequence[Item], condition: str) -> list[Item]:
    return [item for item in items if item.condition == condition]


def _runs(
    scorer: _Scorer, decoder: str, items: Sequence[Item], grid: Sequence[Mapping[str, Any]]
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


def _parts(
    scorer: _Scorer, decoder: str, settings: Mapping[str, Any], items: Sequence[Item]
) -> dict[str, tuple[list[float], list[str]]]:
    """What a decoder is worth on conflict and aligned items, item by item, with their clips.

    conflict_acc, aligned_acc       accuracy
    conflict_gain, faithful_drop    won and lost against joint decoding (`repair`)
    sign_flip_rate                  share of conflict items with M_A > 0 and M_J < 0, M_b = s_b(y_audio) -
                                    s_b(y_text) (the text's answer where the file names it, else the best
                                    other candidate); an item whose right answer was not scored is no flip;
                                    of greedy decoding alone: it is the branches', not the decoder's
    evidence_conflict_acc           accuracy of the evidence branch alone on them, likewise
    """
    found: dict[str, tuple[list[float], list[str]]] = {}
    for name, change, condition, sign in (
        ("conflict_acc", "conflict_gain", CONFLICT, 1.0),
        ("aligned_acc", "faithful_drop", ALIGNED, -1.0),
    ):
        part = _side(items, condition)
        clips = [item.clip for item in part]
        mine = [float(scorer(item, decoder, settings).correct) for item in part]
        joint = [float(scorer(item, "greedy", {}).correct) for item in part]
        found[name] = mine, clips
        found[change] = [sign * (m - j) for m, j in zip(mine, joint, strict=True)], clips
    scored = [item for item in _side(items, CONFLICT) if item.raw["scores"].get(EVIDENCE)]
    if decoder == "greedy" and scored:
        pairs = [(margin(item, "joint"), margin(item, EVIDENCE)) for item in scored]
        found["sign_flip_rate"] = (
            [float(margins.is_flip(j, a)) for j, a in pairs],
            [item.clip for item in scored],
        )
        found["evidence_conflict_acc"] = (
            [float(scorer.branch(item, EVIDENCE).correct) for item in scored],
            [item.clip for item in scored],
        )
    return found


def _confidence(
    scorer: _Scorer, decoder: str, settings: Mapping[str, Any], items: Sequence[Item]
) -> dict[str, Metric]:
    """`mean_confidence`, `mean_confidence_<condition>` of every condition that there is, and `ece`, over the
    items whose answer was chosen by scores and is right or wrong."""
    answers = [(item, scorer(item, decoder, settings)) for item in items]
    scored = [
        (item, answer)
        for item, answer in answers
        if answer.confidence is not None and answer.fields["correct"] is not None
    ]
    if not scored:
        return {}
    clips = [item.clip for item, _ in scored]
    confidences = [answer.confidence for _, answer in scored]
    by_condition = {}
    for condition in common.CONDITIONS:
        part = [n for n, (item, _) in enumerate(scored) if item.condition == condition]
        if part:
            by_condition[f"mean_confidence_{condition}"] = metrics.mean(
                [confidences[n] for n in part], [clips[n] for n in part]
            )
    return {
        "mean_confidence": metrics.mean(confidences, clips),
        **by_condition,
        "ece": metrics.expected_calibration_error(
            confidences, [answer.correct for _, answer in scored], clips
        ),
    }


def _reliance(scorer: _Scorer, items: Sequence[Item]) -> dict[str, Metric]:
    """What is right without a sense, where a decoder reads that branch: `r_tp_<sense>` = Acc_none / Acc_full,
    and the shares `ts_`, `an_`, `ah_`, `un_<sense>` of `reliance.partition`.

    Over the items with labels: an open answer has no verdict, or its candidates were written with the sense,
    and choosing among those is no answer without it.
    """
    found = {}
    closed = [item for item in items if common.candidates(item.sample) and not item.raw["completions"]]
    for sense in ("audio", "video"):
        part = [item for item in closed if item.raw["scores"].get(f"no_{sense}")]
        if not part:
            continue
        full = [scorer(item, "greedy", {}).correct for item in part]
        none = [scorer.branch(item, f"no_{sense}").correct for item in part]
        clips = [item.clip for item in part]
        told = reliance.of_sense(full, none, [None] * len(part), clips)
        found.update({f"{name}_{sense}": told[name] for name in ("r_tp", "ts", "an", "ah", "un")})
    return found


def _influence(rows: Sequence[Record]) -> dict[str, Metric]:
    """What the text does to answers: TIR, NormAcc and MRS against the same row without text, pair by pair."""
    by_pair: dict[str, dict[str, Record]] = {}
    for row in rows:
        if row.get("pair") and row.get("condition"):
            by_pair.setdefault(row["pair"], {})[row["condition"]] = row
    pairs = [pair for pair in by_pair.values() if "neutral" in pair]
    found: dict[str, Metric] = {}
    right: dict[str, list[bool | None]] = {}
    for condition in ("adversarial", "faithful", "irrelevant"):
        both = [pair for pair in pairs if condition in pair]
        right[condition] = [pair[condition]["correct"] if condition in pair else None for pair in pairs]
        if not both:
            continue
        rates = influence.text_influence(
            condition,
            [pair["neutral"]["correct"] for pair in both],
            [pair[condition]["correct"] for pair in both],
            [pair["neutral"]["class"] != pair[condition]["class"] for pair in both],
            [pair["neutral"]["video_id"] for pair in both],
        )
        found.update({f"{name}_{condition}": value for name, value in rates.items() if value["n"]})
        clips = [pair["neutral"]["video_id"] for pair in pairs]
        neutral = [pair["neutral"]["correct"] for pair in pairs]
        found[f"norm_acc_{condition}"] = influence.norm_acc(right[condition], neutral, clips)
    if "norm_acc_adversarial" in found and "norm_acc_irrelevant" in found:
        found["mrs"] = influence.robustness(
            right["adversarial"],
            right["irrelevant"],
            [pair["neutral"]["correct"] for pair in pairs],
            [pair["neutral"]["video_id"] for pair in pairs],
        )
    return found


def margin(item: Item, branch: str) -> float | None:
    """M_b = s_b(gold) - s_b(what the text claims), or the best other candidate where it claims none; None
    where the gold answer was not scored, or nothing else was.

    Source: GACL (arXiv 2606.05161), the sign-flip diagnosis.
    """
    scores, labels = item.raw["scores"].get(branch), list(item.raw["candidates"])
    gold = common.named(item.sample.answer, labels)
    if not scores or gold is None or len(labels) < 2:
        return None
    claimed = common.named(item.sample.meta.get("text_answer"), labels)
    return margins.margin(scores, labels.index(gold), None if claimed is None else [labels.index(claimed)])


def _row(item: Item, answer: Answer) -> Record:
    """One decoder's record as the benchmarks count it."""
    return {
        "benchmark": item.raw["benchmark"],
        "id": item.sample.id,
        "video_id": item.clip,
        "view": "joint",
        "gold": item.sample.answer,
        **answer.fields,
    }


def _record(
    item: Item, scorer: _Scorer, chosen: Mapping[str, Mapping[str, Any] | None], tuned: bool
) -> Record:
    """The final record: the item, every branch's scores, every decoder's answer under its chosen settings."""
    answers = {
        name: scorer(item, name, settings) for name, settings in chosen.items() if settings is not None
    }
    return {
        "benchmark": item.raw["benchmark"],
        "set": item.raw["set"],
        "id": item.sample.id,
        "video_id": item.clip,
        "split": "dev" if tuned and item.dev else "test",
        "condition": item.condition,
        "pair": item.sample.meta.get("pair"),
        "question": item.sample.question,
        "gold": item.sample.answer,
        "text_answer": item.sample.meta.get("text_answer"),
        "candidates": item.raw["candidates"],
        "scores": item.raw["scores"],
        "margins": {name: margin(item, name) for name in ("joint", EVIDENCE)},
        "texts": item.raw["texts"],
        "reasoning": item.raw["reasoning"],
        "decoders": {
            name: {
                "answer": answer.text,
                "class": answer.fields.get("class"),
                "correct": answer.fields["correct"],
                "confidence": answer.confidence,
                **{key: answer.fields[key] for key in ("a_acc", "v_acc", "why") if key in answer.fields},
                **(
                    {key: getattr(answer.choice, key) for key in ("applies", "gate", "reliability", "alpha")}
                    if answer.choice is not None
                    else {}
                ),
            }
            for name, answer in answers.items()
        },
    }
