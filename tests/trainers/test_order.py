"""The rows of an epoch: pairs side by side, in their share; every type as often; the same when resumed."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from trl.trainer.utils import RepeatSampler

from rlcomm.trainers.order import Drawing, OrderOfEpoch

PAIRS = {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4}


def sampler(rows: int, prompts: int, **options) -> RepeatSampler:
    return RepeatSampler(range(rows), batch_size=prompts, **{"mini_repeat_count": 1, "seed": 5, **options})


def at(epoch: float | None) -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(epoch=epoch))


def generations(drawing: Drawing, rows: int, prompts: int, epoch: float = 0.0) -> list[list[int]]:
    order = list(OrderOfEpoch(sampler(rows, prompts), at(epoch), drawing))
    return [order[i : i + prompts] for i in range(0, len(order), prompts)]


def together(rows: list[int], twins: dict[int, int]) -> int:
    return sum(twins.get(a) == b for a, b in zip(rows[::2], rows[1::2], strict=False))


def test_by_hand():
    """Ten rows, four a generation, half of them in pairs: one pair each, then what is left in its order."""
    drawing = Drawing(PAIRS, 0.5)
    assert drawing.arranged([9, 2, 0, 8, 1, 3, 4, 7, 6, 5], 4, None) == [2, 3, 9, 8, 0, 1, 4, 7]


@pytest.mark.parametrize(("share", "counts"), [(0.5, [1, 1, 1]), (0.25, [0, 1, 0]), (0.4, [0, 1, 1])])
def test_a_share_is_kept_over_several_generations(share, counts):
    found = generations(Drawing(PAIRS, share), 12, 4)
    assert [sum(PAIRS.get(a) == b for a, b in [rows[:2]]) for rows in found] == counts
    assert [Drawing(PAIRS, share).pairs_in(i, 4) for i in range(3)] == counts


def test_no_row_is_asked_twice_and_epochs_differ():
    twins = {i: i ^ 1 for i in range(40)}  # all of 40 rows have one, half of the prompts are asked with it
    drawing = Drawing(twins, 0.5)
    epochs = [generations(drawing, 43, 8, epoch) for epoch in (0.0, 1.0, 2.0)]
    assert epochs[0] != epochs[1] != epochs[2]
    for found in epochs:
        asked = [row for rows in found for row in rows]
        assert len(asked) == len(set(asked)) == 40
        assert all(together(rows[:4], twins) == 2 for rows in found)  # pairs first: a rank holds both
    assert len({tuple(rows[:2]) for found in epochs for rows in found}) > 10


def test_the_order_is_trls_repetition_of_the_same_rows_and_the_same_when_resumed():
    drawing = Drawing(PAIRS, 0.5)
    trl = sampler(10, 4, mini_repeat_count=3, repeat_count=2)
    ours = OrderOfEpoch(trl, at(1.0), drawing)
    order = list(ours)
    assert order == list(ours) == list(OrderOfEpoch(trl, at(1.4), drawing))
    assert len(order) == len(ours) == 2 * 4 * 3 * 2
    rows = [row for generation in generations(drawing, 10, 4, 1.0) for _ in range(2) for row in generation]
    assert order == [row for row in rows for _ in range(3)]


def test_without_shuffling_rows_stay_in_order():
    order = list(OrderOfEpoch(sampler(8, 4, shuffle=False), at(None), Drawing({2: 5, 5: 2}, 0.25)))
    assert order == [0, 1, 3, 4, 2, 5, 6, 7]


def test_every_type_is_asked_as_often():
    """As in Orchestra: half of the rows ask one type, and one type has a single row."""
    types = ["exist"] * 30 + ["count"] * 20 + ["place"] * 9 + ["time"]
    found = generations(Drawing({}, 0.0, types), 60, 6)
    asked = [row for rows in found for row in rows]
    assert Counter(types[row] for row in asked) == {"exist": 15, "count": 15, "place": 15, "time": 15}
    assert max(Counter(row for row in asked if types[row] == "place").values()) == 2  # round and round
    assert all(len(set(rows)) >= 5 for rows in found)  # twice in a generation only the row that is alone
    assert generations(Drawing({}, 0.0, types), 60, 6, 1.0) != found


def test_pairs_and_single_rows_together_ask_every_type_as_often():
    types = ["exist"] * 32 + ["count"] * 8
    twins = {i: i ^ 1 for i in range(40)}
    found = generations(Drawing(twins, 0.5, types), 40, 8)
    assert all(together(rows[:4], twins) == 2 for rows in found)
    assert Counter(types[row] for rows in found for row in rows) == {"exist": 20, "count": 20}
    only_one_type_has_pairs = generations(Drawing({0: 1, 1: 0, 2: 3, 3: 2}, 0.25, types), 40, 8)
    assert Counter(types[row] for rows in only_one_type_has_pairs for row in rows) == {
        "exist": 20,
        "count": 20,
    }


def test_without_a_drawing_the_order_is_trls():
    trl, other = sampler(7, 3, repeat_count=2), sampler(7, 3, repeat_count=2)
    assert list(OrderOfEpoch(trl, at(None))) == list(other)
    torch.manual_seed(1)  # the global generator has no part in it
    assert list(OrderOfEpoch(trl, at(0.0), Drawing({}))) == list(OrderOfEpoch(trl, at(0.0)))
