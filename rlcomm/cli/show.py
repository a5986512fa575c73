"""`rlcomm show`."""

import argparse
import json
from pathlib import Path
from typing import Any

from rlcomm.cli.common import Commands, command, print_summary
from rlcomm.utils.errors import UserError


def add(commands: Commands) -> None:
    """Adds it to the command line."""
    show = command(
        commands, "show", _show, "the table of a run, or the mean of several (seeds) with its interval"
    )
    show.add_argument("folders", nargs="+", help="run folders")
    show.add_argument(
        "--seeds", action="store_true",
        help="of diagnoses STAGE/SEED: a column a stage, means over its seeds, beside published figures",
    )  # fmt: skip


def _show(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.reports.stages import format_seeds

    if arguments.seeds or all((Path(folder) / "diagnosis.json").exists() for folder in arguments.folders):
        from rlcomm.diagnostics import compare, seeds

        diagnoses = [compare.load(folder) for folder in arguments.folders]
        stages: dict[str, list[Any]] = {}
        for one in diagnoses:
            stages.setdefault(Path(one.name).parent.name, []).append(one)
        print(seeds.format_stages(stages) if arguments.seeds else compare.format_table(diagnoses))
        return
    if all(_is_conflict(folder) for folder in arguments.folders):
        _show_conflict(arguments.folders)
        return
    runs = {}
    for folder in map(Path, arguments.folders):
        if not (folder / "summary.json").exists():
            raise UserError(
                f"{folder}: has no summary.json; give the folder of a finished pipeline or quickstart."
            )
        name = folder.name if folder.name not in runs else str(folder)
        runs[name] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if len(runs) == 1:
        print_summary(next(iter(runs.values())), Path(arguments.folders[0]))
    else:
        print(format_seeds(runs))


def _is_conflict(folder: str) -> bool:
    """Whether a folder holds an evaluation of `rlcomm eval --benchmarks`, and no pipeline."""
    path = Path(folder) / "results.json"
    if not path.exists() or (Path(folder) / "summary.json").exists():
        return False
    return all(
        "chosen" in entry for entry in json.loads(path.read_text(encoding="utf-8"))["decoders"].values()
    )


def _show_conflict(folders: list[str]) -> None:
    from rlcomm.reports.conflict import format_runs, format_table

    runs = {
        folder: json.loads((Path(folder) / "results.json").read_text(encoding="utf-8")) for folder in folders
    }
    print(format_runs(runs) if len(runs) > 1 else format_table(runs[folders[0]]))
