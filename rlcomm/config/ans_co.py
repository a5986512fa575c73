"""The recipe of Ans-CO."""

from dataclasses import dataclass

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import SFTConfig  # isort: skip

from rlcomm.config.data import OrderFields
from rlcomm.config.rewards import RewardFields, check_rewards
from rlcomm.config.sft import SFT_FIXED, SFT_LIMITS, SFT_REFUSED, check_sft
from rlcomm.config.training import TrainedFields, check_trained, keep_to_our_path
from rlcomm.utils import options
from rlcomm.utils.options import option


@dataclass
class AnsCORecipe(RewardFields, TrainedFields, OrderFields, SFTConfig):
    """Ans-CO (trl.SFTConfig for the optimiser, rollout settings named as in trl.GRPOConfig)."""

    FIXED, REFUSED, LIMITS = SFT_FIXED, SFT_REFUSED, SFT_LIMITS

    num_generations: int = option(8, "rollouts per row, the best of which is learned", at_least=1)
    temperature: float = option(0.9, "of the rollouts", at_least=1e-6)
    top_p: float = option(1.0, "nucleus share", at_least=1e-6, at_most=1)
    max_completion_length: int = option(256, "new tokens at most", at_least=1)
    rollout_batch_size: int = option(16, "prompts sampled at a time", at_least=1)
    ansco_lambda: float = option(0.5, "weight of the answer entropy", at_least=0)
    ansco_threshold: float = option(0.75, "above this uncertainty lambda is 0", at_least=0)
    ansco_uncertainty: str = option(
        "nats", "unit of the uncertainty", choices=("nats", "log10", "normalised", "1-pmax")
    )
    ansco_target: str = option(
        "self",
        "what is learned: the best rollout itself, with the gold answer in it, or the row's own target",
        choices=("self", "gold_answer", "gold"),
    )

    def __post_init__(self) -> None:
        options.split_commas(self)
        options.check(self)
        keep_to_our_path(self)
        check_sft(self)
        super().__post_init__()
        check_trained(self)
        check_rewards(self)
