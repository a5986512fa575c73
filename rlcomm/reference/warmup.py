"""Warm-up rows for clips that have none (`rlcomm reference --for warmup`; METHOD: about 100 rows).

    a-think: the reference model, from the sound alone    v-think: `see`, from the picture alone
    answer:  the gold answer                              target:  steps.build of the three

No public set has the two reasoning segments.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm import steps
from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.sample import Sample, read_jsonl, write_jsonl
from rlcomm.reference.prompts import speaks_of_sight
from rlcomm.reference.rows import write_references
from rlcomm.reference.sights import See, sights, write_sights
from rlcomm.utils import files
from rlcomm.utils.errors import UserError


def write_warmup(
    samples: Sequence[Sample], recipe: ReferenceRecipe, *, see: See, **options: Any
) -> dict[str, Any] | None:
    """Writes warm-up rows: samples with `target`, `reference` and `sight` filled in.

    An a-think that speaks of what is seen counts as none and is written anew, with another seed. Rows that
    lack one of the two are left out and listed with the reason in `<output without suffix>.rejected.jsonl`.
    What is heard and seen is kept beside, in `<output without suffix>.heard.jsonl`, so that a second run asks
    only for what changed and for what failed.

    Args:
        samples: rows with sound and picture.
        recipe: of the reference; `output` is the file of warm-up rows.
        see: the witness of the pictures; called by the first process alone, the reference model being freed.
        options: those of `write_references`.

    Returns:
        The report of `write_references`, and "written", "rejected": [{"id", "reason", "a_think", "v_think"}];
        None on all processes but the first.

    Raises:
        UserError: as `write_references`; more rows failed than `max_failed_share` allows.
    """
    out_path = Path(recipe.output)
    heard_path = out_path.with_name(out_path.stem + ".heard.jsonl")
    beside = dataclasses.replace(recipe, output=str(heard_path))
    kept = sights(heard_path)
    report = write_references(samples, beside, accept=lambda text: speaks_of_sight(text) is None, **options)
    if report is None:
        return None
    write_sights(heard_path, see, beside, kept)
    rows, rejected = [], []
    for sample in read_jsonl(heard_path):
        target, reason = _target(sample)
        if reason:
            a_think = sample.reference or _heard(sample)
            rejected.append({"id": sample.id, "reason": reason, "a_think": a_think, "v_think": sample.sight})
        else:
            turns = (dataclasses.replace(sample.turns[0], target=target), *sample.turns[1:])
            rows.append(dataclasses.replace(sample, turns=turns))
    listed = out_path.with_name(out_path.stem + ".rejected.jsonl")
    files.write_jsonl(listed, rejected)
    if not rows or len(rejected) > recipe.max_failed_share * len(samples):
        raise UserError(
            f"{out_path}: {len(rejected)} of {len(samples)} rows gave no warm-up row, more than "
            f"max_failed_share {recipe.max_failed_share:g} (first reason: {rejected[0]['reason']}; all are "
            f"in {listed.name}); run the same command again, which asks for these anew, name another "
            "reference model, or raise max_failed_share."
        )
    write_jsonl(out_path, rows)
    return {**report, "written": len(rows), "rejected": rejected, "out": str(out_path)}


def _target(sample: Sample) -> tuple[str, str | None]:
    """The completion that a row is to learn; or "" and why there is none."""
    if not sample.reference:
        word = speaks_of_sight(_heard(sample) or "")
        return "", f"the a-think speaks of what is seen ({word!r})" if word else "nothing readable was heard"
    if not sample.video:
        return "", "there is no picture"
    if not sample.sight:
        return "", "nothing was said of the picture"
    try:
        return steps.build(sample.reference, sample.sight, sample.answer), None
    except UserError as error:
        return "", str(error)


def _heard(sample: Sample) -> str | None:
    """The a-think of a text that would not do."""
    thought = steps.parse(sample.meta["reference"].get("failed") or "").audio
    return thought.text if thought.found else None
