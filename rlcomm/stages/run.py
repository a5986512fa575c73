"""What every training stage shares: recipe -> policy -> data -> trainer -> run (resume, save, evaluate).

A run folder holds recipe.yaml (as resolved), metrics.jsonl, checkpoint-*/, model/ with its card, and after
evaluation results.json, records.jsonl and stage.json, which is written last and says that the stage is
finished.
"""

import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from peft import PeftModel, get_peft_model
from transformers import set_seed

from rlcomm.data.sample import Sample, read_jsonl
from rlcomm.evaluation import catalog, generated
from rlcomm.evaluation.records import read_records
from rlcomm.export import hub, model_card
from rlcomm.omni.merge import merge_adapters
from rlcomm.omni.policy import Policy, load_policy, lora_config, set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.towers import Towers
from rlcomm.stages.measure import callback_of_diagnosis, callback_of_evaluation, evaluate_run
from rlcomm.stages.needs import leave_out
from rlcomm.stages.resume import DONE
from rlcomm.stages.save import save_model
from rlcomm.trainers.checkpoints import last_checkpoint
from rlcomm.trainers.metrics_file import MetricsFile, read_metrics
from rlcomm.trainers.watch import watch
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError
from rlcomm.utils.zero3 import outside_zero3


def open_policy(recipe: Any) -> Policy:
    """Loads the policy of a training recipe and says what of it trains.

    Raises:
        UserError: DeepSpeed that would be left out, adapters of another shape,
            no such model.
    """
    if recipe.n_gpu > 1:
        processes.device()  # says which
        recipe._n_gpu = 1  # transformers would wrap the model in nn.DataParallel, which TRL refuses
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
            merged = merge_adapters(policy.model)
            policy.model = merged.model
            if merged.lost and processes.is_main():
                print(
                    f"adapters merged in float32, of whose update the cast to {recipe.dtype} loses "
                    f"{merged.lost:.1%} (dtype float32 keeps all of it)"
                )
    if not isinstance(policy.model, PeftModel):
        set_trainable(policy.model, recipe.freeze_encoders)
        if recipe.use_peft:
            policy.model = get_peft_model(
                policy.model, lora_config(recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout)
            )
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in policy.model.parameters()]
    if processes.is_main():
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
    """Reads the rows of a recipe that have what it needs, and makes the door through which they become
    prompts.

    Raises:
        UserError: too many rows lack something, unreadable rows, clips that do not exist.
    """
    samples = leave_out(recipe, read_jsonl(recipe.dataset)[: recipe.max_rows])
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
            trainer.add_callback(callback_of_evaluation(trainer, policy, recipe))
        if recipe.diagnose_every:
            trainer.add_callback(callback_of_diagnosis(trainer, policy, recipe))
        trainer.train(resume_from_checkpoint=last_checkpoint(run_dir))
        trainer.accelerator.wait_for_everyone()
        save_model(trainer, policy.processor, run_dir / "model")
        trainer.accelerator.wait_for_everyone()  # who evaluates it needs it whole
    steps = max((row["step"] for row in read_metrics(run_dir / "metrics.jsonl")), default=0)
    trained = time.time() - started
    named = recipe.eval_every or recipe.diagnose_every  # its benchmarks may be all that the folder holds
    at_the_end = recipe.eval_data and (not named or catalog.holds_benchmarks(recipe.eval_data))
    found: dict[str, Any] = {}
    if at_the_end:
        if trained_before and (run_dir / "results.json").exists():  # only the upload had failed
            found = generated.summary(read_records(run_dir / "records.jsonl"))
        else:
            with torch.random.fork_rng(), outside_zero3():
                found = evaluate_run(run_dir, str(run_dir / "model"), recipe)
    trainer.accelerator.wait_for_everyone()
    if processes.is_main():
        model_card.write(run_dir)
    if watcher is not None:
        watcher.finish(trainer, run_dir / "model", found)
    if processes.is_main():
        if recipe.push_to_hub:
            hub.push(recipe)
        files.write_json(
            run_dir / DONE,
            {"stage": recipe.stage, "steps": steps, "seconds_training": round(trained, 1),
             "seconds": round(time.time() - started, 1), "peak_rss_mb": processes.peak_rss_mb(), **facts},
        )  # fmt: skip
