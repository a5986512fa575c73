"""`rlcomm doctor`."""

import argparse
from typing import Any

from rlcomm.cli.common import Commands, command
from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import given_or_shipped


def add(commands: Commands) -> None:
    """Adds it to the command line."""
    doctor = command(
        commands, "doctor", _doctor, "this machine, and a training recipe: what it needs before it runs"
    )
    doctor.set_defaults(overridable=True)
    doctor.add_argument(
        "recipe",
        nargs="?",
        type=given_or_shipped,
        help="YAML file of a training stage; any of its keys can be given as --key value",
    )
    doctor.add_argument("--rows", type=int, default=4, help="the first so many rows are opened")
    doctor.add_argument("--seconds", type=float, help="size a prompt for a clip so long, not for those rows")
    doctor.add_argument("--width", type=int, default=640, help="of that clip, in pixels")
    doctor.add_argument("--height", type=int, default=360, help="of that clip, in pixels")
    doctor.add_argument("--memory_gb", type=float, help="of a device; default: those here, or 80")
    doctor.add_argument("--ranks", type=int, default=8, help="processes that ZeRO divides over")
    doctor.add_argument("--measure", action="store_true", help="take real steps and compare")
    doctor.add_argument("--steps", type=int, default=2, help="so many of them, with --measure")
    doctor.add_argument("--json", help="file for all that was found")


def _doctor(arguments: argparse.Namespace, rest: list[str]) -> None:
    if rest and arguments.recipe is None:
        raise UserError(
            f"{rest[0]} is given without a recipe that it could be a key of; name the recipe first."
        )
    for name in ("rows", "steps", "ranks", "width", "height", "seconds", "memory_gb"):
        if (value := getattr(arguments, name)) is not None and value <= 0:
            raise UserError(f"--{name} is {value:g}, which is nothing to look at; give a number above 0.")
    from rlcomm.doctor import examine as doctor
    from rlcomm.doctor import machine
    from rlcomm.utils import files

    found: dict[str, Any] = {}
    if arguments.recipe is not None:
        options = {field: getattr(arguments, field) for field in doctor.Options.__dataclass_fields__}
        found["recipe"] = doctor.examine(arguments.recipe, rest, doctor.Options(**options))
    places = [found["recipe"]["output_dir"]] if found else []
    found["environment"] = machine.environment(places)
    print("\n".join(machine.lines(found["environment"])))
    if "recipe" in found:
        print("\n".join(["", *doctor.lines(found["recipe"])]))
    if arguments.json:
        files.write_json(arguments.json, found)
    problems = found.get("recipe", {}).get("problems", [])
    if problems:
        raise UserError(
            f"{arguments.recipe}: {len(problems)} problem(s), listed above; mend them and ask again."
        )
