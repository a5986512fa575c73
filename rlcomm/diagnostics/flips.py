"""Same-evidence counterfactuals: was the evidence missing, or heard and overruled?

    joint       everything                                   margin M_J = s(gold) - s(claimed), nats
    reference   the same without text, picture or sound      margin M_A

    right      M_J > 0, M_A > 0
    flip       M_J < 0 < M_A     reversed: the evidence alone is right, the distractor wins (repairable)
    missing    M_J < 0, M_A < 0  the evidence is not there to be repaired
    other      the rest: right because of what was left out, or a tie

Claimed is what the text that is left out says; where it is no text, or claims no label, the best other one.
With more than two labels a lead over the claim alone is no right answer: accuracies are of all labels.

Source: GACL (arXiv 2606.05161), the sign-flip diagnosis (published: 64.1 % of conflicts, macro).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.diagnostics.items import Item, Pairs, Record, label_scores, usual
from rlcomm.evaluation import metrics
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.margins import quadrant, right
from rlcomm.evaluation.metrics import Metric
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports.charts import drawn
from rlcomm.reports.conflict_charts import quadrant_plot
from rlcomm.reports.page import Block
from rlcomm.reports.tables import Column, by_name

QUADRANTS = {
    "right": ("right either way", "c4"),
    "flip": ("sign flip: repairable", "c5"),
    "missing": ("missing evidence", "c0"),
    "other": ("other", "c7"),
}
COLUMNS = (
    Column("flip", ("sign", "flips"), "Sign flips", "low"),
    Column("missing", ("missing", "evid."), "Missing evidence", "low"),
    Column("right", ("right", "both"), "Right either way"),
    Column("other", ("", "other"), "Other", ""),
    Column("acc_joint", ("acc", "joint"), "Accuracy, joint"),
    Column("acc_reference", ("acc", "evid."), "Accuracy, evidence alone"),
    Column("margin_joint", ("margin", "joint"), "Margin, joint (nats)", "", 1),
    Column("margin_shift", ("margin", "shift"), "Margin gained without it (nats)", "", 1),
)


def measure(
    policy: Any, items: Sequence[Item], *, pairs: Pairs, batch_size: int = 16, seed: int = 0
) -> list[Record]:
    """Scores and margins of both branches of every item.

    Returns:
        Per item its fields, `usual` (the distractor is the one that may mislead), `scores` and `margins` of
        `joint` and `reference`, and `quadrant`.
    """
    groups: dict[tuple, list[int]] = {}  # questions about one clip with the same labels are one forward's row
    for i, item in enumerate(items):
        groups.setdefault((item.joint.video, item.joint.audio, item.labels), []).append(i)
    asked: list[list[Any]] = []
    places: list[dict[tuple[str, str], int]] = []  # (sample, left out) -> which of the group's prompts
    for group in groups.values():
        prompts: dict[tuple[str, str], Any] = {}
        for i in group:
            joint, reference = pairs(items[i])
            prompts.setdefault((items[i].joint.id, ""), joint)
            prompts[items[i].joint.id, items[i].distractor] = reference
        asked.append(list(prompts.values()))
        places.append({name: place for place, name in enumerate(prompts)})
    scored = label_scores(policy, asked, [list(key[2]) for key in groups], batch_size)
    found: dict[int, Record] = {}
    for group, place, rows in zip(groups.values(), places, scored, strict=True):
        for i in group:
            item = items[i]
            scores = {
                "joint": rows[place[item.joint.id, ""]],
                "reference": rows[place[item.joint.id, item.distractor]],
            }
            margins = {name: item.margin(row) for name, row in scores.items()}
            found[i] = {
                **item.fields(),
                "usual": usual(item.joint) == item.distractor,
                "scores": scores,
                "margins": margins,
                "quadrant": quadrant(margins["joint"], margins["reference"]),
            }
    return [found[i] for i in range(len(items))]


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Shares of the quadrants, accuracies and mean margins by group, with intervals over clips.

    Returns:
        `{"macro": {"flip": ...}, "groups": {"<task>/<condition>/no_<distractor>": {metric: ...}}}`; macro is
        the mean over tasks of the flip rate of their items in conflict, the usual distractor left out.
        right, flip, missing, other in [0, 1] sum to 1; margin_shift = M_A - M_J in nats.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(group_of(record), []).append(record)
    conflicts: dict[str, list[Record]] = {}
    for record in records:
        if record["condition"] == CONFLICT and record["usual"]:
            conflicts.setdefault(record["task"], []).append(record)
    macro = metrics.macro_mean(
        [[r["quadrant"] == "flip" for r in part] for part in conflicts.values()],
        [[r["source"] for r in part] for part in conflicts.values()],
    )
    return {"macro": {"flip": macro}, "groups": {name: _counted(part) for name, part in groups.items()}}


def group_of(record: Record) -> str:
    return f"{record['task']}/{record['condition'] or 'all'}/no_{record['distractor']}"


def _counted(records: Sequence[Record]) -> dict[str, Metric]:
    clips = [r["source"] for r in records]
    joint = [r["margins"]["joint"] for r in records]
    reference = [r["margins"]["reference"] for r in records]
    found = {name: metrics.mean([r["quadrant"] == name for r in records], clips) for name in QUADRANTS}
    return {
        **found,
        **{
            f"acc_{name}": metrics.accuracy([right(r["scores"][name], r["gold"]) for r in records], clips)
            for name in ("joint", "reference")
        },
        "margin_joint": metrics.mean(joint, clips),
        "margin_reference": metrics.mean(reference, clips),
        "margin_shift": metrics.mean([a - j for a, j in zip(reference, joint, strict=True)], clips),
    }


def scalars(found: Mapping[str, Any]) -> dict[str, float | None]:
    """What is logged during training: of every group the flips, the missing evidence and both margins."""
    return {
        f"flips/{group}/{name}": values[name]["value"]
        for group, values in found["groups"].items()
        for name in ("flip", "missing", "margin_joint", "margin_reference")
    }


def section(found: Mapping[str, Any], records: Sequence[Record]) -> list[Block]:
    """Margins of the items in conflict task by task, quadrants of all groups, and the table."""
    shown = []
    for task in dict.fromkeys(r["task"] for r in records):
        rows = [
            {
                "condition": r["condition"],
                "decoders": {},
                "margins": {"joint": r["margins"]["joint"], "evidence": r["margins"]["reference"]},
            }
            for r in records
            if r["task"] == task and r["usual"]
        ]
        shown.append(quadrant_plot(f"{task}: items in conflict", rows, gates=False))
    shares = {
        group: {name: values[name]["value"] for name in QUADRANTS}
        for group, values in found["groups"].items()
    }
    shown.append(charts.stacked("Where the items lie", shares, QUADRANTS))
    return [drawn(shown), by_name("group", found["groups"], COLUMNS)]
