"""Activation patching: what the branch without the distractor computed, put into the joint branch.

    reference --(activations of one layer, component and position group)--> joint --> margin

    recovery = (patched - joint) / (reference - joint)       1: the evidence counts again; 0: nothing changed

Where recovery begins, the evidence was overruled. Two cells are known before anything is measured. A segment
that stands before the first difference of the branches has the same activations in both: its recovery is 0.
And at the answer positions the residual of the last layer is all that is read from: its recovery is 1.

Source: "Beyond Text Following" (arXiv 2606.05161), activation patching and its Spearman correlation.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rlcomm.diagnostics.hooks import COMPONENTS, Activations, Patch
from rlcomm.diagnostics.items import Item, Pairs, Record
from rlcomm.diagnostics.reading import Reading
from rlcomm.diagnostics.resample import spearman
from rlcomm.diagnostics.segments import GROUPS, RULES, Pairing, pairings, segments
from rlcomm.evaluation import metrics
from rlcomm.evaluation.margins import is_flip as flips_sign
from rlcomm.evaluation.runner import inference
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports.charts import drawn
from rlcomm.reports.page import Block

Map = dict[str, dict[str, list[float]]]  # component -> group -> by layer
Forward = Callable[[Sequence[Sequence[Patch]], int], list[float]]

MIN_GAP = 0.1  # nats between the branches' margins: below it there is nothing to recover
CONDITIONS = ("adversarial", "")  # where a distractor may mislead
TITLES = {"residual": "Residual stream", "attention": "Attention output", "mlp": "MLP output"}


def measure(
    policy: Any,
    items: Sequence[Item],
    pairs: Pairs | None = None,
    batch_size: int = 16,
    seed: int = 0,
    conditions: Collection[str] = CONDITIONS,
) -> list[Record]:
    """Patches every layer, component and group of the items in conflict.

    Args:
        policy: of `omni.policy.load_policy`; any decoder it accepts.
        items: what is diagnosed.
        pairs: gives the prompts; None: decoded with the defaults.
        batch_size: patches a forward.
        seed: nothing is drawn here; every part takes one.
        conditions: items of other conditions are not patched.

    Returns:
        Per item its fields and `margins` {"joint", "reference"} (`Item.margin`, nats), `rules` {group: how
        its places are paired, see `segments`}, `lengths` {group: [joint, reference]} and `patched`
        {component: {group: [margin, by layer]}}; all None where the item was not asked for. `patched` alone
        is None where the branches' margins differ by less than `MIN_GAP`.
    """
    pairs = pairs or Pairs(policy)
    with inference(policy.model):
        return [
            _measure(policy, item, pairs, batch_size)
            if item.condition in conditions
            else {**item.fields(), "margins": None, "rules": None, "lengths": None, "patched": None}
            for item in items
        ]


def _measure(policy: Any, item: Item, pairs: Pairs, rows: int) -> Record:
    processor = policy.processor
    prompts = pairs(item)
    joint = Reading(policy.model, processor.tokenizer, prompts[0], item.labels)
    reference = Reading(policy.model, processor.tokenizer, prompts[1], item.labels, known=joint)
    margins = {
        "joint": item.margin(joint.scores),
        "reference": item.margin(reference.scores),
    }
    here = segments(processor, prompts[0], prompts[1], joint.length - len(prompts[0]))
    there = segments(processor, prompts[1], prompts[0], reference.length - len(prompts[1]))
    pairs_of = pairings(here, there)
    patched: Map | None = None
    if abs(margins["reference"] - margins["joint"]) >= MIN_GAP:

        def forward(patches: Sequence[Sequence[Patch]], start: int) -> list[float]:
            return [item.margin(scores) for scores in joint.rescored(patches, start)]

        patched = sweep(
            forward, pairs_of, reference.activations, margins["joint"], reference.shared, rows=rows
        )
    return {
        **item.fields(),
        "margins": margins,
        "rules": {group: pairing.rule for group, pairing in pairs_of.items()},
        "lengths": {group: [len(at), len(there.get(group, ()))] for group, at in here.items()},
        "patched": patched,
    }


def sweep(
    forward: Forward,
    places: Mapping[str, Pairing],
    reference: Activations,
    unpatched: float,
    shared: int = 0,
    rows: int = 16,
) -> Map:
    """The margin under every patch: each component, each group, each layer.

    Args:
        forward: the patches of R rows and the first place among them to R margins.
        places: of `segments.pairings`.
        reference: the reference's activations, (component, layer) -> (T, H).
        unpatched: the joint margin.
        shared: so many first places have the same activations in both branches and are not patched.
        rows: patches a forward.

    Returns:
        component -> group -> margins by layer. A group that lies in the shared places has `unpatched`
        everywhere: nothing would change.
    """
    layers = 1 + max(layer for _, layer in reference)
    found: Map = {component: {} for component in COMPONENTS}
    for group, pairing in places.items():
        new = pairing.at >= shared
        if not new.any():
            for component in COMPONENTS:
                found[component][group] = [unpatched] * layers
            continue
        at = pairing.at[new]
        wanted = [(component, layer) for component in COMPONENTS for layer in range(layers)]
        margins: list[float] = []
        for first in range(0, len(wanted), rows):
            patches = [
                [Patch(*key, at, pairing.values(reference[key])[new.to(reference[key].device)])]
                for key in wanted[first : first + rows]
            ]
            margins += forward(patches, int(at.min()))
        for (component, _), value in zip(wanted, margins, strict=True):
            found[component].setdefault(group, []).append(value)
    return found


def recovery(patched: float, joint: float, reference: float) -> float | None:
    """(patched - joint) / (reference - joint); None where the branches differ by less than `MIN_GAP`."""
    gap = reference - joint
    return None if abs(gap) < MIN_GAP else (patched - joint) / gap


# ---------------------------------------------------------------- what the records say


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Recovery and correlation by what was left out.

    Returns:
        {distractor: {
            "patched": share of the asked items whose branches differ by `MIN_GAP`,
            "flips": share of the asked items with reference > 0 > joint,
            "recovery", "recovery_flips": {component: {group: {layer: metric}}} over the patched items, and
                over the sign flips among them,
            "groups": {group: recovery of the residual, mean over the layers but the last},
            "spearman": correlation over patched items of the displacement of the margin by patching the
                answer positions (residual, mean over the layers but the last) and by taking the reference
                branch,
            "spearman_layers": the same, {layer: metric}; 1 at the last by construction,
            "rules": {group: {rule: share of the asked items that have the group}},
            "tasks": {task: {"patched", "flips", "groups", "spearman"}}}}

        A recovery over items is sum |gap| x recovery / sum |gap|: an item counts as far as its branches
        differ, so that none with a small gap drowns the others. Intervals draw whole clips.
    """
    asked = [record for record in records if record["margins"] is not None]
    found: dict[str, Any] = {}
    for distractor in dict.fromkeys(record["distractor"] for record in asked):
        part = [record for record in asked if record["distractor"] == distractor]
        patched = [record for record in part if record["patched"] is not None]
        found[distractor] = {
            **_short(part),
            "recovery": _maps(patched),
            "recovery_flips": _maps([record for record in patched if is_flip(record)]),
            "spearman_layers": {str(layer): _spearman(patched, [layer]) for layer in range(_depth(patched))},
            "rules": _rules(part),
            "tasks": {
                task: _short([record for record in part if record["task"] == task])
                for task in dict.fromkeys(record["task"] for record in part)
            },
        }
    return found


