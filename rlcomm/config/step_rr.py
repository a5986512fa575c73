"""The recipe of Step-RR, and of GRPO with any of our rewards."""

import math
import os
from dataclasses import dataclass, field
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import GRPOConfig  # isort: skip

from rlcomm.config.check import ATTENTIONS, check_choice, check_range, check_values
from rlcomm.config.data import DataFields, check_common
from rlcomm.config.policy import PolicyFields
from rlcomm.config.rewards import RewardFields, check_rewards
from rlcomm.config.watch import WatchFields
from rlcomm.config.workers import WorkerFields
from rlcomm.utils.errors import UserError

SCORINGS = ("auto", "grouped", "packed", "rows")
GRPO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")


@dataclass
class StepRRRecipe(WatchFields, RewardFields, WorkerFields, DataFields, PolicyFields, GRPOConfig):
    """Step-RR, and GRPO with any of our rewards (trl.GRPOConfig plus ours)."""

    scoring: str = field(
        default="auto",
        metadata={"help": "auto, grouped, packed or rows: how completions are scored (auto is the cheapest)"},
    )
    cache_encoders_mb: int = field(
        default=0,
        metadata={
            "help": "megabytes of what the frozen towers made of each clip, kept for scoring, later rollouts "
            "and epochs; 0: the towers run every time"
        },
    )
    loss_type: str = field(default="grpo", metadata={"help": "as TRL's; the paper's GRPO by default"})
    rollouts_every: int = field(
        default=50,
        metadata={"help": "steps between two looks at the rollouts in W&B or TensorBoard; 0: none"},
    )
    rollouts_shown: int = field(
        default=4, metadata={"help": "completions a look, the best and the worst of each prompt"}
    )

    def __post_init__(self) -> None:
        check_values(self)
        self.remove_unused_columns = False
        for name, fine, why in (
            ("use_vllm", not self.use_vllm, "vLLM gets images only, the sound would be lost silently"),
            ("use_transformers_continuous_batching", not self.use_transformers_continuous_batching,
             "continuous batching takes no processor, so no media"),
            ("use_liger_kernel", not self.use_liger_kernel,
             "it replaces the forward that our scoring is proved on"),
            ("ds3_gather_for_generation", self.ds3_gather_for_generation,
             "ranks whose completions end at different lengths would wait for each other for ever"),
            ("min_p", self.min_p is None, "the rollout that carries the media has temperature, top_p, top_k"),
            ("repetition_penalty", self.repetition_penalty == 1.0, "the rollout would ignore it silently"),
            ("generation_kwargs", not self.generation_kwargs, "the rollout would ignore them silently"),
            ("beta", self.beta == 0.0, "the reference is another model, a KL to it means nothing"),
        ):  # fmt: skip
            if not fine:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, which cannot work here ({why}); leave it out."
                )
        check_groups(self)
        super().__post_init__()
        check_common(self)
        check_rewards(self)
        check_choice(self, "scoring", SCORINGS)
        takes = {"grouped": ("sdpa",), "packed": ("sdpa", "eager")}.get(self.scoring, ATTENTIONS)
        if self.attn_implementation not in takes:
            raise UserError(
                f"scoring is {self.scoring!r}, but attn_implementation is {self.attn_implementation!r}, "
                "whose kernel cannot attend so; leave scoring at auto or set attn_implementation sdpa."
            )
        if self.cache_encoders_mb and not self.freeze_encoders:
            raise UserError(
                f"cache_encoders_mb is {self.cache_encoders_mb}, but freeze_encoders is false, so what is "
                "kept would be of old weights; set cache_encoders_mb 0 or freeze_encoders true."
            )
        check_choice(self, "loss_type", GRPO_LOSSES)
        check_range(self, "temperature", 1e-6, None)


def check_groups(recipe: Any) -> None:
    """A generation batch holds whole groups: batch x processes x steps per generation = k G."""
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
