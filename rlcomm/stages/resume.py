"""Whose run folder it is, whether its stage is finished, and where one that was cut off goes on."""

import os
from pathlib import Path
from typing import Any

from rlcomm.config.load import resolved, save_recipe
from rlcomm.config.yaml_file import read_yaml
from rlcomm.export import hub
from rlcomm.trainers.checkpoints import last_checkpoint
from rlcomm.utils import processes
from rlcomm.utils.errors import UserError

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
    elif processes.is_main():
        save_recipe(recipe, written)
    if processes.is_main():
        hub.foresee(recipe)
    return last_checkpoint(run_dir)


def finished(run_dir: str | os.PathLike) -> bool:
    """Whether the stage of a run folder has come to its end."""
    return (Path(run_dir) / DONE).exists()


def other_stage(folder: Path) -> str | None:
    """The stage whose run folder this is, None where it is no training stage's."""
    return str(read_yaml(folder / "recipe.yaml").get("stage")) if (folder / "recipe.yaml").exists() else None
