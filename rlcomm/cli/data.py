"""`rlcomm data orchestra | import | confuse | check`."""

import argparse

from rlcomm.cli.common import Commands, command
from rlcomm.utils.errors import UserError


def add(commands: Commands) -> None:
    """Adds them to the command line."""
    data = commands.add_parser("data", help="make, import, confuse and check data").add_subparsers(
        dest="data_command", required=True, metavar="COMMAND"
    )
    _add_orchestra(data)
    _add_import(data)
    _add_confuse(data)
    _add_check(data)


def _add_orchestra(commands: Commands) -> None:
    orchestra = command(commands, "orchestra", _orchestra, "render the embedded world")
    orchestra.add_argument("--out", default="runs/orchestra", help="data folder to make")
    orchestra.add_argument("--seed", type=int, default=0, help="of the world")
    orchestra.add_argument(
        "--asymmetric", type=float, default=0.5, help="share of scenes with one instrument muted"
    )
    orchestra.add_argument("--workers", type=int, default=2, help="processes")
    for split, rows in (("sync", 0), ("warmup", 100), ("train", 1000), ("conflict", 0), ("test", 300)):
        orchestra.add_argument(f"--{split}", type=int, default=rows, help="rows")


def _add_import(commands: Commands) -> None:
    imported = command(
        commands,
        "import",
        _import,
        "MUSIC-AVQA, AVQA, R1-family, MCR-BENCH or released warm-up files to samples",
    )
    imported.add_argument("kind", choices=("music_avqa", "avqa", "r1", "mcr", "warmup"))
    imported.add_argument("file", help="of that format")
    imported.add_argument("--media_dir", required=True, help="folder of the clips")
    imported.add_argument("--out", required=True, help="JSON Lines file of samples to write")
    imported.add_argument("--limit", type=int, help="the first so many good rows; default: all")


def _add_confuse(commands: Commands) -> None:
    confuse = command(commands, "confuse", _confuse, "muted, modified or shifted variants of your clips")
    confuse.add_argument("clips", help="folder, clip, or JSON Lines file of samples")
    confuse.add_argument(
        "--mode", required=True, choices=("muted", "modified", "shifted"),
        help="sound silenced, replaced, or moved in time; the picture is copied",
    )  # fmt: skip
    confuse.add_argument("--out", required=True, help="data folder to make")
    confuse.add_argument("--stems", help="folder <clip id>/<instrument>.wav")
    confuse.add_argument("--sounds", help="folder of <sound type>.wav")
    confuse.add_argument("--instruments", help="JSON: clip id -> names")
    confuse.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="of shifted: so much later comes the sound; below 0: earlier",
    )
    confuse.add_argument("--limit", type=int, help="the first so many clips; default: all")
    confuse.add_argument("--workers", type=int, default=2, help="processes")


def _add_check(commands: Commands) -> None:
    check = command(commands, "check", _check, "read every row and open every clip of a file")
    check.add_argument("file", help="JSON Lines file of samples")
    check.add_argument("--workers", type=int, default=2, help="processes")


def _orchestra(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.orchestra.build import build

    sizes = {split: getattr(arguments, split) for split in ("sync", "warmup", "train", "conflict", "test")}
    build(
        arguments.out,
        seed=arguments.seed,
        asymmetric=arguments.asymmetric,
        workers=arguments.workers,
        **sizes,
    )
    print(f"{arguments.out}: {', '.join(f'{rows} {split}' for split, rows in sizes.items() if rows)}")


def _import(arguments: argparse.Namespace, rest: list[str]) -> None:
    if arguments.kind == "mcr":  # a benchmark, so its reader stands above the data
        from rlcomm.data.sample import write_jsonl
        from rlcomm.data.sources import ImportReport
        from rlcomm.evaluation.benchmarks import mcr

        rows = mcr.training_rows(arguments.file, arguments.media_dir, arguments.limit)
        write_jsonl(arguments.out, rows)
        print(ImportReport(arguments.out, len(rows)))
        return
    from rlcomm.data.sources import import_file

    print(import_file(arguments.kind, arguments.file, arguments.media_dir, arguments.out, arguments.limit))


def _confuse(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.data.confuse import confuse

    options = {
        k: getattr(arguments, k) for k in ("stems", "sounds", "instruments", "seconds", "limit", "workers")
    }
    print(confuse(arguments.clips, arguments.out, arguments.mode, **options))


def _check(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.data.check import check

    found = check(arguments.file, workers=arguments.workers)
    print("\n".join(found) if found else f"{arguments.file}: all rows and clips are fine")
    problems = [line for line in found if not line.startswith("note: ")]
    if problems:
        raise UserError(
            f"{arguments.file}: {len(problems)} problem(s), listed above; mend them and check again."
        )
