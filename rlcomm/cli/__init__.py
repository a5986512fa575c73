"""`rlcomm COMMAND ...`: a file a group of commands, each in a few lines; what is heavy is imported in it."""

import argparse
import errno
import os
import sys
import warnings
from typing import Any

from rlcomm.cli import bench, data, doctor, export, keys, measure, recipes, show, train
from rlcomm.utils.errors import UserError

_GROUPS = (train, measure, export, doctor, show, bench, data, recipes, keys)  # as the help lists them


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, or 2 for a user's mistake (one sentence on stderr, no traceback), or 130 after Ctrl-C.
    """
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not getattr(arguments, "overridable", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for noise in (
        "'pin_memory' argument is set",
        "`gradient_checkpointing` is deprecated",
        "`is_gradient_checkpointing` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=noise)
    try:
        arguments.run(arguments, rest)
        return 0
    except UserError as error:
        _say(str(error))
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(
            f"{error.filename or 'a file'}: could not be written ({error.strerror}); free space and run the "
            "same command again, it goes on from what is finished."
        )
        return 2
    except KeyboardInterrupt:
        _say("interrupted; run the same command again, it goes on from what is finished.")
        return 130


def _say(sentence: str) -> None:
    """The last word of a command, on a line of its own: a bar that nobody closed stands in the last one."""
    if "tqdm" in sys.modules:
        for bar in list(getattr(sys.modules["tqdm"].tqdm, "_instances", ())):
            bar.close()
    print(f"rlcomm: {sentence}", file=sys.stderr)


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that alone costs more than the help of every command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import importlib.metadata

        try:
            found = importlib.metadata.version("rlcomm")
        except importlib.metadata.PackageNotFoundError:  # run from its source
            found = "without a version, not installed"
        print(f"rlcomm {found}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="rlcomm", description="RL fine-tuning of modality-balanced omni models."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which rlcomm this is")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in _GROUPS:
        group.add(commands)
    return parser
