"""Counterfactual twins: two rows of a file that ask one question of clips which differ in one sense.

row p   {"id": "p", "video": a, "audio": a, "meta": {"twin": "q"}}
row q   {"id": "q", "video": a, "audio": b, "meta": {"twin": "p"}}     answered by what is known of b
"""

from collections.abc import Sequence

from rlcomm.data.sample import Sample
from rlcomm.utils.errors import UserError


def twin_of(sample: Sample) -> str | None:
    """The id of the row's twin, as its `meta` names it."""
    named = sample.meta.get("twin")
    return None if named is None else str(named)  # ids that are numbers are read as text too


def check_twins(samples: Sequence[Sample], path: str) -> None:
    """Whether every twin that a row names is another row of the file that names it back.

    Args:
        samples: all rows of the file.
        path: of the file, for the sentence.

    Raises:
        UserError: the first one that is not.
    """
    rows = {sample.id: sample for sample in samples}
    for number, sample in enumerate(samples, 1):
        named = twin_of(sample)
        if named is not None and (wrong := _wrong(sample, named, rows)):
            raise UserError(
                f"{path}, row {number}, field meta.twin: {wrong}; name two rows of one question each other's "
                "twin, or leave the field out."
            )


def twin_rows(samples: Sequence[Sample]) -> dict[int, int]:
    """Row -> row of its twin, both ways; a row whose twin is not among these (left out, cut off) has none."""
    rows = {sample.id: row for row, sample in enumerate(samples)}
    named = ((row, twin_of(sample)) for row, sample in enumerate(samples))
    return {row: rows[twin] for row, twin in named if twin is not None and twin in rows}


def _wrong(sample: Sample, named: str, rows: dict[str, Sample]) -> str | None:
    """What is wrong with a row's twin, None where nothing is."""
    if named == sample.id:
        return f"is the row's own id {named!r}, so nothing would differ"
    if named not in rows:
        return f"is {named!r}, but the file has no row of that id"
    if (back := twin_of(rows[named])) != sample.id:
        return f"is {named!r}, but the twin of that row is {back!r} and not {sample.id!r}"
    if rows[named].question != sample.question:
        return f"is {named!r}, but that row asks another question"
    return None
