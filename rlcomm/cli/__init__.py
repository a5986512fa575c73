"""`rlcomm COMMAND ...`: every command in a few lines; what is heavy is imported in it."""

import argparse
import errno
import json
import os
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from rlcomm.utils.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, or 2 for a user's mistake (one sentence on stderr, no traceback), or 130 after Ctrl-C.
    """
    parser = _parser()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcomm", description="RL fine-tuning of modality-balanced omni models."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which rlcomm this is")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, recipe: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run, overridable=recipe)
        if recipe:
            sub.add_argument("recipe", help="YAML file; any of its keys can be given as --key value")
        return sub

    quick = command(
        "quickstart", _quickstart, "the whole method on the embedded world, base to report", False
    )
    quick.add_argument("--output_dir", default="runs/quickstart")
    quick.add_argument("--from_scratch", action="store_true", help="train the base and the reference anew")
    quick.add_argument("--seed", type=int, default=0)
    quick.add_argument("--tiny", action="store_true", help="a few steps of everything, to see that it runs")
    command("train", _train, "one stage: base, warmup, step_rr, ans_co, ...", recipe=True)
    command("pipeline", _pipeline, "a chain of stages, each its own process; resumes", recipe=True)
    command("reference", _reference, "the audio model's reasoning, one per row, cached", recipe=True)
    command("eval", _eval, "a model on conflict benchmarks", recipe=True)
    audit = command("audit", _audit, "can the rewards of a recipe be gamed? no model needed", recipe=True)
    audit.add_argument(
        "--write_policy", nargs=2, metavar=("NAME", "FILE"),
        help="write the rows with a degenerate policy's (or `honest`) completions as SFT targets instead",
    )  # fmt: skip
    audit.add_argument(
        "--policy_share", type=float, default=1.0, help="share of those rows in [0, 1], the others are honest"
    )
    command("diagnose", _diagnose, "why a model chooses the wrong sense", recipe=True)
    export = command("export", _export, "a trained model as a checkpoint that transformers or PEFT load")
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
    doctor = command("doctor", _doctor, "this machine, and a training recipe: what it needs before it runs")
    doctor.set_defaults(overridable=True)
    doctor.add_argument(
        "recipe", nargs="?", help="YAML file of a training stage; any of its keys can be given as --key value"
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
    show = command("show", _show, "the table of a run, or the mean of several (seeds) with its interval")
    show.add_argument("folders", nargs="+", help="run folders")
    show.add_argument(
        "--seeds", action="store_true",
        help="of diagnoses STAGE/SEED: a column a stage, means over its seeds, beside published figures",
    )  # fmt: skip

    costs = commands.add_parser("bench", help="what things cost, side by side in one run").add_subparsers(
        dest="bench_command", required=True, metavar="COMMAND"
    )
    cost = costs.add_parser("gacl", help="GACL in candidate mode against plain joint scoring")
    cost.add_argument("--model_name_or_path", default="nano_omni")
    cost.add_argument("--seconds", type=float, default=30.0, help="length of the clips")
    cost.add_argument("--items", type=int, default=2, help="questions in a batch")
    cost.add_argument("--rounds", type=int, default=5)
    cost.add_argument("--json", help="file for the figures")
    cost.set_defaults(run=_bench_gacl)

    cost = costs.add_parser("step", help="a GRPO step that pays for every prompt once, against TRL's rows")
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
    cost.set_defaults(run=_bench_step)

    data = commands.add_parser("data", help="make, import, confuse and check data").add_subparsers(
        dest="data_command", required=True, metavar="COMMAND"
    )
    orchestra = data.add_parser("orchestra", help="render the embedded world")
    orchestra.add_argument("--out", default="runs/orchestra", help="data folder to make")
    orchestra.add_argument("--seed", type=int, default=0, help="of the world")
    orchestra.add_argument(
        "--asymmetric", type=float, default=0.5, help="share of scenes with one instrument muted"
    )
    orchestra.add_argument("--workers", type=int, default=2, help="processes")
    for split, rows in (("sync", 0), ("warmup", 100), ("train", 1000), ("conflict", 0), ("test", 300)):
        orchestra.add_argument(f"--{split}", type=int, default=rows, help="rows")
    orchestra.set_defaults(run=_orchestra)
    imported = data.add_parser(
        "import", help="MUSIC-AVQA, AVQA, R1-family, MCR-BENCH or released warm-up files to samples"
    )
    imported.add_argument("kind", choices=("music_avqa", "avqa", "r1", "mcr", "warmup"))
    imported.add_argument("file", help="of that format")
    imported.add_argument("--media_dir", required=True, help="folder of the clips")
    imported.add_argument("--out", required=True, help="JSON Lines file of samples to write")
    imported.add_argument("--limit", type=int, help="the first so many good rows; default: all")
    imported.set_defaults(run=_import)
    confuse = data.add_parser("confuse", help="muted, modified or shifted variants of your clips")
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
    confuse.set_defaults(run=_confuse)
    check = data.add_parser("check", help="read every row and open every clip of a file")
    check.add_argument("file", help="JSON Lines file of samples")
    check.add_argument("--workers", type=int, default=2, help="processes")
    check.set_defaults(run=_check)
    return parser


# -- training ------------------------------------------------------------------------------------------------


def _load(arguments: argparse.Namespace, overrides: list[str], command: str) -> Any:
    """The recipe of a command; one of another command is refused."""
    from rlcomm.config.load import load_recipe

    recipe = load_recipe(arguments.recipe, overrides)
    right = recipe.stage if recipe.stage in ("reference", "eval", "diagnose", "pipeline") else "train"
    if right != command:
        raise UserError(
            f"{arguments.recipe}: is a {recipe.stage} recipe, which `rlcomm {command}` cannot run; use "
            f"`rlcomm {right}`."
        )
    return recipe


def _train(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = _load(arguments, rest, "train")
    from rlcomm.stages.run import finished

    if finished(recipe.output_dir):
        from rlcomm.export import hub
        from rlcomm.stages.run import is_main, open_run

        open_run(recipe)  # refuses a folder of another recipe
        if recipe.push_to_hub and is_main():
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
    dotted, plain = _split_dotted(rest)
    recipe = _load(arguments, plain, "pipeline")
    from rlcomm.stages.pipeline import run_pipeline

    if dotted:
        recipe.overrides = [*recipe.overrides, *dotted]
        recipe.given["overrides"] = recipe.overrides
    _print_summary(run_pipeline(recipe, Path(arguments.recipe).parent), Path(recipe.output_dir))


def _split_dotted(rest: list[str]) -> tuple[list[str], list[str]]:
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
    recipe = _load(arguments, ["--purpose" if item == "--for" else item for item in rest], "reference")
    from rlcomm.data.sample import read_jsonl
    from rlcomm.reference import write as reference
    from rlcomm.stages.run import other_stage, peak_rss_mb
    from rlcomm.utils import files, processes

    samples = read_jsonl(recipe.dataset)[: recipe.max_rows]
    options = dict(
        media=recipe.media(), cache_dir=recipe.media_cache_dir, batch_size=recipe.batch_size,
        seed=recipe.seed, temperature=recipe.temperature, top_p=recipe.top_p,
        max_new_tokens=recipe.max_new_tokens, revision=recipe.model_revision, dtype=recipe.dtype,
        backend=recipe.reference_backend, window=recipe.audio_window, concurrency=recipe.concurrency,
        timeout=recipe.timeout, retries=recipe.retries,
    )  # fmt: skip
    started = time.time()
    see = reference.policy_sight(
        recipe.policy_model, recipe.media(), cache_dir=recipe.media_cache_dir,
        batch_size=recipe.batch_size, dtype=recipe.dtype, device=processes.device(),
    )  # fmt: skip
    if recipe.purpose == "warmup":
        report = reference.write_warmup(samples, recipe.model_name_or_path, recipe.output, see=see, **options)
    else:
        kept = reference.sights(recipe.output) if recipe.sight else {}
        report = reference.write_references(samples, recipe.model_name_or_path, recipe.output, **options)
    if report is None:  # the first process speaks
        return
    if recipe.purpose == "warmup":
        print(f"{report['written']} warm-up rows written, {len(report['rejected'])} rejected (listed beside)")
    exact = report["hearing_exact"]
    known = (
        ""
        if exact["value"] is None
        else f"; it names exactly what sounds in {exact['value']:.1%} of {exact['n']} rows"
    )
    print(f"{recipe.output}: {report['with_reference']} of {report['rows']} rows have a reference{known}")
    if recipe.purpose == "rl" and recipe.sight:
        seen = reference.write_sights(recipe.output, see, recipe.policy_model, recipe.media(), kept)
        print(f"{recipe.output}: {seen} of {report['rows']} rows have a sight")
    if recipe.purpose == "rl" and not other_stage(Path(recipe.output).parent):  # a stage of a pipeline
        files.write_json(
            Path(recipe.output).parent / "stage.json",
            {"stage": "reference", "seconds": round(time.time() - started, 1), "peak_rss_mb": peak_rss_mb(),
             "hearing_exact": exact["value"], "rows": report["rows"],
             "with_reference": report["with_reference"]},
        )  # fmt: skip


def _eval(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = _load(arguments, rest, "eval")
    from rlcomm.reports.stages import format_table
    from rlcomm.stages.run import evaluate_conflict, evaluate_run, is_main, other_stage, peak_rss_mb
    from rlcomm.utils import files

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
        if not is_main():
            return
        table = format_table({"stages": {out.name: row}})
    files.write_json(
        out / "stage.json",
        {"stage": "eval", "seconds": round(time.time() - started, 1), "peak_rss_mb": peak_rss_mb()},
    )
    print(table)
    print(out / "results.json")


def _audit(arguments: argparse.Namespace, rest: list[str]) -> None:
    import torch

    # without a GPU transformers refuses bf16 unless it is told that this is meant; an audit trains nothing
    given = rest if torch.cuda.is_available() else [*rest, "--use_cpu", "true"]
    recipe = _load(arguments, given, "train")
    from rlcomm.stages import audit

    audit.check_stage(arguments.recipe, recipe)
    if arguments.write_policy:
        name, file = arguments.write_policy
        print(audit.write_policy(recipe, name, file, arguments.policy_share))
        return
    print(audit.run_audit(recipe))


def _diagnose(arguments: argparse.Namespace, rest: list[str]) -> None:
    recipe = _load(arguments, rest, "diagnose")
    from rlcomm.diagnostics import compare
    from rlcomm.stages.run import diagnose_model

    if diagnose_model(recipe) is None:  # the first process speaks
        return
    print(compare.format_table([compare.load(folder) for folder in (*recipe.compare, recipe.output_dir)]))
    print(Path(recipe.output_dir) / "diagnosis.html")


def _export(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.export.convert import export

    print(export(arguments.model, arguments.to, arguments.out, arguments.base, arguments.dtype))


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


def _bench_gacl(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.bench import gacl as bench
    from rlcomm.utils import files

    result = bench.gacl(arguments.model_name_or_path, arguments.seconds, arguments.items, arguments.rounds)
    if arguments.json:
        files.write_json(arguments.json, result)
    print(bench.format_gacl(result))


def _bench_step(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.bench import step as bench_step
    from rlcomm.utils import files

    options = bench_step.Options(
        parts=arguments.parts, scorings=arguments.scorings, rounds=arguments.rounds,
        memory=not arguments.no_memory, clock=arguments.clock, embedder=arguments.embedder,
    )  # fmt: skip
    result = bench_step.step(
        arguments.prompt_lengths, arguments.completion_lengths, arguments.generations, arguments.prompts,
        arguments.model_name_or_path, arguments.hidden, arguments.layers, arguments.dtype, options,
    )  # fmt: skip
    if arguments.json:
        files.write_json(arguments.json, result)
    print(bench_step.format_step(result))


# -- quickstart and show -------------------------------------------------------------------------------------


def _quickstart(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm.orchestra.quickstart import quickstart

    out = Path(arguments.output_dir)
    summary = quickstart(out, arguments.seed, arguments.from_scratch, arguments.tiny)
    _print_summary(summary, out)


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    from rlcomm.reports.stages import format_table

    print()
    print(format_table(summary))
    print(out / "report.html")


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
        _print_summary(next(iter(runs.values())), Path(arguments.folders[0]))
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


# -- data ----------------------------------------------------------------------------------------------------


def _orchestra(arguments: argparse.Namespace, rest: list[str]) -> None:
    from rlcomm import orchestra

    sizes = {split: getattr(arguments, split) for split in ("sync", "warmup", "train", "conflict", "test")}
    orchestra.build(
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
