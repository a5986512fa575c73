"""The pipeline: every stage its own process, from warm-up to report, resuming after the last finished stage.

    base --eval--> warmup -> reference -> step_rr -> ans_co --> summary.json, results.json, report.html

A driver only: it loads no model. A stage starts from the model of the one before, and where it stood if it
was cut off.
"""

import contextlib
import difflib
import importlib.metadata
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlcomm.config.load import check_keys, keys_of, save_recipe
from rlcomm.config.pipeline import PipelineRecipe
from rlcomm.config.stages import STAGES
from rlcomm.config.yaml_file import read_yaml
from rlcomm.evaluation import generated
from rlcomm.evaluation.records import read_records
from rlcomm.export import model_card
from rlcomm.reports import stages as report
from rlcomm.stages.resume import FREE
from rlcomm.utils import files
from rlcomm.utils.child import peak_of_all, run_process
from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import given_or_shipped

SUMMARY_PACKAGES = (
    "rlcomm",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "sentence-transformers",
)
DONE = "stage.json"
SPENT = "spent.json"
_MODEL_STAGES = ("base", "sft", "warmup", "step_rr", "grpo", "ans_co")


def run_pipeline(
    recipe: Any, folder: Path, seconds: dict[str, float] | None = None, **facts: Any
) -> dict[str, Any]:
    """Runs what is not finished yet and writes the summary.

    Args:
        recipe: of the pipeline.
        folder: where the stages' recipe files lie.
        seconds: time spent before the pipeline (rendering, base, reference), by name.
        **facts: further entries of the summary, known before it runs.

    Returns:
        The summary (contract: summary.json).

    Raises:
        UserError: a mistake in what the recipe says of its stages, found before the first one starts; a
            finished stage whose recipe is another one by now; or a stage failed with a user error, and its
            own sentence has been printed.
    """
    out = Path(recipe.output_dir)
    for item in recipe.overrides:
        if (key := item.partition("=")[0]).endswith(".hub_token"):
            raise UserError(
                f"{key} is set, and what a recipe holds is written into its run folder; leave it out and log "
                "in with `hf auth login` or set HF_TOKEN."
            )
    before, given = out / "recipe.yaml", dict(recipe.given)
    if before.exists() and {k: v for k, v in read_yaml(before).items() if k != "launch"} != {
        k: v for k, v in given.items() if k != "launch"
    }:
        raise UserError(
            f"{out}: holds a pipeline of another recipe, which this one would mix with; choose another "
            "--output_dir or remove the folder."
        )
    plan = stage_commands(recipe, folder)
    if idle := idle_overrides(recipe, plan):
        print(f"warning: no such stage in this pipeline, without effect: {', '.join(idle)}", flush=True)
    for name, command in plan:
        if finished(out / name):
            check_finished(out / name, command)
    save_recipe(recipe, before)
    for name, command in plan:
        if finished(out / name):
            print(f"{name}: finished before", flush=True)
            continue
        print(f"{name}: {' '.join(command[command.index('rlcomm') :])}", flush=True)
        # the stages' W&B runs stand together, unless somebody groups them otherwise
        environment = {"WANDB_RUN_GROUP": str(out), **os.environ}
        with clocked(out, name, anew=not (out / name).exists()):
            if (checked := audit_command(command)) and not (out / name / "audit.json").exists():
                run_process(checked, environment)  # what it finds does not end the pipeline
            code = run_process(command, environment)
        if code != 0:
            raise UserError(
                f"stage {name} ended with code {code} (its message stands above); mend that and run the "
                "same command again, it goes on from the last finished stage."
            )
        ended = json.loads((out / name / DONE).read_text(encoding="utf-8"))
        peak = max(ended.get("peak_rss_mb", 0.0), spent(out)[name]["peak_rss_mb"])
        files.write_json(
            out / name / DONE, {**ended, "seconds": spent(out)[name]["seconds"], "peak_rss_mb": peak}
        )
    return summarise(out, [name for name, _ in plan], seconds or {}, **facts)


@contextlib.contextmanager
def clocked(out: Path, name: str, anew: bool) -> Iterator[None]:
    """Adds the seconds spent inside to `spent.json`, so that interrupted work counts as well, and the most
    memory that was used there at once.

    Args:
        out: folder of the pipeline.
        name: of the work.
        anew: nothing is there of an earlier attempt, whose seconds are forgotten.
    """
    before = {} if anew else spent(out).get(name, {})
    started = time.time()
    with peak_of_all() as peak:
        try:
            yield
        finally:
            now = {
                "seconds": round(before.get("seconds", 0.0) + time.time() - started, 1),
                "peak_rss_mb": max(before.get("peak_rss_mb", 0.0), round(peak() / 2**20, 1)),
            }
            files.write_json(out / SPENT, {**spent(out), name: now})


