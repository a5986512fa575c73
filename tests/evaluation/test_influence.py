"""What a text does to answers, by hand; each test names its trap."""

import pytest

from rlcomm.evaluation import influence

NOTHING = {"value": None, "n": 0, "ci95": None}


def near(value):
    return pytest.approx(value, abs=1e-9)


BEFORE = [True, True, False, False]  # without text
AFTER = [True, False, False, True]  # with it


def test_adversarial_influence_by_hand():
    result = influence.text_influence("adversarial", BEFORE, AFTER)
    assert (result["tir_all"]["value"], result["tir_all"]["n"]) == (0.25, 4)
    assert (result["tir_given_correct"]["value"], result["tir_given_correct"]["n"]) == (0.5, 2)


def test_faithful_influence_starts_from_wrong_answers():
    before, after = [True, False, False, False, True], [True, False, False, True, False]
    result = influence.text_influence("faithful", before, after)
    assert (result["tir_all"]["value"], result["tir_all"]["n"]) == (0.2, 5)
    assert result["tir_given_correct"] == NOTHING
    assert (result["tir_given_wrong"]["value"], result["tir_given_wrong"]["n"]) == (near(1 / 3), 3)


def test_irrelevant_influence_counts_a_change_from_wrong_to_wrong():
    changed = [False, True, True, True]
    result = influence.text_influence("irrelevant", BEFORE, AFTER, changed)
    assert result["tir_all"]["value"] == 0.75
    assert result["tir_given_correct"]["value"] == 0.5
    with pytest.raises(ValueError, match="say which answers changed"):
        influence.text_influence("irrelevant", BEFORE, AFTER)


def test_influence_where_nothing_was_right_before():
    result = influence.text_influence("adversarial", [False], [False])
    assert result["tir_all"]["value"] == 0.0
    assert result["tir_given_correct"] == NOTHING
    with pytest.raises(ValueError, match="'neutral' is none of"):
        influence.text_influence("neutral", BEFORE, AFTER)


def test_the_interval_of_a_conditional_flip_rate_by_hand():
    # clip a: one neutral-right row, flipped; clip b: three, none flipped. Draws: aa 1, ab 1/4, bb 0
    before, after = [True] * 4, [False, True, True, True]
    result = influence.text_influence("adversarial", before, after, clusters=["a", "b", "b", "b"])
    assert result["tir_given_correct"]["ci95"] == near([0.0, 1.0])
    assert result["tir_given_correct"]["value"] == 0.25


def test_norm_acc_by_hand():
    neutral, adversarial = [True, True, True, True, False], [True, False, False, False, False]
    result = influence.norm_acc(adversarial, neutral)
    assert (result["value"], result["n"]) == (near(0.25), 5)
    assert result["ci95"][0] == 0.0


def test_norm_acc_of_rows_that_lack_a_condition():
    # condition: 1 of 2 asked; neutral: 2 of 3: 0.5 / (2/3) - not 1/2 of the shared rows
    assert influence.norm_acc([True, None, False], [True, True, False])["value"] == near(0.75)
    assert influence.norm_acc([True, None, False], [True, True, False])["n"] == 2


def test_norm_acc_without_a_right_neutral_answer_has_no_value():
    assert influence.norm_acc([True], [False]) == {"value": None, "n": 1, "ci95": None}
    assert influence.norm_acc([None], [True]) == NOTHING
    assert influence.norm_acc([], []) == NOTHING


def test_norm_acc_resamples_a_row_with_all_its_conditions():
    # right before iff right after, row by row: 1 in every draw, though each accuracy alone varies
    rows = [True, False] * 20
    assert influence.norm_acc(rows, rows)["ci95"] == [1.0, 1.0]


def test_robustness_by_hand():
    # NormAcc: adversarial (1/5)/(4/5) = .25, irrelevant (3/5)/(4/5) = .75; .8 * .25 + .2 * .75
    neutral = [True, True, True, True, False]
    adversarial, irrelevant = [True, False, False, False, False], [True, True, True, False, False]
    result = influence.robustness(adversarial, irrelevant, neutral)
    assert (result["value"], result["n"]) == (near(0.35), 5)
    assert influence.robustness([True], [None], [True]) == {"value": None, "n": 1, "ci95": None}


def test_text_dominance_leaves_out_answers_that_take_no_side():
    result = influence.text_dominance(["text", "text", "audio", "other", None])
    assert (result["value"], result["n"]) == (near(2 / 3), 3)
    assert influence.text_dominance([None, "other"]) == NOTHING
