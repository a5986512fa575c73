"""The recipe of the miniature reference model."""

from dataclasses import dataclass

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from transformers import TrainingArguments  # isort: skip

from rlcomm.config.training import TrainerFields
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class AudioRecipe(TrainerFields, TrainingArguments):
    """The miniature reference model (transformers.TrainingArguments plus ours)."""

    stage: str = option("audio", "audio")
    dataset: str = option("", "Orchestra's sync.jsonl")

    def __post_init__(self) -> None:
        options.check(self)
        super().__post_init__()
        if not self.dataset or self.max_steps < 1:
            raise UserError(
                "dataset and max_steps are not both set; name Orchestra's sync.jsonl and how long to train."
            )
