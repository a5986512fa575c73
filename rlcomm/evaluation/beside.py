"""Other models beside the decoders of one: their plain answers to the same items, against its joint answer.

    rlcomm eval R --model_name_or_path TUNED --output_dir FOLDER      its own results.json and records.jsonl
    rlcomm eval R --beside tuned=FOLDER                               ... as the line "tuned" of this one's

So what training wins and costs stands beside what decoding and prompts do: one baseline, the same items, the
same tables and charts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcomm.decoding.decoders import READS
from rlcomm.evaluation import repair
from rlcomm.evaluation.answers import EVIDENCE
from rlcomm.evaluation.catalog import ALIGNED, CONFLICT, Set
from rlcomm.evaluation.records import GENERATED, LABEL_SCORED, Answers, Record, marked, read_records
from rlcomm.evaluation.sides import Sides, against_joint, flips, macros
from rlcomm.utils.errors import UserError

GREEDY = "greedy"  # of which model ever: its plain joint answer


@dataclass(frozen=True)
class Other:
    """One evaluation that stands beside another.

    Attributes:
        name: of its line.
        model: its path.
        greedy: its `results["decoders"]["greedy"]`.
        records: (set, id) -> its final record.
    """

    name: str
    model: str
    greedy: Mapping[str, Any]
    records: Mapping[tuple[str, str], Record]


def load(named: Sequence[str], sets: Sequence[Set], dev_share: float) -> list[Other]:
    """Reads finished evaluations, before any model is loaded.

    Args:
        named: "name=folder", the folders of `rlcomm eval --benchmarks ...`.
        sets: what is evaluated now; each of its items must be there.
        dev_share: of the plan; the same clips must have been set apart.

    Raises:
        UserError: a name that is a decoder's or stands twice, a folder without such an evaluation, or one of
            other items.
    """
    found: dict[str, Other] = {}
    for item in named:
        name, _, folder = item.partition("=")
        if name in READS or name in found:
            why = "a decoder's name" if name in READS else "there twice"
            raise UserError(f"beside has {item!r}, whose name is {why}; give this model a name of its own.")
        found[name] = _read(name, Path(folder))
        _check(found[name], folder, sets, dev_share)
    return list(found.values())


def _read(name: str, folder: Path) -> Other:
    places = folder / "results.json", folder / "records.jsonl"
    entry: Mapping[str, Any] = {}
    if all(place.is_file() for place in places):
        results = json.loads(places[0].read_text(encoding="utf-8"))
        entry = results["decoders"].get(GREEDY, {})
    if "chosen" not in entry:
        raise UserError(
            f"beside has {name}={folder}, which holds no finished evaluation on conflict benchmarks; give "
            "the output_dir of `rlcomm eval` with benchmarks."
        )
    records = {(record["set"], record["id"]): record for record in read_records(places[1])}
    return Other(name, results["model"], entry, records)


def _check(other: Other, folder: str, sets: Sequence[Set], dev_share: float) -> None:
    """Whether an evaluation asked the same questions and set the same clips apart."""
    same = "evaluate it on the same eval_data, benchmarks, eval_max_rows and dev_share"
    if (share := other.greedy["settings"]["dev_share"]) != dev_share:
        raise UserError(
            f"beside has {other.name}={folder}, where dev_share was {share:g} and here it is {dev_share:g}, "
            f"so other items are counted; {same}."
        )
    for one in sets:
        for sample in one.samples:
            record = other.records.get((one.key, sample.id))
            if record is None or (record["question"], record["gold"]) != (sample.question, sample.answer):
                raise UserError(
                    f"beside has {other.name}={folder}, which did not ask item {sample.id} of {one.key} in "
                    f"these words; {same}."
                )


def add(
    results: Mapping[str, Any], records: Sequence[Record], others: Sequence[Other]
) -> tuple[dict[str, Any], list[Record]]:
    """The results and records of an evaluation (`tuning.count`) with a line and an answer more of each other.

    Its metrics are its own; gain, drop and nAUC are against this model's joint answer, item by item.

    Args:
        results: of this model.
        records: of this model.
        others: of `load`.
    """
    decoders = dict(results["decoders"])
    rows: list[Record] = [{**record, "decoders": dict(record["decoders"])} for record in records]
    keys = list(decoders[GREEDY]["benchmarks"])
    for other in others:
        theirs = [other.records[record["set"], record["id"]] for record in records]
        for row, record in zip(rows, theirs, strict=True):
            if GREEDY in record["decoders"]:
                row["decoders"][other.name] = record["decoders"][GREEDY]
        sides: dict[str, Sides] = {}
        line: dict[str, Any] = {
            "settings": {**other.greedy["settings"], "model": other.model},
            "benchmarks": {}, "chosen": {}, "grid": {},
        }  # fmt: skip
        for key in keys:
            test = [
                (row, record)
                for row, record in zip(rows, theirs, strict=True)
                if row["set"] == key and row["split"] == "test"
            ]
            found = dict(other.greedy["benchmarks"][key])
            line["grid"][key] = []
            if {CONFLICT, ALIGNED} <= {row["condition"] for row, _ in test}:
                sides[key] = _sides(other.name, test, _answers(other, key))
                found |= sides[key].counted()
                (gain,), (drop,) = sides[key].runs.gains(), sides[key].runs.drops()
                line["grid"][key] = [{"settings": {}, "conflict_gain": gain, "faithful_drop": drop}]
            line["benchmarks"][key] = marked(found, _answers(other, key))
            line["chosen"][key] = decoders[GREEDY]["chosen"][key]
        parts = [
            [key for key in sides if "nauc_5" in (found["benchmarks"].get(key) or {})]
            for found in decoders.values()
        ]
        line["macro"] = macros(sides, list(sides), parts)
        decoders[other.name] = line
    return {**results, "decoders": decoders}, rows


def _answers(other: Other, key: str) -> Answers:
    """How another model's answers to a benchmark were obtained; older files hold scored labels."""
    kinds = {
        record["decoders"][GREEDY].get("answers", LABEL_SCORED)
        for (name, _), record in other.records.items()
        if name == key and GREEDY in record["decoders"]
    }
    return GENERATED if kinds == {GENERATED} else LABEL_SCORED


def _sides(name: str, test: Sequence[tuple[Record, Record]], answers: Answers) -> Sides:
    """One other on the conflict and aligned test items: pairs of this model's record and its own."""

    def compared(condition: str) -> tuple[list[bool], list[bool], list[str]]:
        rows = [row for row, _ in test if row["condition"] == condition]
        joint, mine = ([bool(row["decoders"][who]["correct"]) for row in rows] for who in (GREEDY, name))
        return joint, mine, [row["video_id"] for row in rows]

    conflict, aligned = compared(CONFLICT), compared(ALIGNED)
    parts = against_joint(conflict, aligned)
    asked = [r for row, r in test if row["condition"] == CONFLICT and r["scores"].get(EVIDENCE)]
    if asked:
        pairs = [(r["margins"]["joint"], r["margins"][EVIDENCE]) for r in asked]
        parts |= flips(pairs, [r["video_id"] for r in asked])
    runs = repair.Runs(conflict[0], aligned[0], [conflict[1]], [aligned[1]], conflict[2], aligned[2])
    return Sides(runs, parts, answers)
