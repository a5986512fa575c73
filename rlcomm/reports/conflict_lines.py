"""What the tables of decoders under conflict show: a line a decoder, a block a benchmark or a mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcomm.data.controls import FULL
from rlcomm.evaluation import catalog
from rlcomm.evaluation.metrics import Metric
from rlcomm.reports import conflict_charts as charts
from rlcomm.reports.tables import Column

COLUMNS = (
    Column("conflict_acc", ("confl.", "acc"), "Conflict accuracy"),
    Column("aligned_acc", ("aligned", "acc"), "Aligned accuracy", ""),  # a price with a budget, not a goal
    Column("conflict_gain", ("confl.", "gain"), "Conflict gain"),
    Column("faithful_drop", ("faithf.", "drop"), "Faithful drop", ""),  # the same price
    Column("nauc_5", ("nAUC", "@0-5"), charts.NAUC_5),
    Column("nauc_10", ("nAUC", "@0-10"), charts.NAUC_10),
    Column(
        "sign_flip_rate", ("sign", "flips"), "Sign flips", ""
    ),  # of the model: with the joint answer alone
    Column("ece", ("", "ECE"), "ECE", "low"),
)
NOT_APPLIED = "does not apply"  # no item has the branches that the decoder reads
HEADLINES = ("acc", "a_acc", "v_acc")  # of a benchmark without conflict


@dataclass(frozen=True)
class Line:
    """One decoder in a table of a conflict benchmark, or of the mean over several.

    Attributes:
        decoder: its name.
        metrics: by name.
        settings: chosen, in words; "infeasible" where none keeps within the budget.
        tried: number of settings behind its nAUC; None where it differs by benchmark.
        lacking: number of the table's benchmarks that it does not apply to.
    """

    decoder: str
    metrics: Mapping[str, Metric]
    settings: str
    tried: int | None
    lacking: int = 0

    def value(self, name: str) -> float | None:
        return (self.metrics.get(name) or {}).get("value")


@dataclass(frozen=True)
class Block:
    """One table: of a conflict benchmark, or of the mean over several (`keys`)."""

    title: str
    keys: Sequence[str]
    lines: Sequence[Line]


def conflict_keys(results: Mapping[str, Any]) -> list[str]:
    """The benchmarks with conflicting and agreeing items, where decoders are measured against each other."""
    return [key for key in _keys(results) if any("nauc_5" in m for m in metrics_of(results, key).values())]


def other_keys(results: Mapping[str, Any]) -> list[str]:
    conflict = conflict_keys(results)
    return [key for key in _keys(results) if key not in conflict]


def models(results: Mapping[str, Any]) -> list[str]:
    """The lines that are other models (`beside.add`), in their order."""
    return [name for name, found in results["decoders"].items() if "model" in found["settings"]]


def _keys(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for found in results["decoders"].values() for key in found["benchmarks"]))


def metrics_of(results: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Metric]]:
    """Decoder -> its metrics of a benchmark, which may be none."""
    return {name: found["benchmarks"].get(key) or {} for name, found in results["decoders"].items()}


def names_of(results: Mapping[str, Any], key: str) -> list[str]:
    """The metrics that some decoder has of a benchmark."""
    return list(dict.fromkeys(name for metrics in metrics_of(results, key).values() for name in metrics))


def headlines(results: Mapping[str, Any], key: str) -> list[str]:
    """The metrics that stand for a benchmark: its accuracy, or its scores, or whatever it has first."""
    names = names_of(results, key)
    if "acc" in names:
        return ["acc"]
    return [name for name in HEADLINES if name in names] or names[:1]


def column(name: str) -> Column:
    """How any metric of a benchmark is shown."""
    for known in COLUMNS:
        if known.name == name:
            return known
    ratio = name in ("a_acc", "v_acc", "mrs") or name.startswith("norm_acc")
    better = "high" if ratio or name.startswith("acc") or name == "evidence_conflict_acc" else ""
    words = "accuracy" if name == "acc" else name.replace("_", " ")
    for short, full in (("acc", "accuracy"), ("mean confidence", "mean confidence")):
        if words.startswith(f"{short} "):
            words = f"{full}, {words.removeprefix(short).lstrip()}"
    return Column(name, (name, ""), words[:1].upper() + words[1:], better, 1 if ratio else 100)


# ---------------------------------------------------------------- decoders side by side


def blocks(results: Mapping[str, Any]) -> list[Block]:
    """Each conflict benchmark; then the mean over those of a group (`mcr`), over all, and over those that a
    decoder applies to where these are several and not all: of every decoder, so that like stands by like."""
    keys, names = conflict_keys(results), list(results["decoders"])
    found = [Block(key, [key], [_line(results, name, key) for name in names]) for key in keys]
    groups = {name: list(members) for name, members in catalog.GROUPS.items() if set(members) <= set(keys)}
    if len(keys) > 1 and not any(set(keys) == set(members) for members in groups.values()):
        groups["all"] = keys
    for group, part in groups.items():
        title = f"{group}, macro mean of {len(part)} benchmarks"
        found.append(Block(title, part, [_macro(results, name, group, part) for name in names]))
    for some, able in _parts(results, keys, names).items():
        if any(set(some) == set(members) for members in groups.values()):
            continue  # stands there already
        who = f"{', '.join(map(charts.title, able))} {'apply' if len(able) > 1 else 'applies'}"
        title = f"where {who}, macro mean of {len(some)} of {len(keys)} benchmarks: {', '.join(some)}"
        lines = [_macro(results, name, catalog.group_name(some), some) for name in names]
        found.append(Block(title, some, lines))
    return found


def _parts(
    results: Mapping[str, Any], keys: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, ...], list[str]]:
    """Benchmarks, several and not all -> the decoders that apply to these alone."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        part = tuple(key for key in keys if not _line(results, name, key).lacking)
        if 1 < len(part) < len(keys):
            found.setdefault(part, []).append(name)
    return found


