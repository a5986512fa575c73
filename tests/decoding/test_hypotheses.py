"""The candidates of a free-form question are what the branches answer, each spelling once."""

import pytest

from rlcomm.decoding.hypotheses import hypothesis_set


@pytest.mark.parametrize(
    ("joint", "evidence", "expected"),
    [
        ("A drum.", "The harp", ("A drum.", "The harp")),  # in their own words
        ("The harp", "A drum.", ("The harp", "A drum.")),  # J's stands first
        ("Two drums!", "2 drums", ("Two drums!",)),
        ("", "harp", ("harp",)),
        ("drum", " ... ", ("drum",)),  # nothing is left of it
        ("drum", None, ("drum",)),
        (None, "harp", ("harp",)),
        ("", "?", ()),
    ],
)
def test_distinct_answers_in_order(joint, evidence, expected):
    assert hypothesis_set(joint, evidence) == expected
