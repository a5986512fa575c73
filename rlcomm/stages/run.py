"""What every training stage shares: recipe -> policy -> data -> trainer -> run (resume, save, evaluate).

A run folder holds recipe.yaml (as resolved), metrics.jsonl, checkpoint-*/, model/ with its card, and after
evaluation results.json, records.jsonl and stage.json, which is written last and says that the stage is
finished.
"""

import json
import logging
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from peft import PeftModel, get_peft_model
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from rlcomm.config.load import read_yaml, resolved, save_recipe
from rlcomm.data.sample import Sample, read_jsonl
from rlcomm.evaluation import catalog, conflict, judge_model, judged, runner
from rlcomm.export import hub, model_card
from rlcomm.omni.policy import Policy, load_policy, lora_config, set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.towers import Towers
from rlcomm.trainers.checkpoints import last_checkpoint
from rlcomm.trainers.watch import watch
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError
from rlcomm.utils.zero3 import outside_zero3

logger = logging.getLogger("rlcomm")

DONE = "stage.json"
# What may differ between a run and its continuation.
FREE = {
    "resume_from_checkpoint", "report_to", "logging_steps", "save_steps", "save_strategy", "save_total_limit",
    "disable_tqdm", "dataloader_num_workers", "dataloader_prefetch_factor", "run_name", "media_cache_dir",
    "prompt_memory_mb", "eval_batch_size", "eval_every", "eval_benchmarks", "eval_decoders", "eval_subset",
    "eval_metric", "eval_budget", "diagnose_every", "diagnose_which", "diagnose_benchmarks",
    "diagnose_subset", "project", "rollouts_every", "rollouts_shown", "push_to_hub",
    "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy",
}  # fmt: skip


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return processes.rank() == 0


def open_run(recipe: Any) -> str | None:
    """Claims the run folder of a recipe.

    Returns:
        The checkpoint to resume from, or None for a fresh start.

    Raises:
        UserError: the folder belongs to another recipe.
    """
    run_dir = Path(recipe.output_dir)
    written = run_dir / "recipe.yaml"
    # A recipe alone is no run yet: its mistake was found before the first step, and may now be mended.
    # An audit of its rewards is none either.
    if written.exists() and any(p.name not in (written.name, "audit.json") for p in run_dir.iterdir()):
        before, now = read_yaml(written), resolved(recipe)
        changed = sorted(
            key for key in (before.keys() | now.keys()) - FREE if before.get(key) != now.get(key)
        )
        if changed:
            raise UserError(
                f"{run_dir}: holds a run of another recipe ({', '.join(changed)} differ), which this one "
                "would mix with; choose another --output_dir or remove the folder."
            )
    elif is_main():
        save_recipe(recipe, written)
    if is_main():
        hub.foresee(recipe)
    return last_checkpoint(run_dir)


def finished(run_dir: str | os.PathLike) -> bool:
    """Whether the stage of a run folder has come to its end."""
    return (Path(run_dir) / DONE).exists()


def other_stage(folder: Path) -> str | None:
    """The stage whose run folder this is, None where it is no training stage's."""
    return str(read_yaml(folder / "recipe.yaml").get("stage")) if (folder / "recipe.yaml").exists() else None


def open_policy(recipe: Any) -> Policy:
    """Loads the policy of a training recipe and says what of it trains.

    Raises:
        UserError: several GPUs for one process, DeepSpeed that would be left out, adapters of another shape,
            no such model.
    """
    if recipe.n_gpu > 1:
        raise UserError(
            f"{recipe.n_gpu} GPUs are visible to this one process, which can train on one only; export "
            "CUDA_VISIBLE_DEVICES=0, or start with `accelerate launch --config_file launch/multi_gpu.yaml`."
        )
    if recipe.deepspeed_plugin and recipe.distributed_state.distributed_type != DistributedType.DEEPSPEED:
        raise UserError(
            "use_cpu (or ACCELERATE_USE_CPU) is true, which has accelerate leave DeepSpeed out unsaid; "
            "set ddp_backend gloo in its place where no GPU is, or start with launch/cpu_2.yaml."
        )
    set_seed(recipe.seed)
    policy = load_policy(
        recipe.model_name_or_path, recipe.dtype, recipe.model_revision, recipe.attn_implementation
    )
    if isinstance(policy.model, PeftModel):
        if recipe.use_peft:
            _check_adapters(recipe, policy.model)
        else:
            policy.model = policy.model.merge_and_unload()
    if not isinstance(policy.model, PeftModel):
        set_trainable(policy.model, recipe.freeze_encoders)
        if recipe.use_peft:
            policy.model = get_peft_model(
                policy.model, lora_config(recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout)
            )
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in policy.model.parameters()]
    if is_main():
        trained, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
        print(f"policy {policy.path}: {trained:,} of {total:,} parameters train")
    return policy


