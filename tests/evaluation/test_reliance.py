"""Text prior and reliance by hand; each test names its trap."""

import random

import pytest

from rlcomm.evaluation import reliance

NOTHING = {"value": None, "n": 0, "ci95": None}

FULL = [True, True, True, False, False, True]
NONE = [True, False, False, True, False, False]
FRAGMENTS = [[False, False], [False, True], [False, False], [True, True], [True, False], None]
KINDS = ["TS", "FS", "XS", "AH", "UN", "AN"]


def near(value):
    return pytest.approx(value, abs=1e-9)


def test_text_prior_by_hand():
    result = reliance.text_prior([True, True, False, False, False], [True, True, True, True, False])
    assert (result["value"], result["n"]) == (near(0.5), 5)
    assert reliance.text_prior([True, False], [False, False]) == {"value": None, "n": 2, "ci95": None}
    assert reliance.text_prior([], []) == NOTHING


def test_text_prior_may_exceed_one_and_is_resampled_in_pairs():
    assert reliance.text_prior([True, True], [True, False])["value"] == 2.0
    rows = [True, False] * 20
    assert reliance.text_prior(rows, rows)["ci95"] == [1.0, 1.0]


def test_the_partition_by_hand():
    assert reliance.partition(FULL, NONE, FRAGMENTS) == KINDS
    assert reliance.partition([True], [False], [[]]) == ["AN"]  # no fragment run is not "no fragment right"


def test_what_a_sense_is_worth_by_hand():
    """R_TP = 2/4; of the four right in full three are lost; FS and XS are one each, so XS / AN = 1/2."""
    found = reliance.of_sense(FULL, NONE, FRAGMENTS)
    assert {name: found[name]["value"] for name in ("r_tp", "lost", "an", "whole_needed")} == {
        "r_tp": 0.5, "lost": 0.75, "an": 0.5, "whole_needed": 0.5,
    }  # fmt: skip


def test_the_shares_by_hand():
    shares = reliance.shares(KINDS)
    assert {name: shares[name]["value"] for name in ("ts", "ah", "un")} == {
        "ts": near(1 / 6),
        "ah": near(1 / 6),
        "un": near(1 / 6),
    }
    assert shares["an"]["value"] == near(3 / 6)
    assert (shares["fs"]["value"], shares["fs"]["n"]) == (near(1 / 5), 5)
    assert (shares["xs"]["value"], shares["xs"]["n"]) == (near(1 / 5), 5)
    assert sum(shares[name]["value"] for name in ("ts", "an", "ah", "un")) == near(1.0)


def test_whole_needed_leaves_out_items_without_fragments():
    result = reliance.whole_needed(["TS", "FS", "FS", "XS", "AN", "UN"])
    assert (result["value"], result["n"]) == (near(1 / 3), 3)
    assert reliance.whole_needed(["TS", "AN"]) == NOTHING


def test_chance_corrected_fragments_by_hand():
    # two AN items, two fragments, four options: e = 1 - (3/4)^2 = 7/16; one of two in FS:
    # (1 - 2 * 7/16) / (2 * 9/16) = (2/16) / (18/16) = 1/9
    result = reliance.fragment_suffices(
        [True, True], [False, False], [[False, True], [False, False]], [0.25, 0.25]
    )
    assert (result["value"], result["n"]) == (near(1 / 9), 2)


def test_chance_differs_by_item_and_number_of_runs():
    # e: 1 - 1/2 = .5 and 1 - (3/4)^2 = .4375; both FS: 1; only the first: (.5 - .4375) / (.5 + .5625)
    full, none, chance = [True, True], [False, False], [0.5, 0.25]
    both = reliance.fragment_suffices(full, none, [[True], [True, False]], chance)
    assert both["value"] == near(1.0)
    first = reliance.fragment_suffices(full, none, [[True], [False, False]], chance)
    assert first["value"] == near(0.0625 / 1.0625)


def test_fragments_below_chance_are_negative_and_other_items_do_not_count():
    result = reliance.fragment_suffices(
        FULL, NONE, [*FRAGMENTS[:1], [False, False], *FRAGMENTS[2:]], [0.5] * 6
    )
    # two AN items with fragments, e = .75, none in FS: -1.5 / .5
    assert (result["value"], result["n"]) == (near(-3.0), 2)
    assert reliance.fragment_suffices([False], [False], [[True]], [0.5]) == NOTHING
    assert reliance.fragment_suffices([], [], [], []) == NOTHING


def test_without_chance_it_is_the_plain_share():
    result = reliance.fragment_suffices(FULL, NONE, FRAGMENTS, [0.0] * 6)
    assert result["value"] == near(0.5)  # FS of FS + XS


def test_the_correction_finds_the_share_that_was_put_in():
    # 40 % of 20,000 items are answered by a fragment, the rest guess among four on three fragments
    rng = random.Random(0)
    fragments = [
        [True, False, False] if rng.random() < 0.4 else [rng.random() < 0.25 for _ in range(3)]
        for _ in range(20_000)
    ]
    plain = sum(map(any, fragments)) / len(fragments)
    result = reliance.fragment_suffices([True] * 20_000, [False] * 20_000, fragments, [0.25] * 20_000)
    assert plain > 0.7
    assert result["value"] == pytest.approx(0.4, abs=0.02)
    assert result["ci95"][0] < 0.4 < result["ci95"][1]


def test_a_chance_that_is_no_chance_is_refused():
    with pytest.raises(ValueError, match=r"chance 1\.0"):
        reliance.fragment_suffices([True], [False], [[True]], [1.0])


def test_there_are_fourteen_fragment_runs():
    assert len(reliance.FRAGMENT_RUNS) == len(set(reliance.FRAGMENT_RUNS)) == 14
    assert all(0 <= k < n for k, n in reliance.FRAGMENT_RUNS)
