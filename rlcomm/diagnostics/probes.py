"""Conflict probes: can an item with misleading text be told from one with helpful text, layer by layer?

    joint prompt --> hidden state of its last token after each layer --> adversarial or faithful?

The last token is where the answer is decided. Two probes are fitted at each layer, a linear one (logistic
regression) and a random forest, in folds that never part a clip: no clip is both trained and tested on.
Beside them stand the same probes on shuffled labels (chance, as this data and these folds give it) and the
model's own confidence (what is known without looking inside).

Source of the question: MCR-BENCH (arXiv 2508.15407) and GACL (arXiv 2606.05161).
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcomm.decoding.decoders import softmax_at, summed
from rlcomm.diagnostics.items import Item, Pairs, Record
from rlcomm.diagnostics.resample import auc
from rlcomm.evaluation import metrics
from rlcomm.evaluation.margins import DIGITS, rounded
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports.charts import drawn
from rlcomm.reports.page import Block

CLASSES = ("faithful", "adversarial")  # 0 and 1
PROBES = ("linear", "forest")
FOLDS = 5
TREES = 100
SHUFFLES = 5  # of the labels, for the control of the linear probe; one for the forest's, which is slow


def measure(
    policy: Any, items: Sequence[Item], pairs: Pairs | None = None, batch_size: int = 16, seed: int = 0
) -> list[Record]:
    """Hidden states at the answer position of the items that are adversarial or faithful.

    Args:
        policy: of `omni.policy.load_policy`; any decoder it accepts.
        items: what is diagnosed.
        pairs: gives the prompts; None: decoded with the defaults.
        batch_size: items a forward.
        seed: nothing is drawn here; every part takes one.

    Returns:
        Per item its fields and `scores` (mean log-probability of each label, nats), `confidence` (softmax of
        the summed log-probabilities at the answer, in [0, 1]), `correct`, `hidden` (`pack`ed float32
        (layers, H): the residual stream of the prompt's last token after each layer). None where the item is
        of another condition.
    """
    from rlcomm.evaluation.runner import inference

    pairs = pairs or Pairs(policy)
    records: list[Record] = []
    empty = {"scores": None, "confidence": None, "correct": None, "hidden": None}
    with inference(policy.model):
        for start in range(0, len(items), batch_size):
            block = items[start : start + batch_size]
            asked = [item for item in block if item.condition in CLASSES]
            found = iter(_read(policy, asked, pairs) if asked else [])
            records += [
                {**item.fields(), **(next(found) if item.condition in CLASSES else empty)} for item in block
            ]
    return records


def _read(policy: Any, items: Sequence[Item], pairs: Pairs) -> list[Record]:
    """One forward for scores and states: the last token of a prompt stands where its labels are predicted."""
    import torch

    from rlcomm.diagnostics.hooks import decoder_of, layers_of, reading
    from rlcomm.omni.labels import label_tokens
    from rlcomm.omni.score import Work, candidate_scores

    prompts = [pairs(item)[0] for item in items]
    layers = layers_of(decoder_of(policy.model))
    with reading(layers, ["residual"]) as states:
        scores = candidate_scores(
            policy.model, policy.processor, prompts, [item.labels for item in items], work=(work := Work())
        )
    assert work.starts is not None
    records, label = [], 0
    for item, own in zip(items, scores, strict=True):
        last = int(work.starts[label])
        label += len(own)
        hidden = torch.stack([states["residual", layer].flatten(0, 1)[last] for layer in range(len(layers))])
        best = max(range(len(own)), key=own.__getitem__)
        sums = summed(own, label_tokens(policy.processor.tokenizer, item.labels))
        records.append(
            {
                "scores": rounded(own),
                "confidence": round(softmax_at(sums, best), DIGITS),
                "correct": best == item.gold,
                "hidden": pack(hidden.float().cpu().numpy()),
            }
        )
    return records


def pack(values: np.ndarray) -> dict[str, Any]:
    """An array as JSON values: its shape, and float32 (little-endian) in base64."""
    data = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(data.shape), "float32": base64.b64encode(data.tobytes()).decode("ascii")}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """The array of `pack`."""
    return np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4").reshape(packed["shape"])


# ---------------------------------------------------------------- what the records say


def summary(records: Sequence[Record], seed: int = 0) -> dict[str, Any]:
    """How well each layer tells adversarial from faithful items.

    Args:
        records: of `measure`.
        seed: of the forest and of the shuffled labels.

    Returns:
        {"all", and each task where there are several: {
            "adversarial": share of the probed items that are (what a constant guess can reach),
            "accuracy": share of right answers of the model, {condition: metric},
            "confidence": mean of the model's confidence, {condition: metric},
            "linear", "forest": {layer: {"acc", "auc"}}, out of fold,
            "linear_shuffled", "forest_shuffled": the same on labels shuffled within each task,
            "doubt": {"acc", "auc"} of a linear probe that sees the confidence alone}}

        A value is None where it cannot be had: no two clips, or one condition alone. Tasks with other shares
        of adversarial items can be told apart by "all"'s probes; its shuffled probes can do that as well.
    """
    probed = {(r["task"], r["id"]): r for r in reversed(records) if r["hidden"] is not None}
    once = list(probed.values())[::-1]  # a sample from which several things were left out is asked once
    tasks = dict.fromkeys(record["task"] for record in once)
    found = {"all": _summary(once, seed)} if once else {}
    if len(tasks) > 1:
        found |= {
            task: _summary([record for record in once if record["task"] == task], seed) for task in tasks
        }
    return found


def _summary(probed: Sequence[Record], seed: int) -> dict[str, Any]:
    clips = [record["source"] for record in probed]
    wrong = np.array([record["condition"] == CLASSES[1] for record in probed], dtype=bool)
    found: dict[str, Any] = {
        "adversarial": metrics.mean(wrong.tolist(), clips),
        "accuracy": _by_condition(probed, "correct"),
        "confidence": _by_condition(probed, "confidence"),
    }
    states = np.stack([unpack(record["hidden"]) for record in probed])
    tasks = [record["task"] for record in probed]
    for probe in PROBES:
        layers = [states[:, layer] for layer in range(states.shape[1])]
        found[probe] = {str(i): judged(probe, x, wrong, clips, seed) for i, x in enumerate(layers)}
        found[f"{probe}_shuffled"] = {
            str(i): judged(probe, x, wrong, clips, seed, SHUFFLES if probe == "linear" else 1, tasks)
            for i, x in enumerate(layers)
        }
    sure = np.array([[record["confidence"]] for record in probed])
    found["doubt"] = judged("linear", sure, wrong, clips, seed)
    return found


def _by_condition(records: Sequence[Record], field: str) -> dict[str, metrics.Metric]:
    parts = {name: [record for record in records if record["condition"] == name] for name in CLASSES}
    return {
        name: metrics.mean([record[field] for record in part], [record["source"] for record in part])
        for name, part in parts.items()
    }


def judged(
    probe: str,
    x: np.ndarray,
    y: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
    shuffles: int = 0,
    strata: Sequence[str] | None = None,
) -> dict[str, metrics.Metric]:
    """Accuracy and area under the curve of one probe, out of fold.

    Args:
        probe: of `PROBES`.
        x: features (N, F).
        y: classes (N,), bool.
        groups: the clip of each item (N,).
        seed: of the forest and of the shuffling.
        shuffles: 0: the labels as they are; k: the mean over k permutations of them.
        strata: labels are permuted within each of these; None: all together.

    Returns:
        {"acc", "auc"}, with intervals over clips; the folds and fits are taken as given.
    """
    empty: metrics.Metric = {"value": None, "n": len(y), "ci95": None}
    if len(set(groups)) < 2 or len(np.unique(y)) < 2:
        return {"acc": dict(empty), "auc": dict(empty)}
    rng = np.random.default_rng(seed)
    rights, areas = [], []
    for _ in range(max(1, shuffles)):
        classes = _permuted(y, strata, rng) if shuffles else y
        chances = out_of_fold(probe, x, classes, groups, seed)
        rights.append((chances > 0.5) == classes)
        areas.append(auc(classes.tolist(), chances.tolist(), groups))
    right = np.mean(rights, axis=0)
    return {"acc": metrics.mean(right.tolist(), groups), "auc": _mean_of(areas)}


def _permuted(y: np.ndarray, strata: Sequence[str] | None, rng: np.random.Generator) -> np.ndarray:
    found = y.copy()
    names = np.array([""] * len(y) if strata is None else list(strata))
    for name in np.unique(names):
        found[names == name] = rng.permutation(y[names == name])
    return found


def _mean_of(several: Sequence[metrics.Metric]) -> metrics.Metric:
    """The mean of values and of the ends of their intervals."""
    known = [one for one in several if one["value"] is not None]
    if not known:
        return dict(several[0])
    ends = np.mean([one["ci95"] for one in known], axis=0)
    return {
        "value": float(np.mean([one["value"] for one in known])),
        "n": several[0]["n"],
        "ci95": [float(ends[0]), float(ends[1])],
    }


def out_of_fold(probe: str, x: np.ndarray, y: np.ndarray, groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """Probability of class True of every item by a probe that was fitted without its clip, (N,).

    Args:
        probe: of `PROBES`: logistic regression on standardised features (scikit-learn's C = 1), or a forest
            of `TREES` trees.
        x: features (N, F).
        y: classes (N,), bool.
        groups: the clip of each item (N,), two or more.
        seed: of the forest.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chances = np.zeros(len(y))
    for train, test in GroupKFold(min(FOLDS, len(set(groups)))).split(x, y, groups):
        if len(np.unique(y[train])) < 2:  # nothing to tell apart: what it saw is what it says
            chances[test] = float(y[train][0])
            continue
        model: Any = (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            if probe == "linear"
            else RandomForestClassifier(TREES, random_state=seed)
        )
        chances[test] = model.fit(x[train], y[train]).predict_proba(x[test])[:, 1]
    return chances


def scalars(found: Mapping[str, Any]) -> dict[str, float | None]:
    """What is logged during training: the area under the curve of each probe, mean over the layers.

    The best layer's would be chosen on what it is measured on.
    """
    values: dict[str, float | None] = {}
    for name in (*PROBES, *(f"{probe}_shuffled" for probe in PROBES)) if found else ():
        areas = [layer["auc"]["value"] for layer in found["all"][name].values()]
        known = [area for area in areas if area is not None]
        values[f"probes/{name}/auc"] = float(np.mean(known)) if known else None
    return values


def section(summary: Mapping[str, Any], records: Sequence[Record]) -> list[Block]:
    """The inside of the page's section: accuracy and area under the curve by layer."""
    shown = [
        charts.probes(f"Adversarial or faithful: {title}", summary["all"], measure)
        for measure, title in (charts.MEASURES.items() if summary else ())
    ]
    return [drawn(shown)]
