"""Checks that every recipe shares: ranges and choices of the keys that mean the same wherever they stand."""

import math
from typing import Any

from rlcomm.utils.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")

# Inclusive bounds, wherever a recipe has the key; None: no bound (and a key set to null is not checked).
_AT_LEAST_1 = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_generations",
    "generation_batch_size", "num_iterations", "max_completion_length", "max_new_tokens", "batch_size",
    "rollout_batch_size", "eval_batch_size", "eval_max_new_tokens", "max_rows", "eval_max_rows", "lora_r",
    "lora_alpha", "eval_subset", "diagnose_subset", "concurrency", "audio_window",
    "dataloader_prefetch_factor", "rollouts_shown",
)  # fmt: skip
_AT_LEAST_0 = (
    "learning_rate", "max_grad_norm", "prompt_memory_mb", "seed", "temperature", "top_k", "ansco_lambda",
    "ansco_threshold", "eval_every", "diagnose_every", "eval_budget", "budget_points", "gacl_lambda",
    "retries", "dataloader_num_workers", "rollouts_every", "cache_encoders_mb",
)  # fmt: skip
RANGES: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(_AT_LEAST_1, (1, None)),
    **dict.fromkeys(_AT_LEAST_0, (0, None)),
    **{f"modality_dropout_{name}": (0.0, 1.0) for name in ("start", "video", "audio")},
    **dict.fromkeys(("save_steps", "num_train_epochs", "timeout"), (1e-6, None)),
    "top_p": (1e-6, 1.0),
    "omega": (-1.0, 1.0),
    "lora_dropout": (0.0, 0.99),
}


def check_values(recipe: Any) -> None:
    """Ranges and choices of all keys that mean the same in every recipe; before TRL computes with them."""
    for name, (low, high) in RANGES.items():
        if getattr(recipe, name, None) is not None:
            check_range(recipe, name, low, high)
    for name, choices in (("dtype", DTYPES), ("attn_implementation", ATTENTIONS)):
        if hasattr(recipe, name):
            check_choice(recipe, name, choices)


def check_choice(recipe: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(recipe, name) not in choices:
        raise UserError(
            f"{name} is {getattr(recipe, name)!r}, which is unknown; use one of {', '.join(choices)}."
        )


def check_range(recipe: Any, name: str, low: float | None, high: float | None) -> None:
    value = getattr(recipe, name)
    # nan is neither below nor above anything
    if math.isnan(value) or (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise UserError(f"{name} is {value!r}, which is out of range; it must be {bounds}.")


def commas(items: list[str]) -> list[str]:
    """`[a, "b,c"]` as `[a, b, c]`: lists may be given with commas on the command line."""
    return [part for item in items for part in item.split(",") if part]
