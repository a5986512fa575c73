"""Warm-up rows for clips that have none (`rlcomm reference --for warmup`; METHOD: about 100 rows).

    a-think: the reference model, from the sound alone    v-think: `see`, from the picture alone
    answer:  the gold answer                              target:  steps.build of the three

No public set has the two reasoning segments. Written by machine, the rows cost little, so their number and
their mix are ours to choose (`rlcomm.reference.mix`): exchanged clips among them, no question type too rare,
answers balanced, and rows that are asked for the answer alone replayed beside them.
"""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm import steps
from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.sample import Sample, read_jsonl, write_jsonl
from rlcomm.reference import mix
from rlcomm.reference.prompts import speaks_of_sight
from rlcomm.reference.rows import check_ids, write_references
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
    only for what changed and for what failed. The mix, where one is asked for, is counted in
    `<output without suffix>.mix.json`; a row that is taken twice has the id `<id>#2` the second time.

    Args:
        samples: rows with sound and picture.
        recipe: of the reference; `output` is the file of warm-up rows.
        see: the witness of the pictures; called by the first process alone, the reference model being freed.
        options: those of `write_references`.

    Returns:
        The report of `write_references`, and "written", "replayed", "mix" (`mix.described`, or None),
        "rejected": [{"id", "reason", "a_think", "v_think"}]; None on all processes but the first.

    Raises:
        UserError: as `write_references`; more rows failed than `max_failed_share` allows; a mix that cannot
            be made of these rows.
    """
    out_path = Path(recipe.output)
    strange = read_jsonl(recipe.counterfactual) if recipe.counterfactual else []
    pool, exchanged = [*samples, *strange], {sample.id for sample in strange}
    check_ids(pool)
    replayed = _replayed(pool, recipe)
    total = recipe.warmup_rows - len(replayed) if recipe.warmup_rows else len(pool)
    taken = _taken(pool, exchanged, total, recipe)
    chosen = [sample for sample in pool if taken[sample.id]]

    heard_path = out_path.with_name(out_path.stem + ".heard.jsonl")
    beside = dataclasses.replace(recipe, output=str(heard_path))
    kept = sights(heard_path)
    report = write_references(chosen, beside, accept=lambda text: speaks_of_sight(text) is None, **options)
    if report is None:
        return None
    write_sights(heard_path, see, beside, kept)
    rows, rejected = _sorted_out(read_jsonl(heard_path))
    _check_rejected(rows, rejected, len(chosen), recipe)
    mixed = None
    if _mixes(recipe):
        if rejected:  # what is left has another mix
            taken = _taken(rows, exchanged, min(total, mix.MOST_COPIES * len(rows)), recipe)
        mixed = mix.described(rows, [taken[row.id] for row in rows])
        mixed["exchanged"] = sum(taken[row.id] for row in rows if row.id in exchanged)
        mixed["replayed"] = len(replayed)
        files.write_json(out_path.with_name(out_path.stem + ".mix.json"), mixed)
        rows = [mix.again(row, n) for row in rows for n in range(1, taken[row.id] + 1)] + replayed
        random.Random(recipe.seed).shuffle(rows)
    write_jsonl(out_path, rows)
    written = {"written": len(rows), "replayed": len(replayed), "mix": mixed}
    return {**report, **written, "rejected": rejected, "out": str(out_path)}


def _check_rejected(
    rows: Sequence[Sample], rejected: Sequence[dict[str, Any]], asked: int, recipe: ReferenceRecipe
) -> None:
    """Lists the rows that have no target, and raises a UserError where these are too many."""
    out_path = Path(recipe.output)
    listed = out_path.with_name(out_path.stem + ".rejected.jsonl")
    files.write_jsonl(listed, rejected)
    if not rows or len(rejected) > recipe.max_failed_share * asked:
        raise UserError(
            f"{out_path}: {len(rejected)} of {asked} rows gave no warm-up row, more than "
            f"max_failed_share {recipe.max_failed_share:g} (first reason: {rejected[0]['reason']}; all are "
            f"in {listed.name}); run the same command again, which asks for these anew, name another "
            "reference model, or raise max_failed_share."
        )


def _mixes(recipe: ReferenceRecipe) -> bool:
    """Whether the rows are to be mixed, rather than taken once each in their order."""
    return bool(
        recipe.warmup_rows
        or recipe.min_type_share
        or recipe.balance_answers
        or recipe.counterfactual
        or recipe.replay_share
    )


def _taken(
    samples: Sequence[Sample], exchanged: set[str], total: int, recipe: ReferenceRecipe
) -> dict[str, int]:
    """How often each row is taken, by its id."""
    if not _mixes(recipe):
        return {sample.id: 1 for sample in samples}
    counts = mix.copies(
        samples, total, exchanged=[sample.id in exchanged for sample in samples],
        exchanged_share=recipe.counterfactual_share, min_type_share=recipe.min_type_share,
        balance_answers=recipe.balance_answers, seed=recipe.seed,
    )  # fmt: skip
    return {sample.id: times for sample, times in zip(samples, counts, strict=True)}


def _replayed(pool: Sequence[Sample], recipe: ReferenceRecipe) -> list[Sample]:
    """The rows that are asked for the answer alone; no reasoning is made for them."""
    share = recipe.replay_share
    if not share:
        return []
    rows = [row for path in recipe.replay for row in read_jsonl(path)] or list(pool)
    total = round(share * recipe.warmup_rows if recipe.warmup_rows else share / (1 - share) * len(pool))
    counts = mix.copies(
        rows, total, min_type_share=recipe.min_type_share, balance_answers=recipe.balance_answers,
        seed=recipe.seed + 1,
    )  # fmt: skip
    return [
        dataclasses.replace(
            mix.again(row, number), id=f"direct-{mix.again(row, number).id}", reference=None, sight=None,
            turns=tuple(dataclasses.replace(turn, target=None) for turn in row.turns),
            meta={**row.meta, "prompt_style": "direct"},
        )
        for row, times in zip(rows, counts, strict=True) for number in range(1, times + 1)
    ]  # fmt: skip


def _sorted_out(samples: Sequence[Sample]) -> tuple[list[Sample], list[dict[str, Any]]]:
    """The rows with their targets; and those that have none, each with the reason."""
    rows, rejected = [], []
    for sample in samples:
        target, reason = _target(sample)
        if reason:
            a_think = sample.reference or _heard(sample)
            rejected.append({"id": sample.id, "reason": reason, "a_think": a_think, "v_think": sample.sight})
        else:
            turns = (dataclasses.replace(sample.turns[0], target=target), *sample.turns[1:])
            rows.append(dataclasses.replace(sample, turns=turns))
    return rows, rejected


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