def _check_adapters(recipe: Any, model: PeftModel) -> None:
    """Adapters that go on training keep their own shape, so a recipe that sets another one is mistaken."""
    config: Any = model.active_peft_config
    for name, found in (("lora_r", config.r), ("lora_alpha", config.lora_alpha)):
        if name in getattr(recipe, "given", ()) and getattr(recipe, name) != found:
            raise UserError(
                f"{name} is {getattr(recipe, name)}, but {recipe.model_name_or_path} already has adapters "
                f"with {found}, which go on training; set {found}, or start from a model without adapters."
            )


def open_data(recipe: Any, policy: Policy) -> tuple[list[Sample], Prompts]:
    """Reads the rows of a recipe and makes the door through which they become prompts."""
    samples = read_jsonl(recipe.dataset)[: recipe.max_rows]
    missing = sorted({p for s in samples for p in (s.video, s.audio) if p and not Path(p).exists()})
    if missing:
        raise UserError(
            f"{recipe.dataset}: {len(missing)} clip(s) do not exist, the first is {missing[0]}; put them "
            f"there or run `rlcomm data check {recipe.dataset}` for all of them."
        )
    kept = getattr(recipe, "cache_encoders_mb", 0)  # not where a DataLoader's workers ask for prompts
    prompts = Prompts(
        policy, recipe.media(), recipe.prompt_style, recipe.media_cache_dir, recipe.prompt_memory_mb,
        workers=recipe.dataloader_num_workers, ahead=recipe.dataloader_prefetch_factor or 2,
        towers=Towers(policy.model, kept) if kept else None,
    )  # fmt: skip
    return samples, prompts


class MetricsFile(TrainerCallback):
    """metrics.jsonl: one JSON object a logging step; steps after the resumed one are dropped."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            kept = [row for row in read_metrics(self.path) if row["step"] <= state.global_step]
            files.write_jsonl(self.path, kept)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            row = {
                "step": state.global_step,
                **{k: v for k, v in logs.items() if v is None or isinstance(v, (int, float))},
            }
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            except OSError as error:
                raise UserError(
                    f"{self.path}: could not be written ({error.strerror}); free space and run the same "
                    "command again, it goes on from the last checkpoint."
                ) from error


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line cut off by a kill is left out."""
    rows = []
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def run(trainer: Any, policy: Policy, recipe: Any, started: float, **facts: Any) -> None:
    """Trains from where the run folder stands, saves `model/`, evaluates, and closes the stage.

    Args:
        trainer: ready to train.
        policy: its model and processor.
        recipe: of the stage.
        started: `time.time()` when the stage began.
        **facts: further entries of stage.json.
    """
    run_dir = Path(recipe.output_dir)
    watcher = watch(trainer, recipe)
    trained_before = (run_dir / "model").exists()  # whole or absent: what came after it was cut off
    if not trained_before:
        trainer.add_callback(MetricsFile(run_dir / "metrics.jsonl"))
        if recipe.eval_every:
            trainer.add_callback(_during(trainer, policy, recipe))
        if recipe.diagnose_every:
            trainer.add_callback(_balance(trainer, policy, recipe))
        trainer.train(resume_from_checkpoint=last_checkpoint(run_dir))
        trainer.accelerator.wait_for_everyone()
        save_model(trainer, policy.processor, run_dir / "model")
        trainer.accelerator.wait_for_everyone()  # who evaluates it needs it whole
    steps = max((row["step"] for row in read_metrics(run_dir / "metrics.jsonl")), default=0)
    trained = time.time() - started
    named = recipe.eval_every or recipe.diagnose_every  # its benchmarks may be all that the folder holds
    at_the_end = recipe.eval_data and (not named or runner.holds_benchmarks(recipe.eval_data))
    found: dict[str, Any] = {}
    if at_the_end:
        if trained_before and (run_dir / "results.json").exists():  # only the upload had failed
            found = runner.summary(runner.read_records(run_dir / "records.jsonl"))
        else:
            with torch.random.fork_rng(), outside_zero3():
                found = evaluate_run(run_dir, str(run_dir / "model"), recipe)
    trainer.accelerator.wait_for_everyone()
    if is_main():
        model_card.write(run_dir)
    if watcher is not None:
        watcher.finish(trainer, run_dir / "model", found)
    if is_main():
        if recipe.push_to_hub:
            hub.push(recipe)
        files.write_json(
            run_dir / DONE,
            {"stage": recipe.stage, "steps": steps, "seconds_training": round(trained, 1),
             "seconds": round(time.time() - started, 1), "peak_rss_mb": peak_rss_mb(), **facts},
        )  # fmt: skip


