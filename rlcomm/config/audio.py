"""The recipe of the miniature reference model."""

from dataclasses import dataclass, field

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from transformers import TrainingArguments  # isort: skip

from rlcomm.config.check import check_values
from rlcomm.config.watch import WatchFields, check_watched
from rlcomm.utils.errors import UserError


@dataclass
class AudioRecipe(WatchFields, TrainingArguments):
    """The miniature reference model (transformers.TrainingArguments plus ours)."""

    stage: str = field(default="audio", metadata={"help": "audio"})
    dataset: str = field(default="", metadata={"help": "Orchestra's sync.jsonl"})

    def __post_init__(self) -> None:
        check_values(self)
        super().__post_init__()
        check_watched(self)
        if not self.dataset or self.max_steps < 1:
            raise UserError(
                "dataset and max_steps are not both set; name Orchestra's sync.jsonl and how long to train."
            )
