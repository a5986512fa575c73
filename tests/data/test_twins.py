"""Twins: which rows belong together, and one sentence for a pair that is none."""

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.data.twins import check_twins, twin_of, twin_rows
from rlcomm.utils.errors import UserError


def row(id: str, twin=None, question: str = "Is there a harp?") -> Sample:
    return Sample(id, (Turn(question, "yes"),), meta={} if twin is None else {"twin": twin})


def test_pairs_are_found_both_ways_and_rows_without_one_are_none():
    rows = [row("a", "c"), row("b"), row("c", "a"), row("7", "8"), row("8", 7)]
    check_twins(rows, "rows.jsonl")
    assert twin_rows(rows) == {0: 2, 2: 0, 3: 4, 4: 3}
    assert twin_of(rows[4]) == "7"  # an id that is a number
    assert twin_rows(rows[:2]) == {}  # the other one is cut off: an ordinary row


@pytest.mark.parametrize(
    ("rows", "number", "said"),
    [
        ([row("a"), row("b", "b")], 2, "is the row's own id 'b'"),
        ([row("a", "z"), row("b")], 1, "is 'z', but the file has no row of that id"),
        ([row("a", "b"), row("b")], 1, "is 'b', but the twin of that row is None and not 'a'"),
        ([row("a", "b"), row("b", "c"), row("c", "b")], 1, "is 'b', but the twin of that row is 'c'"),
        ([row("a", "b"), row("b", "a", "How many?")], 1, "is 'b', but that row asks another question"),
    ],
    ids=["itself", "missing", "one_sided", "of_another", "another_question"],
)
def test_a_twin_that_is_none_is_named_with_its_file_and_row(rows, number, said):
    with pytest.raises(UserError) as error:
        check_twins(rows, "rows.jsonl")
    assert str(error.value).startswith(f"rows.jsonl, row {number}, field meta.twin: {said}")
