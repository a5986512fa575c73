"""A user's own benchmark, described by a small YAML file:

    name: birds                  # its key in results.json
    file: birds.jsonl            # JSON list or JSON Lines; paths start at the folder of this YAML
    media_dir: clips             # default: the folder of this YAML
    fields:                      # ours: theirs; a field that is not named here is read under our name
      question: text
      answer: label
      audio: wav
    candidates: [robin, wren]    # or `answers`: the different gold answers of the file; default: none
    metric: accuracy             # or `yes_no`: also the yes-rate, and the accuracy on gold yes and gold no

Fields of a row: `question`, `answer` and at least one of `video` and `audio`; where it has them also `id`,
`options` (multiple choice, shown to the model), `candidates` (the labels of this row, not shown; they come
before those of the file), `type` (accuracy per type), and for text that contradicts the sound `condition`
(neutral, faithful, adversarial, irrelevant), `pair`, `text_answer` and `without_text`
(rlcomm.evaluation.benchmarks.common).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn, read_text, report
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record
from rlcomm.utils.errors import UserError

METRICS = ("accuracy", "yes_no")
_KEYS = ("name", "file", "media_dir", "fields", "candidates", "metric")
_LINKS = ("pair", "text_answer", "without_text")
_MEDIA = ("video", "audio")
_FIELDS = ("id", "question", "answer", *_MEDIA, "options", "candidates", "type", "condition", *_LINKS)


@dataclass(frozen=True)
class Description:
    """The content of a YAML file, checked.

    Attributes:
        name: key of the benchmark in results.json.
        file: the rows.
        media_dir: folder that their media paths start at.
        fields: our field -> theirs, all of them.
        candidates: labels of every item, or "answers"; empty: none but an item's own.
        metric: one of `METRICS`.
    """

    name: str
    file: Path
    media_dir: Path
    fields: dict[str, str]
    candidates: tuple[str, ...] | str
    metric: str


def describe(path: str | os.PathLike) -> Description:
    """Reads the YAML file.

    Raises:
        UserError: it is not YAML, or its wrong fields, all in one message.
    """
    try:
        row = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}: must be a mapping of {', '.join(_KEYS)}.")
    problems = [
        f"field '{key}': is unknown, the fields are {', '.join(_KEYS)}" for key in row if key not in _KEYS
    ]
    problems += [
        f"field '{key}': must be text, this is {row.get(key)!r}"
        for key in ("name", "file")
        if not isinstance(row.get(key), str) or not row[key].strip()
    ]
    name = str(row.get("name"))
    if common.slug(name) != name:
        problems.append(f"field 'name': must be lower case letters, digits and _, this is {name!r}")
    metric = row.get("metric", "accuracy")
    if metric not in METRICS:
        problems.append(f"field 'metric': must be one of {', '.join(METRICS)}, this is {metric!r}")
    fields = row.get("fields") or {}
    if not isinstance(fields, dict) or not all(isinstance(theirs, str) for theirs in fields.values()):
        problems.append("field 'fields': must map our field names to those of the file")
        fields = {}
    problems += [
        f"field 'fields.{ours}': is no field of ours, those are {', '.join(_FIELDS)}"
        for ours in fields
        if ours not in _FIELDS
    ]
    labels = row.get("candidates", common.YES_NO if metric == "yes_no" else ())
    if isinstance(labels, (list, tuple)):
        # YAML reads a bare yes or no as true or false
        labels = tuple({True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v) for v in labels)
        if len(labels) == 1 or len(set(labels)) < len(labels):
            problems.append(f"field 'candidates': must be two different labels or more, these are {labels}")
    elif labels != "answers":
        problems.append(f"field 'candidates': must be a list of labels or answers, this is {labels!r}")
    if metric == "yes_no" and labels != "answers" and set(labels) != set(common.YES_NO):
        problems.append("field 'candidates': must be yes and no for the metric yes_no")
    folder = Path(path).parent
    media_dir = folder / str(row.get("media_dir") or "")
    if problems:
        raise UserError(report(path, problems))
    return Description(
        name, folder / row["file"], media_dir, {f: fields.get(f, f) for f in _FIELDS}, labels, metric
    )


def read(path: str | os.PathLike) -> list[Sample]:
    """Reads the set that the YAML file at `path` describes.

    Returns:
        Samples with `meta["metric"]`; the gold answer is spelled as one of the candidates.

    Raises:
        UserError: `describe`; or every wrong row and missing file, by row and (their) field, in one message.
    """
    description = describe(path)
    names, find = description.fields, Finder(description.media_dir)
    fixed = description.candidates if isinstance(description.candidates, tuple) else ()

    def read_row(row: dict, wrong: Wrong) -> Sample:
        question = wrong.text(row, names["question"])
        own = _own_candidates(row, description, wrong)
        options: tuple[str, ...] = ()
        if row.get(names["options"]):
            answer, options = common.choices(row, names["options"], names["answer"], wrong)
        elif description.metric == "yes_no":
            answer = common.gold_yes_no(row, names["answer"], wrong)
        else:
            answer = wrong.text(row, names["answer"])
            allowed = own or fixed
            if answer and allowed and not common.named(answer, allowed):
                wrong(names["answer"], f"{answer!r} is none of the candidates {', '.join(allowed)}")
        media = {
            sense: find(wrong.text(row, names[sense]), names[sense], wrong)
            for sense in _MEDIA
            if row.get(names[sense])
        }
        if not media:
            wrong(names["audio"], f"is missing, and so is '{names['video']}': an item needs one of them")
        condition = row.get(names["condition"])
        if condition is not None and condition not in common.CONDITIONS:
            wrong(names["condition"], f"{condition!r} is none of {', '.join(common.CONDITIONS)}")
        kind = str(row.get(names["type"]) or "")
        meta: dict[str, Any] = {
            "video_id": common.clip_name(media.get("video") or media.get("audio")),
            "metric": description.metric,
            "condition": condition,
            "groups": {"type": kind},
            **({"candidates": own} if own else {}),
            **{key: str(row[names[key]]) for key in _LINKS if row.get(names[key]) is not None},
        }
        identity = row.get(names["id"])
        return Sample(
            str(identity) if identity is not None else f"{description.name}-{wrong.row}",
            (Turn(question, answer, options, type=kind),),
            media.get("video"),
            media.get("audio"),
            meta=meta,
        )

    samples = common.read_whole(description.file, read_row)
    labels = fixed or (
        common.label_set(sample.answer for sample in samples) if description.candidates == "answers" else ()
    )
    found = []
    for sample in samples:
        given = sample.meta.get("candidates") or labels
        found.append(common.with_candidates(sample, given) if given and not sample.options else sample)
    return found


def _own_candidates(row: dict, description: Description, wrong: Wrong) -> tuple[str, ...]:
    """The row's own labels; () where it has none."""
    field, options = description.fields["candidates"], description.fields["options"]
    if not row.get(field):
        return ()
    labels = tuple(str(label) for label in wrong.listed(row, field))
    if labels and len(set(labels)) < max(2, len(labels)):
        wrong(field, f"must be two different labels or more, these are {labels}")
    elif labels and description.metric == "yes_no" and set(labels) != set(common.YES_NO):
        wrong(field, "must be yes and no for the metric yes_no")
    if row.get(options):
        wrong(
            field, f"and '{options}' are both given; an item has labels that are shown or labels that are not"
        )
    return labels


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`), and the `metric` of its set."""
    return {**common.score(sample, reading), "metric": sample.meta["metric"]}


def score_metrics(records: Sequence[Record], name: str) -> dict[str, Metric]:
    """Metrics of the set called `name`: `acc`, `unparsed`, `acc_<condition>`, `acc_<type>`.

    With the metric yes_no also `yes_rate`, `pa` (accuracy on gold yes) and `hr` (on gold no).
    """
    part = common.of(records, name)
    found = common.accuracies(part)
    if part and part[0]["metric"] == "yes_no":
        found["yes_rate"] = metrics.yes_rate([r["class"] for r in part], common.clips(part))
        found.update(common.perception(part))
    return found
