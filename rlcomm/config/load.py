"""Reads a recipe: YAML, overridden by `--key value`, checked by the dataclass of its stage."""

import copy
import dataclasses
import difflib
import enum
import os
import re
import types
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import TrlParser  # isort: skip

from rlcomm.config.stages import STAGES
from rlcomm.utils import files
from rlcomm.utils.errors import UserError


def load_recipe(path: str | os.PathLike, overrides: list[str] | None = None) -> Any:
    """Reads a recipe.

    Args:
        path: YAML file, a flat mapping.
        overrides: `["--key", "value", ...]`.

    Returns:
        The dataclass of its stage, checked.

    Raises:
        UserError: unknown key (with the nearest known one), wrong type, value out of range, missing file.
    """
    overrides = list(overrides or [])
    values, given, cls = check_keys(path, overrides)
    if overrides and not overrides[0].startswith("--"):
        raise UserError(f"the command line: {overrides[0]!r} stands where a key must; write `--key value`.")
    parser = _Parser(cls, allow_abbrev=False)
    try:
        parser.set_defaults_with_config(**{key: parser.readable(key, value) for key, value in values.items()})
        recipe = parser.parse_args_into_dataclasses(args=overrides)[0]
        recipe.given = {**values, **{key: _plain(getattr(recipe, key)) for key in given}}
        return recipe
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; correct the value and run again.") from error


def check_keys(path: str | os.PathLike, overrides: list[str]) -> tuple[dict[str, Any], list[str], Any]:
    """Reads a recipe as far as its keys, which costs nothing: no value is looked at.

    Args:
        path: YAML file, a flat mapping.
        overrides: `["--key", "value", ...]`.

    Returns:
        The file's values, the keys of the overrides, and the dataclass of the stage.

    Raises:
        UserError: missing file, no such stage, unknown key (with the nearest known one).
    """
    values = read_yaml(path)
    stage = _override(overrides, "stage") or values.get("stage")
    if not isinstance(stage, str) or stage not in STAGES:
        raise no_stage(str(path), stage)
    cls: Any = STAGES[stage]
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    given = keys_of(overrides)
    for where, keys in ((str(path), values), ("the command line", given)):
        for key in keys:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                raise UserError(
                    f"{where}: {key!r} is no key of a {stage} recipe; "
                    + (
                        f"did you mean {near[0]!r}?"
                        if near
                        else "recipes/README.md says where keys come from."
                    )
                )
    return values, given, cls


def no_stage(where: str, stage: Any) -> UserError:
    """What is said of a stage that there is not."""
    return UserError(
        f"{where}: stage is {stage!r}, which is no stage; set it to one of {', '.join(sorted(STAGES))}."
    )


def keys_of(overrides: list[str]) -> list[str]:
    """The keys of `["--key", "value", "--other=value", ...]`."""
    return [item[2:].split("=")[0].replace("-", "_") for item in overrides if item.startswith("--")]


class _Parser(TrlParser):
    def __init__(self, cls: Any, **options: Any) -> None:
        super().__init__(cls, **options)
        self.cls = cls

    @staticmethod
    def _parse_dataclass_field(parser: Any, field: dataclasses.Field) -> None:
        """Metadata become keywords of argparse; ours are none."""
        field = copy.copy(field)
        field.metadata = types.MappingProxyType(  # type: ignore[assignment]
            {key: value for key, value in field.metadata.items() if key not in ("limits", "commas")}
        )
        TrlParser._parse_dataclass_field(parser, field)

    def readable(self, key: str, value: Any) -> Any:
        """A YAML value in the form in which its type is checked like one from the command line.

        Raises:
            UserError: a list or mapping where one value is wanted, or the other way round.
        """
        action = self._option_string_actions[f"--{key}"]
        hint = str(get_type_hints(self.cls)[key])
        if action.nargs in ("+", "*"):
            return value if value is None and "None" in hint else _readable_list(key, value, action.type)
        if isinstance(value, (list, dict)) and not re.search(r"\b(list|dict|Any)\b", hint):
            wanted = "number" if re.search(r"\b(int|float)\b", hint) else "value"
            raise UserError(
                f"{key} is {value!r}, where one {wanted} is wanted; correct the value and run again."
            )
        return str(value) if isinstance(value, (bool, int, float)) else value

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument --(\w+)\S*: invalid (\w+) value: (.*)$", message):
            kind = {"int": "whole number", "float": "number"}.get(found[2], found[2])
            message = f"{found[1]} is {found[3]}, which is no {kind}"
        raise UserError(f"{message}; correct the value and run again.")


def _readable_list(key: str, value: Any, kind: Any) -> Any:
    """A YAML value of a key that holds a list of `kind`; one value alone is a list of it."""
    items = value if isinstance(value, list) else [value]
    if odd := [item for item in items if not isinstance(item, (str, int, float))]:
        raise UserError(
            f"{key} has {odd[0]!r}, where a list of plain values is wanted; correct the value and run again."
        )
    return [str(item) for item in items] if kind is str else items


def _override(overrides: list[str], key: str) -> str | None:
    """The value of `--key value` or `--key=value`."""
    for at, item in enumerate(overrides):
        if item.startswith(f"--{key}="):
            return item.partition("=")[2]
        if item == f"--{key}":
            return overrides[at + 1] if at + 1 < len(overrides) else None
    return None


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a flat mapping.

    Raises:
        UserError: it is missing, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({str(error).splitlines()[0]}); correct it.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no `key: value` lines; a recipe is a flat mapping.")
    return values


def _plain(value: Any) -> Any:
    """A value as YAML can hold it (transformers turns some strings into enumerations)."""
    return value.value if isinstance(value, enum.Enum) else value


def resolved(recipe: Any) -> dict[str, Any]:
    """The keys that were set, in the file or on the command line, with the values they came out with."""
    return dict(recipe.given)


def save_recipe(recipe: Any, path: str | os.PathLike) -> None:
    """Writes `recipe.yaml`: running it again runs the same thing."""
    files.write_text(path, yaml.safe_dump(resolved(recipe), sort_keys=True, allow_unicode=True))
