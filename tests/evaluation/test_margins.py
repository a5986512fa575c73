"""Margins and sign flips by hand; each test names its trap."""

import pytest

from rlcomm.evaluation import margins


def test_margin_is_against_the_best_other_label():
    assert margins.margin([-1.0, -3.0, -0.5], 0) == -0.5
    assert margins.margin([-1.0, -3.0, -2.5], 0) == 1.5
    assert not margins.right([-1.0, -1.0], 0)  # a tie decides nothing


def test_margin_may_be_held_against_one_label_alone():
    """What the text claims, though a third label scores higher than both."""
    assert margins.margin([-1.0, -3.0, 0.0], 0, 1) == 2.0
    assert margins.margin([-1.0, -3.0, 0.0], 0) == -1.0
    assert margins.margin([-1.0, -3.0, 0.0], 0, 0) == -1.0  # a text that claims the truth misleads to nothing


def test_margins_are_kept_to_six_digits():
    """Trap: the seventh digit is the machine's, and would make a flip of a tie."""
    assert margins.margin([-1.0, -1.0000000001], 0) == 0.0
    assert margins.rounded([-1 / 3]) == [-0.333333]


@pytest.mark.parametrize(
    ("joint", "reference", "name"),
    [(1.0, 2.0, "right"), (-1.0, 2.0, "flip"), (-1.0, -2.0, "missing"), (1.0, -2.0, "other"),
     (0.0, 1.0, "other"), (-1.0, 0.0, "other")],
)  # fmt: skip
def test_the_quadrants_by_hand(joint, reference, name):
    """Trap: a tie (M = 0) is neither a flip nor missing evidence."""
    assert margins.quadrant(joint, reference) == name


def test_an_item_without_both_margins_is_no_flip():
    assert margins.is_flip(-1.0, 2.0)
    assert not margins.is_flip(None, 2.0)
    assert not margins.is_flip(-1.0, None)


def test_sign_flips_by_hand_with_ties_and_missing_margins():
    joint = [-1.0, -1.0, 1.0, 0.0, None, -0.1]
    audio = [2.0, -2.0, 2.0, 1.0, 1.0, 0.0]
    #        flip  deaf  right tie  missing tie
    assert margins.sign_flip_rate(joint, audio)["value"] == pytest.approx(1 / 5)
    assert margins.sign_flip_rate(joint, audio)["n"] == 5
