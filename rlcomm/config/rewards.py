"""Which rewards, with what settings."""

from dataclasses import dataclass, field
from typing import Any

from rlcomm.config.check import check_choice
from rlcomm.rewards import adapters, avc
from rlcomm.utils.errors import UserError

REWARDS = adapters.NAMES


@dataclass
class RewardFields:
    """Rewards of a rollout: r = sum of weight x reward, METHOD's r_format + r_arr + r_avc by default."""

    rewards: list[str] = field(
        default_factory=lambda: ["format", "arr", "avc"], metadata={"help": f"of {', '.join(REWARDS)}"}
    )
    format_mode: str = field(
        default="strict", metadata={"help": "strict, or lenient as in the released code"}
    )
    avc_mode: str = field(
        default="similarity", metadata={"help": "similarity (the paper's), calibrated or witnessed"}
    )
    omega: float | None = field(
        default=None,
        metadata={"help": "threshold in [-1, 1] of ARR and witnessed AVC; None: the embedder's own"},
    )
    embedder: str = field(default="minilm", metadata={"help": "sentence-transformers model, or minilm"})


def check_rewards(recipe: Any) -> None:
    check_choice(recipe, "format_mode", ("strict", "lenient"))
    check_choice(recipe, "avc_mode", avc.MODES)
    if not recipe.rewards or not recipe.embedder:
        name = "embedder" if recipe.rewards else "rewards"
        raise UserError(f"{name} is empty; leave the key out for its default, or give it a value.")
    for name in recipe.rewards:
        if name not in REWARDS:
            raise UserError(f"rewards has {name!r}, which is no reward; use some of {', '.join(REWARDS)}.")
    weights = getattr(recipe, "reward_weights", None)
    if weights is not None and len(weights) != len(recipe.rewards):
        raise UserError(
            f"reward_weights has {len(weights)} values for {len(recipe.rewards)} rewards; give one for each "
            f"of {', '.join(recipe.rewards)}."
        )
