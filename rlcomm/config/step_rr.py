"""The recipe of Step-RR, and of GRPO with any of our rewards."""

import math
import os
from dataclasses import dataclass
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import GRPOConfig  # isort: skip

from rlcomm.config.rewards import RewardFields, check_rewards
from rlcomm.config.training import TrainedFields, check_trained, keep_to_our_path
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import Limits, option

SCORINGS = ("auto", "grouped", "rows")
GRPO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")

_BATCHING = "continuous batching takes no processor, so no media"
GRPO_REFUSED = {
    "use_vllm": (False, "vLLM gets images only, the sound would be lost silently"),
    "use_transformers_continuous_batching": (False, _BATCHING),
    "use_transformers_paged": (False, _BATCHING),
    "use_liger_kernel": (False, "it replaces the forward that our scoring is proved on"),
    "ds3_gather_for_generation": (
        True,
        "ranks whose completions end at different lengths would wait for each other for ever",
    ),
    "min_p": (None, "the rollout that carries the media has temperature, top_p, top_k"),
    "repetition_penalty": (1.0, "the rollout would ignore it silently"),
    "generation_kwargs": (None, "the rollout would ignore them silently"),
    "sync_ref_model": (False, "there is no second model to keep in step"),
    "beta": (0.0, "the reference is another model, a KL to it means nothing"),
}

# Of trl.GRPOConfig's own keys. Those of vLLM have none: it is refused.
GRPO_LIMITS = {
    "num_generations": Limits(at_least=1, null=False),
    "num_generations_eval": Limits(at_least=1),
    "generation_batch_size": Limits(at_least=1),
    "steps_per_generation": Limits(at_least=1),
    "num_iterations": Limits(at_least=1),
    "max_completion_length": Limits(at_least=1, null=False),
    "temperature": Limits(at_least=1e-6),
    "top_p": Limits(at_least=1e-6, at_most=1),
    "top_k": Limits(at_least=0),
    "pad_to_multiple_of": Limits(at_least=1),
    "epsilon": Limits(at_least=0),
    "epsilon_high": Limits(at_least=0),
    "delta": Limits(above=0),
    "sapo_temperature_neg": Limits(above=0),
    "sapo_temperature_pos": Limits(above=0),
    "vespo_k_pos": Limits(at_least=0),
    "vespo_lambda_pos": Limits(at_least=0),
    "vespo_k_neg": Limits(at_least=0),
    "vespo_lambda_neg": Limits(at_least=0),
    "top_entropy_quantile": Limits(at_least=0, at_most=1),
    "entropy_coef_delta": Limits(at_least=0),
    "entropy_target": Limits(at_least=0),
    "off_policy_mask_threshold": Limits(at_least=0),
    "ref_model_mixup_alpha": Limits(at_least=0, at_most=1),
    "ref_model_sync_steps": Limits(at_least=1),
    "num_completions_to_print": Limits(at_least=0),
    "max_tool_calling_iterations": Limits(at_least=1),
    "importance_sampling_level": Limits(choices=("token", "sequence")),
    "multi_objective_aggregation": Limits(choices=("sum_then_normalize", "normalize_then_sum")),
    "scale_rewards": Limits(choices=("group", "batch", "none")),
}


@dataclass
class StepRRRecipe(RewardFields, TrainedFields, GRPOConfig):
    """Step-RR, and GRPO with any of our rewards (trl.GRPOConfig plus ours)."""

    FIXED = {"remove_unused_columns": False}  # noqa: RUF012
    REFUSED, LIMITS = GRPO_REFUSED, GRPO_LIMITS

    scoring: str = option("auto", "how completions are scored; auto: the cheapest", choices=SCORINGS)
    cache_encoders_mb: int = option(
        0,
        "megabytes of what the frozen towers made of each clip, kept for scoring, later rollouts and epochs; "
        "0: the towers run every time",
        at_least=0,
    )
    counterfactual_share: float = option(
        0.0,
        "share of the prompts of a generation that come with their twin (meta.twin of a row); 0: twins are "
        "rows like any other",
        at_least=0,
        at_most=1,
    )
    twin_baseline: bool = option(False, "one baseline over the 2 x num_generations completions of twins")
    even_types: bool = option(
        False, "ask every type of question equally often, rows of a rare type again and again"
    )
    loss_type: str = option("grpo", "as TRL's; the paper's GRPO by default", choices=GRPO_LOSSES)
    rollouts_every: int = option(
        50, "steps between two looks at the rollouts in W&B or TensorBoard; 0: none", at_least=0
    )
    rollouts_shown: int = option(4, "completions a look, the best and the worst of each prompt", at_least=1)

    def __post_init__(self) -> None:
        if self.scoring == "packed":
            raise UserError(
                "scoring is 'packed', a form that is gone since grouped does the same for less; leave "
                "scoring at auto."
            )
        options.split_commas(self)
        options.check(self)
        keep_to_our_path(self)
        check_groups(self)
        super().__post_init__()
        check_trained(self)
        check_rewards(self)
        check_twins(self)
        if self.scoring == "grouped" and self.attn_implementation == "flash_attention_2":
            raise UserError(
                f"scoring is {self.scoring!r}, but attn_implementation is {self.attn_implementation!r}, "
                "whose kernel cannot attend so; leave scoring at auto or set attn_implementation sdpa."
            )
        if self.cache_encoders_mb and not self.freeze_encoders:
            raise UserError(
                f"cache_encoders_mb is {self.cache_encoders_mb}, but freeze_encoders is false, so what is "
                "kept would be of old weights; set cache_encoders_mb 0 or freeze_encoders true."
            )


