"""Mixes: types, answers and exchanged rows in their shares, as far as the rows allow."""

import random

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.reference.mix import MOST_COPIES, copies, described
from rlcomm.utils.errors import UserError

EXISTS, RELATES, COUNTS = "Audio/Existential", "Audio-Visual/Existential", "Audio/Counting"


def row(number, type, answer):
    return Sample(f"r{number}", (Turn("q", answer, type=type),))


@pytest.fixture
def world():
    """As the rows are: relations always yes in ordinary clips and mostly no in exchanged ones; few counts."""
    rng = random.Random(0)
    ordinary = [row(i, EXISTS, rng.choice(("yes", "no"))) for i in range(600)]
    ordinary += [row(600 + i, RELATES, "yes") for i in range(370)]
    ordinary += [row(970 + i, COUNTS, rng.choice(("one", "two", "2"))) for i in range(30)]
    strange = [row(1000 + i, RELATES, "Yes." if i % 10 == 0 else "no") for i in range(200)]
    strange += [row(1200 + i, EXISTS, "no" if i % 4 else "yes") for i in range(200)]
    return ordinary + strange, [False] * 1000 + [True] * 400


def test_every_margin_is_met_at_once(world):
    rows, exchanged = world
    taken = copies(
        rows, 1000, exchanged=exchanged, exchanged_share=0.4, min_type_share=0.1, balance_answers=True
    )
    found = described(rows, taken)
    assert sum(taken) == found["rows"] == 1000
    assert max(taken) <= MOST_COPIES
    assert found["types"][COUNTS] == pytest.approx(0.1, abs=0.003)
    assert sum(t for t, strange in zip(taken, exchanged, strict=True) if strange) == pytest.approx(400, abs=5)
    for kind in (EXISTS, RELATES):
        counted = found["answers"][kind]
        assert counted["yes"] == pytest.approx(counted["no"], rel=0.03)
    assert set(found["answers"][COUNTS]) == {"1", "2"}  # "two" and "2" are one answer
    assert found["distinct"] + found["repeated"] == 1000


def test_rows_as_they_come_where_nothing_is_asked(world):
    rows, _ = world
    assert copies(rows, len(rows)) == [1] * len(rows)
    drawn = copies(rows, 140)
    assert set(drawn) == {0, 1}
    assert described(rows, drawn)["types"][RELATES] == pytest.approx(570 / 1400, abs=0.01)


def test_the_draw_is_by_seed(world):
    rows, _ = world
    assert copies(rows, 500, seed=1) == copies(rows, 500, seed=1) != copies(rows, 500, seed=2)


def test_a_rare_type_is_repeated_no_more_than_a_few_times():
    rows = [row(i, EXISTS, "yes") for i in range(97)] + [row(97 + i, COUNTS, "two") for i in range(3)]
    taken = copies(rows, 100, min_type_share=0.5)
    assert taken[97:] == [MOST_COPIES] * 3  # 12 rows of 50: learning three by heart is no counting
    assert sum(taken) == 100


def test_what_cannot_be_is_one_sentence():
    rows = [row(0, EXISTS, "yes"), row(1, COUNTS, "two")]
    with pytest.raises(UserError, match="9 rows are asked for, and 2 rows give at most 8"):
        copies(rows, 9)
    with pytest.raises(UserError, match=r"min_type_share is 0.6, and 2 question types .* set at most 0.5"):
        copies(rows, 2, min_type_share=0.6)
