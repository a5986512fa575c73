"""Options: what is declared beside a field is what is refused, said and inherited."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import Limits, like, limits_of, option, refusal


@dataclass
class Library:
    rate: float = 1.0
    beta: float = 0.5
    free: float = 0.0
    kwargs: Any = None


@dataclass
class Ours(Library):
    LIMITS: ClassVar = {"rate": Limits(above=0), "beta": Limits(at_least=0, below=1)}

    frames: int = option(4, "frames", at_least=2, even=True)
    order: str = option("a", "order", choices=("a", "b"))
    parts: list[str] = option(["x"], "parts", choices=("x", "y"), called="part", commas=True)


@dataclass
class Narrower(Ours):
    LIMITS: ClassVar = {"beta": Limits(at_least=0, below=0.5)}

    beta: float = 0.1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rate": 0}, "rate is 0, which is out of range; it must be above 0."),
        ({"rate": float("nan")}, "rate is nan, which is out of range; it must be above 0 and finite."),
        ({"rate": float("inf")}, "rate is inf, which is out of range; it must be above 0 and finite."),
        ({"beta": 1}, "beta is 1, which is out of range; it must be at least 0 and below 1."),
        ({"frames": 3}, "frames is 3, which is out of range; it must be at least 2 and even."),
        ({"order": "c"}, "order is 'c', which is unknown; use one of a, b."),
        ({"parts": ["x", "z"]}, "parts has 'z', which is no part; use some of x, y."),
        ({"free": float("-inf")}, "free is -inf, and -inf is no finite number; correct it and run again."),
        (
            {"kwargs": {"a": [1, float("nan")]}},
            "kwargs is {'a': [1, nan]}, and nan is no finite number; correct it and run again.",
        ),
        ({"kwargs": -(10**400)}, "kwargs is a number of more than 64 bits; correct it and run again."),
        ({"kwargs": [10**5000]}, "kwargs is a number of more than 64 bits; correct it and run again."),
        ({"frames": 2**64}, "frames is a number of more than 64 bits; correct it and run again."),
    ],
)
def test_a_value_beyond_its_limits_is_refused_with_one_sentence(values, sentence):
    with pytest.raises(UserError) as error:
        options.check(Ours(**values))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "values",
    [
        {}, {"rate": 1e-9}, {"beta": 0}, {"beta": 0.999}, {"frames": 2}, {"order": "b"}, {"parts": []},
        {"parts": ["y", "x"]}, {"rate": None}, {"kwargs": {"a": [True, "nan", None, 2**63 - 1]}},
        {"free": -9.0},
    ],
)  # fmt: skip
def test_a_value_within_its_limits_is_taken(values):
    options.check(Ours(**values))


def test_the_nearest_declaration_of_an_inherited_key_counts():
    assert limits_of(Narrower)["beta"] == Limits(at_least=0, below=0.5)
    assert limits_of(Narrower)["rate"] == Limits(above=0)
    assert limits_of(Ours)["beta"] == Limits(at_least=0, below=1)
    assert "free" not in limits_of(Ours)


def test_a_field_that_is_declared_elsewhere_is_the_same_but_for_what_is_changed():
    @dataclass
    class Prefixed:
        my_frames: int = like(Ours, "frames")
        my_order: str = like(Ours, "order", default="b", help="another")

    assert Prefixed() == Prefixed(my_frames=4, my_order="b")
    assert limits_of(Prefixed) == {
        "my_frames": limits_of(Ours)["frames"],
        "my_order": limits_of(Ours)["order"],
    }
    frames, order = dataclasses.fields(Prefixed)
    assert (frames.metadata["help"], order.metadata["help"]) == ("frames", "another")


def test_lists_are_nobodys_but_their_own():
    first, second = Ours(), Ours()
    first.parts.append("y")
    assert second.parts == ["x"]


def test_commas_part_the_items_of_lists_that_say_so():
    found = Ours(parts=["x,y", "x", ","])
    options.split_commas(found)
    assert found.parts == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(), ""),
        (Limits(at_least=1), "at least 1"),
        (Limits(above=0, at_most=1), "above 0 and at most 1"),
        (Limits(at_least=-1.0, at_most=1.0), "between -1 and 1"),
        (Limits(at_least=1e-6), "at least 1e-06"),
        (Limits(choices=("a", "b")), "one of a, b"),
    ],
)
def test_limits_in_words(limits, words):
    assert limits.words() == words
    assert refusal("x", None, limits) is None
    assert "is null, where a value is needed" in str(refusal("x", None, Limits(null=False)))
