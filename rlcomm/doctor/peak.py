"""The peak memory of real steps of a recipe: what `rlcomm.doctor.memory` estimates, measured.

On a GPU it is `torch.cuda.max_memory_allocated` of the whole stage; on a CPU, torch's profiler counts every
allocation and every release of its allocator in the training, kernels' own workspaces included, on top of the
weights (the rollouts of Ans-CO come before and are left out). Nothing is saved but the recipe, in a folder
that is removed.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import torch

from rlcomm.config.load import load_recipe
from rlcomm.stages import ans_co, sft, step_rr
from rlcomm.utils.allocated import allocated

STEPS = 2  # Adam's state is there from the first step on, so the second is the largest


def measure(path: str, overrides: list[str], steps: int = STEPS) -> dict[str, Any]:
    """Trains a few steps of a recipe, saves nothing, and says how much memory they took.

    Args:
        path: recipe of a training stage.
        overrides: `["--key", "value", ...]`.
        steps: how many.

    Returns:
        `{"device", "peak" (bytes), "steps", "log" (what the trainer logged)}`.

    Raises:
        UserError: as the stage.
    """
    found: dict[str, Any] = {}

    def finish(trainer: Any, policy: Any, recipe: Any, started: float, **facts: Any) -> None:
        device = trainer.accelerator.device
        if device.type == "cuda":
            trainer.train()
            found.update(
                device=torch.cuda.get_device_name(device), peak=torch.cuda.max_memory_allocated(device),
                log=trainer.state.log_history,
            )  # fmt: skip
            return
        prompts = getattr(trainer, "prompts", None) or trainer.data_collator.prompts
        for sample in prompts_of(trainer):  # encoded clips lie on the host, which here is the device
            prompts(sample)
        storages = {
            w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in weights(policy.model)
        }
        found.update(device="cpu", peak=sum(storages.values()) + allocated(trainer.train))
        found["log"] = trainer.state.log_history

    with tempfile.TemporaryDirectory(prefix="rlcomm-peak-") as folder:
        settings = {
            "max_steps": steps, "save_strategy": "no", "report_to": "none", "push_to_hub": False,
            "output_dir": folder, "disable_tqdm": True,
        }  # fmt: skip
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        recipe = load_recipe(path, [*overrides, *words])
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        stages: dict[str, Callable[..., None]] = {
            "step_rr": step_rr.train,
            "grpo": step_rr.train,
            "ans_co": ans_co.train,
        }
        stages.get(recipe.stage, sft.train)(recipe, finish)
    return {**found, "steps": steps}


def weights(model: Any) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def prompts_of(trainer: Any) -> list[Any]:
    """The samples that a trainer will read."""
    holder = trainer if hasattr(trainer, "samples") else trainer.data_collator
    if hasattr(holder, "chosen"):
        return [sample for sample, _ in holder.chosen]
    return list({row["row"]: holder.samples[row["row"]] for row in trainer.train_dataset}.values())
