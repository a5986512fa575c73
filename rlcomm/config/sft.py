"""The recipe of base, warm-up and conflict SFT."""

from dataclasses import dataclass
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from trl import SFTConfig  # isort: skip

from rlcomm.config.data import OrderFields
from rlcomm.config.training import TrainedFields, check_trained, keep_to_our_path
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import Limits, option

# Of trl.SFTConfig's own keys: rows come as they are, nothing is cut.
SFT_FIXED = {
    "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "max_length": None,
}
SFT_REFUSED = dict.fromkeys(
    ("packing", "padding_free", "use_liger_kernel", "assistant_only_loss"),
    (False, "it would go around the path that carries the media"),
)
SFT_LIMITS = {
    "dataset_num_proc": Limits(at_least=1),
    "pad_to_multiple_of": Limits(at_least=1),
}


@dataclass
class SFTRecipe(TrainedFields, OrderFields, SFTConfig):
    """Base, warm-up and conflict SFT (trl.SFTConfig plus ours)."""

    FIXED, REFUSED, LIMITS = SFT_FIXED, SFT_REFUSED, SFT_LIMITS

    modality_dropout_start: float = option(
        0.0, "share of the steps after which a sense may be left out", at_least=0, at_most=1
    )
    modality_dropout_video: float = option(
        0.0, "share of rows then heard without the picture", at_least=0, at_most=1
    )
    modality_dropout_audio: float = option(
        0.0, "share of rows then seen without the sound", at_least=0, at_most=1
    )
    modality_dropout_guess: bool = option(
        False, "rows without their sound are still asked what sounds: guess it from sight"
    )

    def __post_init__(self) -> None:
        options.split_commas(self)
        options.check(self)
        keep_to_our_path(self)
        check_sft(self)
        super().__post_init__()
        check_trained(self)
        if self.modality_dropout_video + self.modality_dropout_audio > 1.0:
            raise UserError(
                f"modality_dropout_video and modality_dropout_audio are {self.modality_dropout_video} and "
                f"{self.modality_dropout_audio}, together above 1; a row can lose one sense only, lower them."
            )
        if self.group_by_clip and self.modality_dropout_video + self.modality_dropout_audio > 0:
            raise UserError(
                "group_by_clip is true together with modality dropout, which takes a sense from single rows, "
                "so that they no longer share their clip; set group_by_clip false or the dropouts 0."
            )


def check_sft(recipe: Any) -> None:
    """What both stages ask that train on texts.

    Raises:
        UserError: another order or another loss than the stage's own.
    """
    if recipe.group_by_clip and recipe.train_sampling_strategy != "random":
        raise UserError(
            f"group_by_clip is true, but train_sampling_strategy is {recipe.train_sampling_strategy!r}, "
            "another order; leave one of them out."
        )
    if recipe.loss_type not in ("nll", "chunked_nll"):
        raise UserError(f"loss_type is {recipe.loss_type!r}, but this stage has its own loss; leave it out.")
