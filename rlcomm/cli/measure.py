"""Commands that measure a model or its rewards: eval, audit, diagnose."""

import argparse
import time
from pathlib import Path

from rlcomm.cli.common import Commands, command, load
from rlcomm.utils.errors import UserError


def add(commands: Commands) -> None:
    """Adds them to the command line."""
    command(commands, "eval", _eval, "a model on conflict benchmarks", recipe=True)
    audit = command(
        commands, "audit", _audit, "can the rewards of a recipe be gamed? no model needed", recipe=True
    )
    audit.add_argument(
        "--write_policy", nargs=2, metavar=("NAME", "FILE"),
        help="write the rows with a degenerate policy's (or `honest`) completions as SFT targets instead",
    )  # fmt: skip
    audit.add_argument(
        "--policy_share", type=float, default=1.0, help="share of those rows in [0, 1], the others are honest"
    )
    command(commands, "diagnose", _diagnose, "why a model chooses the wrong sense", recipe=True)


def _eval(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = load(arguments, rest, "eval")
    from rlcomm.reports.stages import format_table
    from rlcomm.stages.measure import evaluate_conflict, evaluate_run
    from rlcomm.stages.resume import other_stage
    from rlcomm.utils import files, processes

    out = Path(recipe.output_dir)
    if stage := other_stage(out):
        raise UserError(
            f"{out}: is the run folder of a {stage} stage, whose own results this evaluation would replace; "
            "choose another --output_dir."
        )
    started = time.time()
    if recipe.benchmarks:
        from rlcomm.reports.conflict import format_table as format_conflict

        if (results := evaluate_conflict(recipe)) is None:
            return
        table = format_conflict(results)
    else:
        row = evaluate_run(out, recipe.model_name_or_path, recipe)
        if not processes.is_main():
            return
        table = format_table({"stages": {out.name: row}})
    files.write_json(
        out / "stage.json",
        {"stage": "eval", "seconds": round(time.time() - started, 1), "peak_rss_mb": processes.peak_rss_mb()},
    )
    print(table)
    print(out / "results.json")


def _audit(arguments: argparse.Namespace, rest: list[str]) -> None:
    import torch

    # without a GPU transformers refuses bf16 unless it is told that this is meant; an audit trains nothing
    given = rest if torch.cuda.is_available() else [*rest, "--use_cpu", "true"]
    recipe = load(arguments, given, "train")
    from rlcomm.stages import audit

    audit.check_stage(arguments.recipe, recipe)
    if arguments.write_policy:
        name, file = arguments.write_policy
        print(audit.write_policy(recipe, name, file, arguments.policy_share))
        return
    print(audit.run_audit(recipe))


def _diagnose(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = load(arguments, rest, "diagnose")
    from rlcomm.diagnostics import compare
    from rlcomm.stages.measure import diagnose_model

    if diagnose_model(recipe) is None:  # the first process speaks
        return
    print(compare.format_table([compare.load(folder) for folder in (*recipe.compare, recipe.output_dir)]))
    print(Path(recipe.output_dir) / "diagnosis.html")