def _line(results: Mapping[str, Any], decoder: str, key: str) -> Line:
    found = results["decoders"][decoder]
    chosen = found["chosen"].get(key) or {"settings": {}, "tried": 1}
    tried = max(len(found["grid"].get(key) or ()), chosen["tried"])
    lacking = int(not chosen.get("applies", True))
    words = NOT_APPLIED if lacking else charts.settings_words(chosen["settings"])
    return Line(decoder, found["benchmarks"].get(key) or {}, words, tried, lacking)


def _macro(results: Mapping[str, Any], decoder: str, group: str, keys: Sequence[str]) -> Line:
    """Means over benchmarks of equal weight; none of a metric that one of them lacks.

    With their intervals where the results hold them (`macro`), else the plain means.
    """
    lines = [_line(results, decoder, key) for key in keys]
    metrics: dict[str, Metric] = {}
    for each in COLUMNS:
        values = [value for line in lines if (value := line.value(each.name)) is not None]
        if len(values) == len(lines):
            metrics[each.name] = {"value": sum(values) / len(values), "n": len(values), "ci95": None}
    metrics.update((results["decoders"][decoder].get("macro") or {}).get(group) or {})
    lacking = sum(line.lacking for line in lines)
    without = sum(line.settings == charts.INFEASIBLE for line in lines)
    words = [f"applies to {len(keys) - lacking} of {len(keys)}"] if lacking else []
    words = [NOT_APPLIED] if lacking == len(keys) else words
    words += [f"{charts.INFEASIBLE} on {without} of {len(keys)}"] if without else []
    tried = {line.tried for line in lines}
    return Line(decoder, metrics, "; ".join(words), tried.pop() if len(tried) == 1 else None, lacking)


# ---------------------------------------------------------------- blind controls


@dataclass(frozen=True)
class Blind:
    """A benchmark that was also asked without a sense (`results["conditions"]`).

    Attributes:
        key: of the benchmark.
        conditions: asked, the full one first -> metrics.
        names: the metrics of the full answers that some control has too.
    """

    key: str
    conditions: Mapping[str, Mapping[str, Metric]]
    names: Sequence[str]


def blind(results: Mapping[str, Any]) -> list[Blind]:
    """The benchmarks with a control beside the full answers."""
    found: dict[str, dict[str, Mapping[str, Metric]]] = {}
    for condition, benchmarks in (results.get("conditions") or {}).items():
        for key, metrics in benchmarks.items():
            found.setdefault(key, {})[condition] = metrics
    return [
        Blind(key, asked, [name for name in asked[FULL] if any(name in asked[c] for c in asked if c != FULL)])
        for key, asked in found.items()
        if len(asked) > 1
    ]
