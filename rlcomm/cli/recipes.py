"""`rlcomm recipes list | copy`."""

import argparse
import textwrap
from pathlib import Path

from rlcomm.cli.common import Commands, command


def add(commands: Commands) -> None:
    """Adds them to the command line."""
    recipes = commands.add_parser("recipes", help="the recipes that rlcomm ships").add_subparsers(
        dest="recipes_command", required=True, metavar="COMMAND"
    )
    command(recipes, "list", _list, "every recipe that is shipped, and what it is")
    copy = command(recipes, "copy", _copy, "recipes to change and keep: a folder of them, or one file")
    copy.add_argument("name", help="of `rlcomm recipes list`, or a folder of it; `launch`: how runs start")
    copy.add_argument("--to", help="folder or file to make; default: the name, below recipes/")


def _list(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.utils.shipped import shipped

    folder = shipped("recipes")
    what = {str(path.relative_to(folder)): _what(path) for path in sorted(folder.rglob("*.yaml"))}
    for name, said in what.items():
        print(f"{name:<{max(map(len, what))}}  {said}")
    print(f"\nThey lie in {folder}; the accelerate configurations beside it are copied as `launch`.")


def _what(path: Path) -> str:
    """What its header says that it is, shortened to a line."""
    header = path.read_text(encoding="utf-8").partition("# Hardware:")[0]
    words = header.replace("#", " ").split()[1:]  # without "What:"
    return textwrap.shorten(" ".join(words), 80, placeholder=" ...")


def _copy(arguments: argparse.Namespace, rest: list[str]) -> None:
    import shutil

    from rlcomm.utils import files
    from rlcomm.utils.errors import UserError
    from rlcomm.utils.shipped import shipped

    name = arguments.name.removeprefix("recipes/").rstrip("/")
    target = name if name.split("/")[0] == "launch" else f"recipes/{name}"
    source, out = shipped(target), Path(arguments.to or target)
    if out.exists():
        raise UserError(f"--to is {out}, which exists already; remove it or choose another place.")
    with files.replacing(out, directory=source.is_dir()) as beside:
        if source.is_dir():
            shutil.copytree(source, beside, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, beside)
    print(f"{out}: copied from {source}")
