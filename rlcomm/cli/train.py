"""Commands that train: quickstart, train, pipeline, reference."""

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from rlcomm.cli.common import Commands, command, load, print_summary


def add(commands: Commands) -> None:
    """Adds them to the command line."""
    quick = command(
        commands, "quickstart", _quickstart, "the whole method on the embedded world, base to report"
    )
    quick.add_argument("--output_dir", default="runs/quickstart")
    quick.add_argument("--from_scratch", action="store_true", help="train the base and the reference anew")
    quick.add_argument("--seed", type=int, default=0)
    quick.add_argument("--tiny", action="store_true", help="a few steps of everything, to see that it runs")
    command(commands, "train", _train, "one stage: base, warmup, step_rr, ans_co, ...", recipe=True)
    command(commands, "pipeline", _pipeline, "a chain of stages, each its own process; resumes", recipe=True)
    command(
        commands, "reference", _reference, "the audio model's reasoning, one per row, cached", recipe=True
    )


def _quickstart(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.orchestra.quickstart import quickstart

    out = Path(arguments.output_dir)
    summary = quickstart(out, arguments.seed, arguments.from_scratch, arguments.tiny)
    print_summary(summary, out)


def _train(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = load(arguments, rest, "train")
    from rlcomm.stages.resume import finished
    from rlcomm.utils import processes

    if finished(recipe.output_dir):
        from rlcomm.export import hub
        from rlcomm.stages.resume import open_run

        open_run(recipe)  # refuses a folder of another recipe
        if recipe.push_to_hub and processes.is_main():
            hub.push(recipe)
        print(f"{recipe.output_dir}: this stage is finished; remove the folder to train it again.")
        return
    if recipe.stage in ("base", "audio"):
        from rlcomm.orchestra import miniature

        (miniature.train_base if recipe.stage == "base" else miniature.train_audio)(recipe)
    elif recipe.stage in ("step_rr", "grpo"):
        from rlcomm.stages import step_rr

        step_rr.train(recipe)
    elif recipe.stage == "ans_co":
        from rlcomm.stages import ans_co

        ans_co.train(recipe)
    else:
        from rlcomm.stages import sft

        sft.train(recipe)


def _pipeline(arguments: argparse.Namespace, rest: list[str]) -> None:
    dotted, plain = split_dotted(rest)
    recipe = load(arguments, plain, "pipeline")
    from rlcomm.orchestra import asymmetric
    from rlcomm.stages.pipeline import run_pipeline

    if dotted:
        recipe.overrides = [*recipe.overrides, *dotted]
        recipe.given["overrides"] = recipe.overrides
    summary = run_pipeline(recipe, Path(arguments.recipe).parent, **asymmetric.facts(recipe))
    print_summary(summary, Path(recipe.output_dir))


def split_dotted(rest: list[str]) -> tuple[list[str], list[str]]:
    """`--stage.key value ...` apart from `--key value ...`."""
    dotted: list[str] = []
    plain: list[str] = []
    target = plain
    for item in rest:
        if item.startswith("--") and "." in item.split("=")[0]:
            key, _, value = item[2:].partition("=")
            dotted.append(f"{key}={shlex.quote(value) if '=' in item else ''}")
            target = dotted
        elif item.startswith("--"):
            plain.append(item)
            target = plain
        elif target is dotted:
            dotted[-1] += ("" if dotted[-1].endswith("=") else " ") + shlex.quote(item)
        else:
            plain.append(item)
    return dotted, plain


def _reference(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = load(arguments, ["--purpose" if item == "--for" else item for item in rest], "reference")
    from rlcomm.data.sample import read_jsonl
    from rlcomm.reference.rows import write_references
    from rlcomm.reference.sights import policy_sight, sights, write_sights
    from rlcomm.reference.warmup import write_warmup
    from rlcomm.stages.resume import other_stage
    from rlcomm.utils import files, processes

    samples = read_jsonl(recipe.dataset)[: recipe.max_rows]
    if recipe.purpose == "labels":
        if processes.is_main():
            from rlcomm.reference.labels import write_labels

            _print_labels(write_labels(samples, recipe))
        return
    started = time.time()
    see = policy_sight(recipe)
    if recipe.purpose == "warmup":
        report = write_warmup(samples, recipe, see=see)
    else:
        kept = sights(recipe.output) if recipe.sight else {}
        report = write_references(samples, recipe)
    if report is None:  # the first process speaks
        return
    if recipe.purpose == "warmup":
        print(f"{report['written']} warm-up rows written, {len(report['rejected'])} rejected (listed beside)")
        if report["mix"]:
            counted = report["mix"]
            print(
                f"{counted['distinct']} rows with reasoning and {counted['repeated']} repeats of them, "
                f"{counted['exchanged']} with exchanged senses, {counted['replayed']} asked directly; rarest "
                f"type {min(counted['types'].values()):.1%} (all in {Path(recipe.output).stem}.mix.json)"
            )
    exact = report["hearing_exact"]
    known = (
        ""
        if exact["value"] is None
        else f"; it names exactly what sounds in {exact['value']:.1%} of {exact['n']} rows"
    )
    print(f"{recipe.output}: {report['with_reference']} of {report['rows']} rows have a reference{known}")
    if report["failed"]:
        print(
            f"{len(report['failed'])} failed (meta.reference.failed says why); run again, they are tried anew"
        )
    if recipe.purpose == "rl" and recipe.sight:
        seen = write_sights(recipe.output, see, recipe, kept)
        print(f"{recipe.output}: {seen} of {report['rows']} rows have a sight")
    if recipe.purpose == "rl" and not other_stage(Path(recipe.output).parent):  # a stage of a pipeline
        files.write_json(
            Path(recipe.output).parent / "stage.json",
            {"stage": "reference", "seconds": round(time.time() - started, 1),
             "peak_rss_mb": processes.peak_rss_mb(), "hearing_exact": exact["value"], "rows": report["rows"],
             "with_reference": report["with_reference"]},
        )  # fmt: skip


def _print_labels(report: dict[str, Any]) -> None:
    agree, mixed = report["agree"], report["mix"]
    known = f", {agree['value']:.1%} as the row itself says" if agree["n"] else ""
    print(f"{report['out']}: {report['rows']} rows, {report['labelled']} labels compared{known}")
    for reason, count in report["left_out"].items():
        print(f"left out: {count} ({reason})")
    print(f"{mixed['distinct']} distinct rows, rarest type {min(mixed['types'].values()):.1%}")
