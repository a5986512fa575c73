"""Types of a recipe's values: YAML and the command line are read alike, by argparse through TRL's parser."""

import copy
import dataclasses
import datetime
import re
import types
import typing
from typing import Any, NoReturn

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import TrlParser  # isort: skip

from rlcomm.utils.errors import UserError
from rlcomm.utils.options import NONE, limits_of, shown

_OURS = ("limits", "commas")  # metadata that argparse does not know


def kinds_of(hint: Any) -> list[Any]:
    """The members of a union, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for one in typing.get_args(hint) for kind in kinds_of(one)]
    return [hint]


class Parser(TrlParser):
    """TRL's parser of one stage's dataclass, whose refusals are ours.

    Args:
        cls: the dataclass.
    """

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, allow_abbrev=False, add_help=False)
        self.limits = limits_of(cls)
        self.kinds = {name: kinds_of(hint) for name, hint in typing.get_type_hints(cls).items()}

    @staticmethod
    def _parse_dataclass_field(parser: Any, field: dataclasses.Field) -> None:
        """Metadata become keywords of argparse, so ours are taken out of a copy."""
        field = copy.copy(field)
        kept = {key: value for key, value in field.metadata.items() if key not in _OURS}
        field.metadata = types.MappingProxyType(kept)  # type: ignore[assignment]
        TrlParser._parse_dataclass_field(parser, field)

    def may_be_null(self, key: str) -> bool:
        """Whether null is a value of a key; of another key it means the default."""
        return type(None) in self.kinds[key] and self.limits.get(key, NONE).null

    def readable(self, key: str, value: Any) -> Any:
        """A YAML value in the form in which its type is checked like one from the command line.

        Raises:
            UserError: a list or mapping where one value is wanted, or the other way round.
        """
        if value is None:
            return None
        action = self._option_string_actions[f"--{key}"]
        kinds = {typing.get_origin(kind) or kind for kind in self.kinds[key]}
        if action.nargs in ("+", "*"):
            return _items(key, value, action.type)
        if isinstance(value, list) and list in kinds:
            return _items(key, value, None)
        if isinstance(value, (str, dict)) and (isinstance(value, str) or kinds & {dict, Any}):
            return value
        if isinstance(value, (bool, int, float, datetime.date)):
            return str(value)
        wanted = "number" if kinds & {int, float} else "value"
        raise UserError(
            f"{key} is {shown(value)}, where one {wanted} is wanted; correct the value and run again."
        )

    def error(self, message: str) -> NoReturn:
        """What argparse refuses, as a sentence."""
        if found := re.match(r"argument --(\w+)\S*: invalid (\w+) value: (.*)$", message, re.DOTALL):
            message = f"{found[1]} is {found[3]}, which is no {_NAMES.get(found[2], found[2])}"
        raise UserError(f"{message}; correct the value and run again.")


_NAMES = {"int": "whole number", "float": "number"}


def _items(key: str, value: Any, kind: Any) -> list[Any]:
    """A value of a key that holds a list of `kind` (None: of anything plain); one alone is a list of it."""
    items = value if isinstance(value, list) else [value]
    if odd := [item for item in items if not isinstance(item, (str, int, float))]:
        said = f"{key} has {shown(odd[0])}, where a list of plain values is wanted"
        raise UserError(f"{said}; correct the value and run again.")
    try:
        return [kind(item if isinstance(item, str) else str(item)) if kind else item for item in items]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{key} has {str(error).rpartition(': ')[2]}, which is no "
            f"{_NAMES.get(kind.__name__, kind.__name__)}; correct the value and run again."
        ) from error
