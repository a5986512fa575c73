"""What the groups of commands share: how one is added, and how its recipe is read."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import given_or_shipped

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace, list[str]], None]


def command(
    commands: Commands, name: str, run: Run, help: str, recipe: bool = False
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: of the parser that it belongs to.
        name: as it is called.
        run: is given the parsed arguments and the words that are none of them.
        help: one line.
        recipe: it takes a recipe, whose keys those words are.

    Returns:
        Its parser, for the options of its own.
    """
    sub = commands.add_parser(name, help=help, description=help)
    sub.set_defaults(run=run, overridable=recipe)
    if recipe:
        sub.add_argument(
            "recipe", type=given_or_shipped, help="YAML file; any of its keys can be given as --key value"
        )
    return sub


def load(arguments: argparse.Namespace, overrides: list[str], command: str) -> Any:
    """The recipe of a command; one of another command is refused."""
    from rlcomm.config.load import load_recipe

    recipe = load_recipe(arguments.recipe, overrides)
    right = recipe.stage if recipe.stage in ("reference", "eval", "diagnose", "pipeline") else "train"
    if right != command:
        raise UserError(
            f"{arguments.recipe}: is a {recipe.stage} recipe, which `rlcomm {command}` cannot run; use "
            f"`rlcomm {right}`."
        )
    return recipe


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """The table of a pipeline and the path of its page."""
    from rlcomm.reports.stages import format_table

    print()
    print(format_table(summary))
    print(out / "report.html")