def is_flip(record: Record) -> bool:
    """Right without the distractor, wrong with it (`margins.is_flip`)."""
    return flips_sign(record["margins"]["joint"], record["margins"]["reference"])


def displacements(record: Record, layers: Sequence[int] | None = None) -> tuple[float, float]:
    """How far the joint margin moves (nats) by patching the answer positions, and to the reference's.

    Args:
        record: with `patched`.
        layers: over which the first is averaged; None: all but the last, where both are the same by
            construction.
    """
    by_layer = record["patched"]["residual"]["answer"]
    layers = layers or inner(len(by_layer))
    joint = record["margins"]["joint"]
    moved = sum(by_layer[layer] for layer in layers) / len(layers) - joint
    return moved, record["margins"]["reference"] - joint


def inner(depth: int) -> range:
    """The layers but the last, or the only one."""
    return range(max(1, depth - 1))


def _depth(records: Sequence[Record]) -> int:
    return len(records[0]["patched"]["residual"]["answer"]) if records else 0


def _short(records: Sequence[Record]) -> dict[str, Any]:
    """What is told of each task as well."""
    clips = [record["source"] for record in records]
    patched = [record for record in records if record["patched"] is not None]
    layers = inner(_depth(patched))
    return {
        "patched": metrics.mean([record["patched"] is not None for record in records], clips),
        "flips": metrics.mean([is_flip(record) for record in records], clips),
        "groups": {
            group: _recovered(patched, "residual", group, layers)
            for group in GROUPS
            if any(group in record["patched"]["residual"] for record in patched)
        },
        "spearman": _spearman(patched),
    }


