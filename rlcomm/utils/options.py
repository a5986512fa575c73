"""Options: a dataclass field with its default, meaning and limits in one place, and the one check of them.

    rate: float = option(1e-3, "step size", at_least=0)
    order: str = option("random", "of the rows", choices=("random", "sequential"))

What is declared here is checked, refused with one sentence, and listed by `rlcomm keys`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlcomm.utils.errors import UserError

LARGEST = 2**63 - 1  # of a whole number: what 64 bits hold
SHOWN = 200  # characters of a value in a sentence


@dataclass(frozen=True)
class Limits:
    """What a value may be; None and () are no limit.

    Attributes:
        at_least: least number.
        above: number that it has to exceed.
        at_most: greatest number.
        below: number that it has to stay under.
        even: a whole number that 2 divides.
        choices: the words it may be; of a list: those that may stand in it.
        called: what one of the choices of a list is, where it is not simply unknown.
        null: whether it may be None where its type says so.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    even: bool = False
    choices: tuple[str, ...] = ()
    called: str = ""
    null: bool = True

    def words(self) -> str:
        """The limits in plain English: `at least 1`, `between 0 and 1`, `above 0`; "" where there is none."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.at_least is not None and self.at_most is not None:
            return f"between {_short(self.at_least)} and {_short(self.at_most)}"
        bounds = (
            ("at least", self.at_least), ("above", self.above),
            ("at most", self.at_most), ("below", self.below),
        )  # fmt: skip
        said = [f"{word} {_short(bound)}" for word, bound in bounds if bound is not None]
        return " and ".join([*said, "even"] if self.even else said)

    def hold(self, number: float) -> bool:
        """Whether a number is within them; NaN and infinities never are."""
        return (
            math.isfinite(number)
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
            and (not self.even or number % 2 == 0)
        )


NONE = Limits()


def option(default: Any, help: str = "", *, commas: bool = False, **limits: Any) -> Any:
    """A dataclass field.

    Args:
        default: its value where nothing is set; a list is copied for every instance.
        help: what it means, one line.
        commas: a list whose items may also be given as one text with commas (`split_commas`).
        **limits: keywords of `Limits`.
    """
    metadata = {"help": help, "commas": commas, "limits": Limits(**limits)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def like(cls: type, name: str, **changes: Any) -> Any:
    """A field that is declared elsewhere: the same default, meaning and limits.

    Args:
        cls: the dataclass that declares it.
        name: of the field there.
        **changes: `default` or `help`, where they differ here.
    """
    declared = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
    metadata = {**declared.metadata, "help": changes.get("help", declared.metadata["help"])}
    return dataclasses.field(default=changes.get("default", declared.default), metadata=metadata)


@functools.cache
def limits_of(cls: type) -> Mapping[str, Limits]:
    """The limits of every option of a dataclass, by name.

    Fields that `option` made bring theirs along. Those of a library's dataclass have none of their own: a
    class that inherits them says theirs in its `LIMITS`; the nearest in the order of resolution counts.
    """
    found: dict[str, Limits] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base).get("LIMITS", {}))
    own = {f.name: f.metadata["limits"] for f in dataclasses.fields(cls) if "limits" in f.metadata}
    return {**found, **own}


def refusal(name: str, value: Any, limits: Limits = NONE) -> str | None:
    """The sentence with which a value is refused, None where it is within its limits.

    Args:
        name: of the option.
        value: anything; numbers anywhere in it have to be finite.
        limits: of the option.
    """
    if value is None:
        return None if limits.null else f"{name} is null, where a value is needed; give it one."
    for one in _leaves(value):  # first: a number of thousands of digits cannot even be written out
        if isinstance(one, int) and abs(one) > LARGEST:
            return f"{name} is a number of more than 64 bits; correct it and run again."
    several = isinstance(value, (list, tuple))
    for one in value if several else [value]:
        if limits.choices and one not in limits.choices:
            what = f"no {limits.called}" if limits.called else "unknown"
            use = f"use {'some' if several else 'one'} of {', '.join(limits.choices)}"
            return f"{name} {'has' if several else 'is'} {shown(one)}, which is {what}; {use}."
        if limits != NONE and _is_number(one) and not limits.hold(one):
            must = f"it must be {limits.words()}{'' if math.isfinite(one) else ' and finite'}"
            return f"{name} {'has' if several else 'is'} {shown(one)}, which is out of range; {must}."
    for one in _leaves(value):
        if isinstance(one, float) and not math.isfinite(one):
            return f"{name} is {shown(value)}, and {one!r} is no finite number; correct it and run again."
        if isinstance(one, str) and not _is_text(one):
            return f"{name} is {shown(value)}, which no file can hold as text; correct it and run again."
    return None


def check(instance: Any) -> None:
    """Whether every option of a dataclass instance is within its limits.

    Raises:
        UserError: one that is not, with its value and what it may be.
    """
    limits = limits_of(instance.__class__)
    for field in dataclasses.fields(instance):
        sentence = refusal(field.name, getattr(instance, field.name), limits.get(field.name, NONE))
        if sentence is not None:
            raise UserError(sentence)


def split_commas(instance: Any) -> None:
    """`[a, "b,c"]` becomes `[a, b, c]` in the options that say so: lists may be given with commas."""
    for field in dataclasses.fields(instance):
        if field.metadata.get("commas"):
            items = getattr(instance, field.name)
            setattr(instance, field.name, [part for item in items for part in item.split(",") if part])


def shown(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _leaves(value: Any) -> Iterator[Any]:
    """The plain values in a value, however deep in lists and mappings, the keys of these too."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _is_text(text: str) -> bool:
    """Whether it can stand in a file and name one: no null character, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _short(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
