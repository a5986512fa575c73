"""`rlcomm bench gacl | step`."""

import argparse

from rlcomm.cli.common import Commands, command


def add(commands: Commands) -> None:
    """Adds them to the command line."""
    costs = commands.add_parser("bench", help="what things cost, side by side in one run").add_subparsers(
        dest="bench_command", required=True, metavar="COMMAND"
    )
    _add_gacl(costs)
    _add_step(costs)


def _add_gacl(commands: Commands) -> None:
    cost = command(commands, "gacl", _gacl, "GACL in candidate mode against plain joint scoring")
    cost.add_argument("--model_name_or_path", default="nano_omni")
    cost.add_argument("--seconds", type=float, default=30.0, help="length of the clips")
    cost.add_argument("--items", type=int, default=2, help="questions in a batch")
    cost.add_argument("--rounds", type=int, default=5)
    cost.add_argument("--labels", type=int, default=4, help="candidates of a question")
    cost.add_argument("--text_tokens", type=int, default=0, help="fill the questions up to so many tokens")
    cost.add_argument("--json", help="file for the figures")


def _add_step(commands: Commands) -> None:
    cost = command(commands, "step", _step, "a GRPO step that pays for every prompt once, against TRL's rows")
    whole = dict(type=int, nargs="+")
    cost.add_argument("--prompt_lengths", **whole, default=[512, 1536], help="P, tokens")  # type: ignore[arg-type]
    cost.add_argument("--completion_lengths", **whole, default=[64], help="C, tokens")  # type: ignore[arg-type]
    cost.add_argument("--generations", **whole, default=[8], help="G, completions a prompt")  # type: ignore[arg-type]
    cost.add_argument("--prompts", **whole, default=[1], help="prompts in a batch")  # type: ignore[arg-type]
    cost.add_argument("--scorings", nargs="+", help="forms of scoring; default: all that there are")
    cost.add_argument("--parts", nargs="+", default=["scoring", "rollout", "step"])
    cost.add_argument("--rounds", type=int, default=3)
    cost.add_argument("--model_name_or_path", help="a checkpoint; default: an untrained miniature")
    cost.add_argument("--hidden", type=int, default=384, help="the miniature's width, a multiple of 128")
    cost.add_argument("--layers", type=int, default=6, help="the miniature's decoder layers")
    cost.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    cost.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: processor seconds, which other jobs on the machine hardly change",
    )  # fmt: skip
    cost.add_argument("--embedder", default="minilm", help="of the rewards in a whole step; none: no rewards")
    cost.add_argument("--no_memory", action="store_true", help="do not look for peaks of memory")
    cost.add_argument("--json", help="file for the figures")


def _gacl(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.bench.gacl import format_gacl, gacl
    from rlcomm.utils import files

    given = ("model_name_or_path", "seconds", "items", "rounds", "labels", "text_tokens")
    result = gacl(**{name: getattr(arguments, name) for name in given})
    if arguments.json:
        files.write_json(arguments.json, result)
    print(format_gacl(result))


def _step(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.bench.step import Options, format_step, step
    from rlcomm.omni.policy import load_policy
    from rlcomm.orchestra.untrained import untrained
    from rlcomm.utils import files, processes

    options = Options(
        parts=arguments.parts, scorings=arguments.scorings, rounds=arguments.rounds,
        memory=not arguments.no_memory, clock=arguments.clock, embedder=arguments.embedder,
    )  # fmt: skip
    if arguments.model_name_or_path:
        policy = load_policy(arguments.model_name_or_path, arguments.dtype, device=processes.device())
    else:
        policy = untrained(arguments.hidden, arguments.layers, arguments.dtype, max(arguments.prompt_lengths))
    result = step(
        policy, arguments.prompt_lengths, arguments.completion_lengths, arguments.generations,
        arguments.prompts, options,
    )  # fmt: skip
    if arguments.json:
        files.write_json(arguments.json, result)
    print(format_step(result))