def _maps(records: Sequence[Record]) -> dict[str, dict[str, dict[str, metrics.Metric]]]:
    return {
        component: {
            group: {str(layer): _recovered(records, component, group, [layer])
                    for layer in range(_depth(records))}
            for group in GROUPS
            if any(group in record["patched"][component] for record in records)
        }
        for component in COMPONENTS
    }  # fmt: skip


def _recovered(
    records: Sequence[Record], component: str, group: str, layers: Sequence[int]
) -> metrics.Metric:
    """sum |gap| x recovery / sum |gap| over the items that have the group, recovery a mean over layers."""
    having = [record for record in records if group in record["patched"][component]]
    moved, gaps = [], []
    for record in having:
        margins, values = record["margins"], record["patched"][component][group]
        share = sum(recovery(values[i], margins["joint"], margins["reference"]) or 0.0 for i in layers)
        gaps.append(abs(margins["reference"] - margins["joint"]))
        moved.append(gaps[-1] * share / len(layers))
    return metrics.ratio(moved, gaps, [record["source"] for record in having])


def _spearman(records: Sequence[Record], layers: Sequence[int] | None = None) -> metrics.Metric:
    both = [displacements(record, layers) for record in records]
    return spearman([a for a, _ in both], [b for _, b in both], [record["source"] for record in records])


def _rules(records: Sequence[Record]) -> dict[str, dict[str, metrics.Metric]]:
    found = {}
    for group in GROUPS:
        having = [record for record in records if group in record["rules"]]
        clips = [record["source"] for record in having]
        shares = {
            rule: metrics.mean([record["rules"][group] == rule for record in having], clips)
            for rule in (*RULES, "mixed")
        }
        if having:
            found[group] = {rule: share for rule, share in shares.items() if share["value"]}
    return found


def scalars(found: Mapping[str, Any]) -> dict[str, float | None]:
    """What is logged during training: recovery by group and the correlation, by what was left out."""
    values: dict[str, float | None] = {}
    for distractor, part in found.items():
        shares = {**part["groups"], "spearman": part["spearman"]}
        values |= {f"patching/no_{distractor}/{name}": one["value"] for name, one in shares.items()}
    return values


def section(summary: Mapping[str, Any], records: Sequence[Record]) -> list[Block]:
    """By what was left out: heat maps by component, and displacement against displacement."""
    shown = []
    for distractor, found in summary.items():
        patched = [r for r in records if r["distractor"] == distractor and r["patched"] is not None]
        if not patched:
            continue
        flips = [record for record in patched if is_flip(record)]
        key, what = ("recovery_flips", "sign flips") if flips else ("recovery", "items")
        told = f"{distractor} left out: recovery of {len(flips or patched)} {what}"
        for component in COMPONENTS:
            caption = f"{TITLES[component]}, {told}"
            shown.append(charts.heat_map(caption, found[key][component], found["rules"]))
        caption = f"Margin moved by patching and by the branch, {distractor} left out"
        points = [displacements(record) for record in patched]
        shown.append(charts.displacements(caption, points, found["spearman"]))
    return [drawn(shown)]
