"""The recipe of Ans-CO."""

from dataclasses import dataclass, field

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import SFTConfig  # isort: skip

from rlcomm.config.check import check_choice, check_range, check_values
from rlcomm.config.data import DataFields, OrderFields, check_common
from rlcomm.config.policy import PolicyFields
from rlcomm.config.rewards import RewardFields, check_rewards
from rlcomm.config.sft import fix_for_our_path
from rlcomm.config.watch import WatchFields
from rlcomm.config.workers import WorkerFields

UNCERTAINTIES = ("nats", "log10", "normalised", "1-pmax")
ANSCO_TARGETS = ("self", "gold_answer", "gold")


@dataclass
class AnsCORecipe(WatchFields, RewardFields, WorkerFields, OrderFields, DataFields, PolicyFields, SFTConfig):
    """Ans-CO (trl.SFTConfig for the optimiser, rollout settings named as in trl.GRPOConfig)."""

    num_generations: int = field(
        default=8, metadata={"help": "rollouts per row, the best of which is learned"}
    )
    temperature: float = field(default=0.9, metadata={"help": "of the rollouts, > 0"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus share in (0, 1]"})
    max_completion_length: int = field(default=256, metadata={"help": "new tokens at most"})
    rollout_batch_size: int = field(default=16, metadata={"help": "prompts sampled at a time"})
    ansco_lambda: float = field(default=0.5, metadata={"help": "weight of the answer entropy, >= 0"})
    ansco_threshold: float = field(default=0.75, metadata={"help": "above this uncertainty lambda is 0"})
    ansco_uncertainty: str = field(default="nats", metadata={"help": ", ".join(UNCERTAINTIES)})
    ansco_target: str = field(default="self", metadata={"help": "self, gold_answer or gold"})

    def __post_init__(self) -> None:
        check_values(self)
        fix_for_our_path(self)
        super().__post_init__()
        check_common(self)
        check_rewards(self)
        check_choice(self, "ansco_uncertainty", UNCERTAINTIES)
        check_choice(self, "ansco_target", ANSCO_TARGETS)
        check_range(self, "temperature", 1e-6, None)