def check_groups(recipe: Any) -> None:
    """A generation batch holds whole groups: batch x processes x steps per generation = k G.

    Raises:
        UserError: it would cut one; names the nearest numbers that do not.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_device, group = recipe.per_device_train_batch_size, recipe.num_generations
    if recipe.generation_batch_size and group > 1:
        unit = math.lcm(per_device * processes, group)
        if rest := recipe.generation_batch_size % unit:
            below = recipe.generation_batch_size - rest
            raise UserError(
                f"generation_batch_size is {recipe.generation_batch_size}, which does not hold whole "
                f"batches of {per_device * processes} and whole groups of {group} completions; use "
                f"{f'{below} or ' if below else ''}{below + unit}."
            )
    accumulate = recipe.steps_per_generation or recipe.gradient_accumulation_steps
    total = recipe.generation_batch_size or per_device * processes * accumulate
    if group < 2:
        raise UserError(
            f"num_generations is {group}, and one completion has nothing to be compared with; use 2 or more."
        )
    if total % group == 0:
        return
    groups = [g for g in range(2, total + 1) if total % g == 0]
    nearest = sorted(groups, key=lambda g: abs(g - group))[:2]
    batches = [b for b in range(1, per_device + group + 1) if b * processes * accumulate % group == 0]
    batch = sorted(batches, key=lambda b: abs(b - per_device))[:2]
    fewer = f"num_generations {' or '.join(map(str, nearest))}, or " if nearest else ""
    raise UserError(
        f"per_device_train_batch_size {per_device} x {processes} process(es) x {accumulate} step(s) per "
        f"generation = {total} completions, which is no multiple of num_generations {group}, so a group "
        f"would be cut; use {fewer}per_device_train_batch_size {' or '.join(map(str, batch))}."
    )


def check_twins(recipe: Any) -> None:
    """Whether a generation has room for its pairs, and whether what is asked of them can be done.

    Raises:
        UserError: one prompt a generation, a share that would cut a pair, a baseline without pairs.
    """
    share = recipe.counterfactual_share
    if recipe.twin_baseline and not share:
        raise UserError(
            "twin_baseline is true, but counterfactual_share is 0, so no row is asked beside its twin; set "
            "counterfactual_share, or twin_baseline false."
        )
    if recipe.twin_baseline and recipe.multi_objective_aggregation != "sum_then_normalize":
        raise UserError(
            f"twin_baseline is true, but multi_objective_aggregation is "
            f"{recipe.multi_objective_aggregation!r}, which has a baseline for each reward; set it to "
            "sum_then_normalize, or twin_baseline false."
        )
    if not share:
        return
    prompts = recipe.generation_batch_size // recipe.num_generations
    if prompts < 2:
        raise UserError(
            f"counterfactual_share is {share:g}, but a generation asks {prompts} prompt (generation batch "
            f"{recipe.generation_batch_size} / num_generations {recipe.num_generations}), which has no room "
            "for its twin; double per_device_train_batch_size or gradient_accumulation_steps."
        )
    if math.ceil(share * prompts / 2 - 1e-9) > prompts // 2:
        raise UserError(
            f"counterfactual_share is {share:g}, but of the {prompts} prompts of a generation only "
            f"{prompts - 1} can stand in pairs; set it to at most {(prompts - 1) / prompts:.3f} or make the "
            "number of prompts even."
        )
