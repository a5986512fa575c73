"""`rlcomm export`."""

import argparse

from rlcomm.cli.common import Commands, command


def add(commands: Commands) -> None:
    """Adds it to the command line."""
    export = command(
        commands, "export", _export, "a trained model as a checkpoint that transformers or PEFT load"
    )
    export.add_argument("model", help="run folder, its model/ or a checkpoint-N/, or a hub id")
    export.add_argument(
        "--to", required=True, choices=("full", "thinker", "adapter"),
        help="the base with the trained thinker in it, the thinker alone (merged), or the LoRA adapters",
    )  # fmt: skip
    export.add_argument("--out", required=True, help="folder to make")
    export.add_argument("--base", help="the full checkpoint (folder or hub id) that training started from")
    export.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of what is written; default: as stored"
    )


def _export(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.export.convert import export

    print(export(arguments.model, arguments.to, arguments.out, arguments.base, arguments.dtype))