def _during(trainer: Any, policy: Policy, recipe: Any) -> TrainerCallback:
    """The recipe's evaluation during training."""
    from rlcomm.evaluation.callback import ConflictCallback

    plan = conflict.Plan(
        decoders=tuple(recipe.eval_decoders), prompt_style=recipe.prompt_style, media=recipe.media(),
        max_new_tokens=recipe.eval_max_new_tokens, batch_size=recipe.eval_batch_size,
    )  # fmt: skip
    sets = catalog.open_sets(recipe.eval_data, recipe.eval_benchmarks, limit=recipe.eval_subset)
    callback = ConflictCallback(
        policy, sets, plan, recipe.output_dir, recipe.eval_every, recipe.eval_metric, recipe.eval_budget,
        lambda path: save_model(trainer, policy.processor, path), recipe.media_cache_dir,
    )  # fmt: skip
    callback.trainer = trainer
    return callback


def _balance(trainer: Any, policy: Policy, recipe: Any) -> TrainerCallback:
    """The recipe's diagnosis during training."""
    from rlcomm.diagnostics.callback import DiagnoseCallback
    from rlcomm.diagnostics.run import Plan

    plan = Plan(
        which=tuple(recipe.diagnose_which), batch_size=recipe.eval_batch_size, seed=recipe.seed,
        media=recipe.media(),
    )  # fmt: skip
    sets = catalog.open_sets(recipe.eval_data, recipe.diagnose_benchmarks, limit=recipe.diagnose_subset)
    callback = DiagnoseCallback(
        policy, sets, plan, recipe.output_dir, recipe.diagnose_every, recipe.media_cache_dir
    )
    callback.trainer = trainer
    return callback


def save_model(trainer: Any, processor: Any, path: Path) -> None:
    """Writes weights (safetensors) and processor beside `path` and renames them into place."""
    beside = path.with_name(f".{path.name}.unfinished")
    try:
        trainer.save_model(str(beside))
        if trainer.args.should_save:
            # a pickle; recipe.yaml says the same readably
            (beside / "training_args.bin").unlink(missing_ok=True)
            with files.replacing(path, directory=True) as temporary:
                processor.save_pretrained(str(beside))
                temporary.rmdir()
                os.replace(beside, temporary)
    except Exception as error:
        if (reason := files.write_failure(error)) is None:
            raise
        raise UserError(
            f"{path}: the model could not be written ({reason}); free space and run the same command again, "
            "it goes on from the last checkpoint."
        ) from error
    finally:
        if trainer.args.should_save:
            shutil.rmtree(beside, ignore_errors=True)


def evaluate_run(run_dir: Path, model: str, recipe: Any, prompt_style: str | None = None) -> dict[str, Any]:
    """Evaluates a saved model, the items shared by all processes; writes records.jsonl and results.json.

    Returns:
        The row of the summary; {} on all processes but the first.
    """
    policy = load_policy(
        model,
        recipe.dtype,
        recipe.model_revision,
        recipe.attn_implementation,
        processes.device(),
    )
    records = run_dir / "records.jsonl"
    judge = _judge(recipe, run_dir)
    results = runner.evaluate(
        policy, recipe.eval_data, prompt_style=prompt_style or recipe.prompt_style,
        media_settings=recipe.media(), max_new_tokens=recipe.eval_max_new_tokens,
        batch_size=recipe.eval_batch_size, cache_dir=recipe.media_cache_dir, records_path=records,
        limit=recipe.eval_max_rows, progress=is_main() and not recipe.disable_tqdm,
        rejudge=(lambda found: judged.judge_records(found, **judge)) if judge else None,
    )  # fmt: skip
    results["decoders"]["greedy"]["settings"]["judge"] = judged.name(judge)
    if not is_main():
        return {}
    files.write_json(run_dir / "results.json", results)
    return runner.summary(runner.read_records(records))


