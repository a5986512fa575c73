"""What answers are worth beyond right and wrong: how sure, how far a text moves them, by which sense."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rlcomm.evaluation import influence, metrics, reliance
from rlcomm.evaluation.answers import Item, Scorer
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import LABEL_SCORED, Record, marked


def confidence(
    scorer: Scorer, decoder: str, settings: Mapping[str, Any], items: Sequence[Item]
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


def reliance_of(scorer: Scorer, items: Sequence[Item]) -> dict[str, Metric]:
    """What is right without a sense, where a decoder reads that branch: `r_tp_<sense>` = Acc_none / Acc_full,
    and the shares `ts_`, `an_`, `ah_`, `un_<sense>` of `reliance.partition`.

    Over the items with labels: an open answer has no verdict, or its candidates were written with the sense,
    and choosing among those is no answer without it.
    """
    found: dict[str, Metric] = {}
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
    return marked(found, LABEL_SCORED)


def influence_of(rows: Sequence[Record]) -> dict[str, Metric]:
    """What the text does to answers: TIR, NormAcc and MRS against the same row without text, pair by pair."""
    by_pair: dict[str, dict[str, Record]] = {}
    for row in rows:
        if (pair := row.get("pair")) and (condition := row.get("condition")):
            by_pair.setdefault(pair, {})[condition] = row
    pairs = [several for several in by_pair.values() if "neutral" in several]
    found: dict[str, Metric] = {}
    right: dict[str, list[bool | None]] = {}
    for condition in get_args(influence.Condition):
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