def spent(out: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak of memory so far, by the name of the work."""
    path = out / SPENT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def check_finished(folder: Path, command: list[str]) -> None:
    """Refuses to go on behind a stage that was trained by another recipe than it has now.

    Args:
        folder: run folder of the finished stage; one without recipe.yaml (reference, eval) is taken as it is.
        command: that would train it.

    Raises:
        UserError: names the keys that differ; what the pipeline itself sets is compared with its own recipe.
    """
    if not (folder / "recipe.yaml").exists():
        return
    file, *words = command[command.index("rlcomm") + 2 :]
    before, now = read_yaml(folder / "recipe.yaml"), read_yaml(file)
    compared = (before.keys() | now.keys()) - FREE - set(keys_of(words))
    if changed := sorted(key for key in compared if before.get(key) != now.get(key)):
        raise UserError(
            f"{folder}: is finished, but by another recipe than {file} is now ({', '.join(changed)} "
            "differ), and what follows would stand on it; choose another --output_dir, or remove this folder "
            "and those of the stages behind it."
        )


def stage_commands(recipe: PipelineRecipe, folder: Path) -> list[tuple[str, list[str]]]:
    """The processes of a pipeline in order: (name of the stage's folder, command).

    Raises:
        UserError: a recipe that is missing or has an unknown key, or an override of no stage that there is.
    """
    for item in recipe.overrides:
        if (stage := item.partition(".")[0]) not in STAGES:
            near = difflib.get_close_matches(stage, STAGES, n=1)
            raise UserError(
                f"{item.partition('=')[0]} is set, but no stage is called {stage!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"they are {', '.join(sorted(STAGES))}.")
            )
    out = Path(recipe.output_dir)
    python = [sys.executable, "-m", "rlcomm"]
    launched = launcher(recipe.launch) if recipe.launch else python
    data = Path(recipe.data) if recipe.data else None
    model, rows = recipe.model_name_or_path, None
    plan: list[tuple[str, list[str]]] = []
    if recipe.evaluate_base:
        file = _beside(folder, recipe.evaluate_base)
        for name, style in (("base", "direct"), ("base_steps", "steps")):
            command = [*python, "eval", file, "--model_name_or_path", model, "--prompt_style", style]
            command += ["--output_dir", str(out / name)] + (["--eval_data", str(data)] if data else [])
            plan.append((name, command + _overrides(recipe, "eval")))
    for item in recipe.stages:
        file = _beside(folder, item)
        values = read_yaml(file)
        stage = str(values.get("stage"))
        name = stage if stage not in dict(plan) else Path(item).stem
        if stage == "reference":
            rows = str(out / "reference" / "train.jsonl")
            command = [*launched, "reference", file, "--output", rows]
            command += ["--dataset", str(data / "train.jsonl")] if data else []
        elif stage in _MODEL_STAGES:
            command = [*launched, "train", file, "--output_dir", str(out / name)]
            command += ["--model_name_or_path", model]
            if stage in ("step_rr", "grpo", "ans_co") and (rows or data):
                command += ["--dataset", rows or str(data / "train.jsonl")]  # type: ignore[operator]
            elif data:
                command += ["--dataset", str(data / "warmup.jsonl")]
            command += ["--eval_data", str(data)] if data else []
            model = str(out / name / "model")
        else:
            raise UserError(
                f"{file}: stage {stage!r} cannot be part of a pipeline; list training and reference recipes."
            )
        if recipe.seed is not None:
            command += ["--seed", str(recipe.seed)]
        plan.append((name, command + _overrides(recipe, stage)))
    for _, command in plan:  # an unknown key is said now, not when its stage starts in some hours
        file, *words = command[command.index("rlcomm") + 2 :]
        check_keys(file, words)
    return plan


def idle_overrides(recipe: PipelineRecipe, plan: list[tuple[str, list[str]]]) -> list[str]:
    """The overrides of stages that the pipeline does not have; one may be shared by several pipelines, so
    that is no mistake.

    Args:
        recipe: of the pipeline.
        plan: of `stage_commands`.

    Returns:
        `stage.key` of each, in order.
    """
    there = set()
    for _, command in plan:
        verb, file = command[command.index("rlcomm") + 1 :][:2]
        there.add("eval" if verb == "eval" else str(read_yaml(file).get("stage")))
    keys = dict.fromkeys(item.partition("=")[0] for item in recipe.overrides)
    return [key for key in keys if key.partition(".")[0] not in there]


def audit_command(command: list[str]) -> list[str] | None:
    """The audit of the rewards of a stage, given the command that trains it; None where it is no GRPO."""
    train, file = command[command.index("rlcomm") + 1 :][:2]
    if train != "train" or read_yaml(file).get("stage") not in ("step_rr", "grpo"):
        return None
    return [sys.executable, "-m", "rlcomm", "audit", *command[command.index("rlcomm") + 2 :]]


def launcher(launch: str) -> list[str]:
    """The command that starts `rlcomm` on all processes: an accelerate configuration (.yaml), or a shell
    script that is given `-m rlcomm ...` and launches that, such as `launch/srun.sh`.

    Raises:
        UserError: no such file, or of another kind.
    """
    launch = given_or_shipped(launch)
    if not Path(launch).is_file() or Path(launch).suffix not in (".yaml", ".yml", ".sh"):
        raise UserError(
            f"launch is {launch!r}, which is neither an accelerate configuration (.yaml) nor a launch script "
            "(.sh) on this disk; name one, such as launch/zero2.yaml."
        )
    if Path(launch).suffix == ".sh":
        return ["bash", launch, "-m", "rlcomm"]
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch, "-m", "rlcomm"]


def finished(folder: Path) -> bool:
    """Whether a stage of the pipeline has come to its end."""
    return (folder / DONE).exists()


def summarise(out: Path, names: list[str], seconds: dict[str, float], **known: Any) -> dict[str, Any]:
    """Reads the stages' folders and writes summary.json, results.json and report.html.

    Args:
        out: folder of the pipeline.
        names: of its stages' folders, in order.
        seconds: as in `run_pipeline`.
        **known: further entries of the summary.
    """
    stages, method = {}, 0.0
    peak = max((work["peak_rss_mb"] for work in spent(out).values()), default=0.0)
    records, curves, results = {}, {}, {}
    for name in names:
        facts = json.loads((out / name / DONE).read_text(encoding="utf-8"))
        peak = max(peak, facts.get("peak_rss_mb", 0.0))
        method += facts.get("seconds", 0.0)
        if (out / name / "records.jsonl").exists():
            records[name] = read_records(out / name / "records.jsonl")
            stages[name] = {**generated.summary(records[name]), "seconds": facts.get("seconds")}
            results[name] = json.loads((out / name / "results.json").read_text(encoding="utf-8"))
        if (out / name / "metrics.jsonl").exists():
            curves[name] = report.read_curve(out / name / "metrics.jsonl")
        if "hearing_exact" in facts:
            stages.setdefault(name, {})["reference_hearing_exact"] = facts["hearing_exact"]
    references = {k: v for k, v in stages.items() if "muted_acc" not in v}
    summary = {
        "stages": {k: v for k, v in stages.items() if "muted_acc" in v},
        **({"reference": next(iter(references.values()))} if references else {}),
        **known,
        "seconds_before": {k: round(v, 1) for k, v in seconds.items()},
        "seconds_method": round(method, 1),
        "seconds_total": round(method + sum(seconds.values()), 1),
        "peak_rss_mb": peak,
        "versions": versions(),
    }
    files.write_json(out / "summary.json", summary)
    for name in names:
        if (out / name / "model").is_dir():
            model_card.write(out / name)  # once more, now with the stages side by side
    if results:
        last = list(results)[-1]
        shutil.copyfile(out / last / "results.json", out / ".results.json.tmp")
        os.replace(out / ".results.json.tmp", out / "results.json")
        report.write_report(out / "report.html", summary, results, curves, report.pick_clips(records))
    return summary


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {"python": sys.version.split()[0]}
    for package in SUMMARY_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _beside(folder: Path, name: str) -> str:
    path = folder / name
    if not path.exists():
        raise UserError(f"{path}: is listed in the pipeline but does not exist; correct the name.")
    return str(path)


def _overrides(recipe: PipelineRecipe, stage: str) -> list[str]:
    arguments = []
    for item in recipe.overrides:
        key, value = item.split("=", 1)
        if key.split(".")[0] == stage:
            arguments += [f"--{key.split('.')[1]}", *shlex.split(value)]
    return arguments
