"""Which rewards, with what settings."""

from dataclasses import dataclass
from typing import Any

from rlcomm.rewards import adapters, avc
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class RewardFields:
    """Rewards of a rollout: r = sum of weight x reward, the paper's r_format + r_arr + r_avc by default."""

    rewards: list[str] = option(
        ["format", "arr", "avc"], "what a rollout is paid for", choices=adapters.NAMES, called="reward"
    )
    format_mode: str = option(
        "strict", "strict, or lenient as in the released code", choices=("strict", "lenient")
    )
    avc_mode: str = option("similarity", "similarity is the paper's", choices=avc.MODES)
    omega: float | None = option(
        None, "threshold of ARR and witnessed AVC; null: the embedder's own", at_least=-1, at_most=1
    )
    embedder: str = option("minilm", "sentence-transformers model, or minilm")


def check_rewards(recipe: Any) -> None:
    """Whether the rewards can be computed and weighed.

    Raises:
        UserError: none, no embedder, not one weight for each, or a reward of twins where none are drawn.
    """
    twins = [name for name in recipe.rewards if name in adapters.OF_TWINS]
    if twins and not getattr(recipe, "counterfactual_share", 0):
        none = "is 0" if hasattr(recipe, "counterfactual_share") else "is no key of this stage"
        raise UserError(
            f"rewards has {twins[0]}, which compares a row with its twin, but counterfactual_share {none}, "
            f"so no row is asked beside its twin; set it in Step-RR, or leave {twins[0]} out."
        )
    if not recipe.rewards or not recipe.embedder:
        name = "embedder" if recipe.rewards else "rewards"
        raise UserError(f"{name} is empty; leave the key out for its default, or give it a value.")
    weights = getattr(recipe, "reward_weights", None)
    if weights is not None and len(weights) != len(recipe.rewards):
        raise UserError(
            f"reward_weights has {len(weights)} values for {len(recipe.rewards)} rewards; give one for each "
            f"of {', '.join(recipe.rewards)}."
        )
