"""The candidates of a free-form question are what the branches answer, each spelling once."""

import pytest

from rlcomm.decoding.hypotheses import hypothesis_set


@pytest.mark.parametrize(
    ("joint", "evidence", "expected"),
    [
        ("A drum.", "The harp", ("drum", "harp")),
        ("The harp", "A drum.", ("harp", "drum")),  # J's stands first
        ("Two drums!", "2 drums", ("2 drums",)),
        ("", "harp", ("harp",)),
        ("drum", " ... ", ("drum",)),  # nothing is left of it
        ("drum", None, ("drum",)),
        (None, "harp", ("harp",)),
        ("", "?", ()),
    ],
)
def test_distinct_normalised_answers_in_order(joint, evidence, expected):
    assert hypothesis_set(joint, evidence) == expected
