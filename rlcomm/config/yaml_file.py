"""YAML files that hold a recipe: a flat mapping, every key once, UTF-8."""

import os
from pathlib import Path
from typing import Any

import yaml

from rlcomm.utils.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML that says nothing twice: of two equal keys PyYAML silently takes the last."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Aliases of lists and mappings are refused: a flat file needs none, and they could grow for ever."""
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        node = super().compose_node(parent, index)
        if alias and isinstance(node, yaml.CollectionNode):
            raise yaml.MarkedYAMLError(problem=f"an alias in line {mark.line + 1}; write its value out")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML does, once no key is there twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    both = f"lines {lines[key.value]} and {line}"
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is set twice, in {both}; keep one")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a flat mapping.

    Raises:
        UserError: it is missing, not UTF-8, not YAML, says a key twice, or is not a mapping.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}), as a recipe has "
            "to be; save it as UTF-8."
        ) from error
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply; a recipe is a flat mapping.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        said = getattr(error, "problem", None) or str(error)
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        raise UserError(f"{path}: is not valid YAML ({said.splitlines()[0]}{line}); correct it.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no `key: value` lines; a recipe is a flat mapping.")
    return values
