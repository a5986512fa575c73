"""`rlcomm keys`: every key of a stage's recipe with its default, what it may be and what it means.

All of it is read from the dataclasses: ours as `option` declares it, TRL's and transformers' with their help.
"""

import dataclasses
import enum
import importlib.metadata
import inspect
import shutil
import typing
from dataclasses import dataclass
from typing import Any

import yaml
from tabulate import tabulate

from rlcomm.config.load import no_stage
from rlcomm.config.parser import kinds_of
from rlcomm.config.stages import STAGES
from rlcomm.utils import options

LIBRARIES = ("trl", "transformers")
COLUMNS = ("key", "default", "may be", "meaning")
_NAMES = {bool: "true or false", int: "whole number", float: "number", dict: "mapping", str: "text"}


@dataclass(frozen=True)
class Key:
    """One key of a recipe, in words.

    Attributes:
        name: as it stands in a recipe.
        default: as YAML writes it.
        allowed: its type and limits.
        meaning: one line.
    """

    name: str
    default: str
    allowed: str
    meaning: str


@dataclass
class Group:
    """The keys that one dataclass declares.

    Attributes:
        declared: that dataclass.
        stages: whose recipes have them.
        keys: in their order.
    """

    declared: type
    stages: list[str]
    keys: list[Key]

    @property
    def library(self) -> str:
        """Whose they are: `trl` or `transformers`; "" where they are ours."""
        root = self.declared.__module__.split(".")[0]
        return root if root in LIBRARIES else ""

    @property
    def title(self) -> str:
        """What they are about."""
        if self.library:
            return f"{self.library}.{self.declared.__name__.removeprefix('_')}"
        return str(self.declared.__doc__).partition("\n")[0].rstrip(".")


def groups(stage: str | None = None) -> list[Group]:
    """The keys of one stage, or of all: a stage's own, then what stages share, then TRL's and transformers'.

    Raises:
        UserError: no such stage.
    """
    if stage is not None and stage not in STAGES:
        raise no_stage("the command line", stage)
    found: dict[type, Group] = {}
    for name in [stage] if stage is not None else STAGES:
        for declared, keys in _declared(STAGES[name]).items():
            group = found.setdefault(declared, Group(declared, [], []))
            group.stages.append(name)
            known = {key.name for key in group.keys}
            group.keys += [key for key in keys if key.name not in known]
    own = set(STAGES.values())
    return sorted(
        found.values(),
        key=lambda group: (("", *LIBRARIES).index(group.library), group.declared not in own),
    )


def _declared(cls: type) -> dict[type, list[Key]]:
    """The keys of a stage's dataclass by the class in whose body each of them stands."""
    hints, limits = typing.get_type_hints(cls), options.limits_of(cls)
    bodies = [base for base in cls.__mro__ if dataclasses.is_dataclass(base)]
    found: dict[type, list[Key]] = {base: [] for base in bodies}
    for field in dataclasses.fields(cls):
        if field.init:
            body = next(base for base in bodies if field.name in inspect.get_annotations(base))
            found[body].append(_key(cls, field, hints[field.name], limits.get(field.name, options.NONE)))
    return {base: keys for base, keys in found.items() if keys}


def _key(cls: Any, field: dataclasses.Field, hint: Any, limits: options.Limits) -> Key:
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    allowed, meaning = _allowed(hint, limits), " ".join(str(field.metadata.get("help", "")).split())
    meaning = meaning.replace("%%", "%")  # as argparse wants it
    if field.name in getattr(cls, "REFUSED", {}):
        allowed, why = f"{_yaml(cls.REFUSED[field.name][0])} only", cls.REFUSED[field.name][1]
        meaning = f"Refused otherwise: {why}."
    elif field.name in getattr(cls, "FIXED", {}):
        allowed, meaning = f"{_yaml(cls.FIXED[field.name])} only", "Set by rlcomm, whatever stands here."
    return Key(field.name, _yaml(default), allowed, meaning)


def _yaml(value: Any) -> str:
    """A default as YAML writes it."""
    value = value.value if isinstance(value, enum.Enum) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _allowed(hint: Any, limits: options.Limits) -> str:
    """What a value may be: its type and its limits, in words."""
    kinds = kinds_of(hint)
    enums: list[Any] = [kind for kind in kinds if isinstance(kind, enum.EnumMeta)]
    members = [member for kind in enums for member in kind]
    choices = limits.choices or tuple(str(member.value) for member in members)
    literal = next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal), ())
    lists = [kind for kind in kinds if kind is list or typing.get_origin(kind) is list]
    if choices or (literal and not lists):
        said = f"one of {', '.join(choices or map(str, literal))}"
        said = f"list of {', '.join(choices)}" if lists and limits.choices else said
    else:
        plain = {typing.get_origin(kind) or kind for kind in kinds if kind not in lists}
        words = [name for kind, name in _NAMES.items() if kind in plain]
        if dict in plain or Any in plain:  # text stands for one, as JSON
            words = ["mapping"]
        items = {name for kind in lists for one in typing.get_args(kind) if (name := _NAMES.get(one))}
        words += [f"list of {items.pop() if items else 'text'}s".replace("texts", "text")] if lists else []
        said = ", ".join(filter(None, [" or ".join(words) or "text", limits.words()]))
    return f"{said}, or null" if type(None) in kinds and limits.null else said


def table(stage: str | None = None) -> str:
    """The keys for a terminal.

    Raises:
        UserError: no such stage.
    """
    room = max(40, shutil.get_terminal_size((160, 24)).columns - 88)
    parts = []
    for group in groups(stage):
        rows = [dataclasses.astuple(key) for key in group.keys]
        where = "" if stage else f" ({', '.join(group.stages)})"
        text = tabulate(rows, COLUMNS, "simple", disable_numparse=True, maxcolwidths=[None, 24, 28, room])
        parts.append(f"{group.title}{where}\n\n{text}")
    return "\n\n\n".join(parts) + "\n"


def markdown() -> str:
    """recipes/KEYS.md: all keys of all stages, every group of them once."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    lines = [
        "# Keys of a recipe", "",
        f"Written by `rlcomm keys --markdown > recipes/KEYS.md` ({versions}); `rlcomm keys STAGE` lists "
        "those of one stage. A stage's own keys come first, then what stages share, then TRL's and "
        "transformers' in their words. A key that stands in two groups of a stage has the default of the "
        "first.", "",
        "| stage | what its recipe holds |", "|---|---|",
    ]  # fmt: skip
    lines += [f"| `{name}` | {str(cls.__doc__).partition(chr(10))[0]} |" for name, cls in STAGES.items()]
    for group in groups():
        lines += ["", f"## {group.title}", "", f"In {', '.join(f'`{name}`' for name in group.stages)}.", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|"]
        lines += [
            f"| `{key.name}` | `{key.default}` | {_cell(key.allowed)} | {_cell(key.meaning)} |"
            for key in group.keys
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
