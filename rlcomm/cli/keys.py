"""`rlcomm keys`."""

import argparse

from rlcomm.cli.common import Commands, command


def add(commands: Commands) -> None:
    """Adds it to the command line."""
    keys = command(commands, "keys", _keys, "every key of a recipe: default, what it may be, what it means")
    what = keys.add_mutually_exclusive_group()
    what.add_argument("stage", nargs="?", help="step_rr, sft, eval, ...; default: the keys of all stages")
    what.add_argument("--markdown", action="store_true", help="as recipes/KEYS.md has them")


def _keys(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.config import keys

    print(keys.markdown() if arguments.markdown else keys.table(arguments.stage), end="")