def _judge(recipe: Any, run_dir: Path) -> dict[str, Any] | None:
    """The judge model of an eval recipe, as keywords of `judged.judge_records`; its endpoint is looked for
    before anything is generated."""
    if getattr(recipe, "judge_model", None) is None:
        return None
    judge_model.endpoint()
    return {
        "model": recipe.judge_model, "cache": run_dir / "judge.jsonl", "timeout": recipe.judge_timeout,
        "concurrency": recipe.judge_concurrency, "retries": recipe.judge_retries,
        "progress": not recipe.disable_tqdm,
    }  # fmt: skip


def evaluate_conflict(recipe: Any) -> dict[str, Any] | None:
    """`rlcomm eval --benchmarks ... --decoders ...`; several processes share the items.

    Returns:
        The results; None on all processes but the first.
    """
    from rlcomm.evaluation import beside
    from rlcomm.reports import conflict as conflict_report

    plan = conflict.Plan(
        decoders=tuple(recipe.decoders), prompt_style=recipe.prompt_style, gacl_mode=recipe.gacl_mode,
        arbitrate=recipe.arbitrate,
        settings={"lam": recipe.gacl_lambda, "tau": recipe.gacl_tau, "alpha_max": recipe.gacl_alpha_max,
                  "score_norm": recipe.score_norm},
        normalise=recipe.candidate_score == "mean", dev_share=recipe.dev_share,
        budget_points=recipe.budget_points, max_new_tokens=recipe.eval_max_new_tokens,
        batch_size=recipe.eval_batch_size, media=recipe.media(), conditions=tuple(recipe.conditions),
    )  # fmt: skip
    sets, out = _sets(recipe), Path(recipe.output_dir)
    others = beside.load(recipe.beside, sets, plan.dev_share)  # a mistake is found before a model is loaded
    results = conflict.evaluate(
        _measured_policy(recipe), sets, plan, out, cache_dir=recipe.media_cache_dir,
        progress=not recipe.disable_tqdm, judge=_judge(recipe, out), others=others,
    )  # fmt: skip
    if results is not None:
        conflict_report.write_report(out / "report.html", results, runner.read_records(out / "records.jsonl"))
    return results


def diagnose_model(recipe: Any) -> dict[str, Any] | None:
    """`rlcomm diagnose`; several processes share the items.

    Returns:
        diagnosis.json; None on all processes but the first.
    """
    from rlcomm.diagnostics import compare
    from rlcomm.diagnostics import run as diagnostics

    plan = diagnostics.Plan(
        which=tuple(recipe.which), distractor=recipe.distractor, batch_size=recipe.eval_batch_size,
        seed=recipe.seed, media=recipe.media(),
    )  # fmt: skip
    sets, before = _sets(recipe), [compare.load(folder) for folder in recipe.compare]
    diagnostics.check(sets, plan)
    return diagnostics.diagnose(  # whatever can be wrong is found before a model is loaded
        _measured_policy(recipe), sets, plan, recipe.output_dir, before=before,
        cache_dir=recipe.media_cache_dir, progress=not recipe.disable_tqdm,
    )  # fmt: skip


def _sets(recipe: Any) -> list[catalog.Set]:
    """The benchmarks of a recipe that measures a model, opened."""
    return catalog.open_sets(
        recipe.eval_data, recipe.benchmarks, dict(item.split("=", 1) for item in recipe.benchmark_files),
        dict(item.split("=", 1) for item in recipe.benchmark_media), recipe.eval_max_rows,
    )  # fmt: skip


def _measured_policy(recipe: Any) -> Policy:
    return load_policy(
        recipe.model_name_or_path, recipe.dtype, recipe.model_revision, recipe.attn_implementation,
        device=processes.device(),
    )  # fmt: skip


def peak_rss_mb() -> float:
    """Peak resident memory of this process and its children so far, in megabytes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return round(max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024, 1)
