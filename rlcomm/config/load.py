"""Reads a recipe: YAML, overridden by `--key value` (null unsets), checked by the dataclass of its stage."""

import dataclasses
import difflib
import enum
import os
from typing import Any

import yaml

from rlcomm.config.parser import Parser
from rlcomm.config.stages import STAGES
from rlcomm.config.yaml_file import read_yaml
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
    values, _, cls = check_keys(path, overrides)
    if overrides and not overrides[0].startswith("--"):
        raise UserError(f"the command line: {overrides[0]!r} stands where a key must; write `--key value`.")
    parser = Parser(cls)
    overrides, unset = take_nulls(overrides)
    values = {key: value for key, value in values.items() if value is not None or parser.may_be_null(key)}
    for key in unset:
        values.pop(key, None)
        if parser.may_be_null(key):
            values[key] = None
    try:
        parser.set_defaults_with_config(**{key: parser.readable(key, value) for key, value in values.items()})
        recipe = parser.parse_args_into_dataclasses(args=overrides, look_for_args_file=False)[0]
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; correct the value and run again.") from error
    recipe.given = {**values, **{key: _plain(getattr(recipe, key)) for key in keys_of(overrides)}}
    return recipe


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


def take_nulls(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Takes `--key null` out of `["--key", "value", ...]`: it unsets the key, wherever it was set before.

    Returns:
        The other overrides, and the keys that are unset.
    """
    kept: list[list[str]] = []
    unset: list[str] = []
    starts = [at for at, item in enumerate(overrides) if item.startswith("--")]
    for start, end in zip(starts, [*starts, len(overrides)][1:], strict=True):
        words = overrides[start:end]
        (key,) = keys_of(words)
        unset = [one for one in unset if one != key]
        if words[1:] == ["null"] or words == [f"{words[0].partition('=')[0]}=null"]:
            kept = [one for one in kept if keys_of(one) != [key]]
            unset.append(key)
        else:
            kept.append(words)
    return [word for words in kept for word in words], unset


def _override(overrides: list[str], key: str) -> str | None:
    """The value of `--key value` or `--key=value`."""
    for at, item in enumerate(overrides):
        if item.startswith(f"--{key}="):
            return item.partition("=")[2]
        if item == f"--{key}":
            return overrides[at + 1] if at + 1 < len(overrides) else None
    return None


def _plain(value: Any) -> Any:
    """A value as YAML can hold it (transformers turns some strings into enumerations)."""
    return value.value if isinstance(value, enum.Enum) else value


def resolved(recipe: Any) -> dict[str, Any]:
    """The keys that were set, in the file or on the command line, with the values they came out with."""
    return dict(recipe.given)


def save_recipe(recipe: Any, path: str | os.PathLike) -> None:
    """Writes `recipe.yaml`: running it again runs the same thing."""
    files.write_text(path, yaml.safe_dump(resolved(recipe), sort_keys=True, allow_unicode=True))
