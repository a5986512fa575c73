"""Where a run is watched and its model published."""

from dataclasses import dataclass
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from huggingface_hub.utils import HFValidationError, validate_repo_id  # isort: skip
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, is_tensorboard_available  # isort: skip
from transformers.trainer_utils import HubStrategy  # isort: skip

from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class WatchFields:
    """Where a run is watched and its model published: transformers' own keys, with our defaults."""

    disable_tqdm: bool | None = option(
        False, "no progress bar; transformers would also show none because we keep its log quiet"
    )
    project: str = option("rlcomm", "W&B project of `report_to: wandb`; unset: WANDB_PROJECT, rlcomm")
    hub_strategy: HubStrategy | str = option("end", "end: only the finished model/ goes to the Hub")


def check_watched(recipe: Any) -> None:
    """Reporting and publishing, after transformers has made a list of `report_to`.

    Raises:
        UserError: a place that nothing reports to, or a Hub setting that would give away more than the model.
    """
    for name in recipe.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(
                f"report_to is {name!r}, which nothing reports to; use none, wandb or tensorboard."
            )
        if name == "tensorboard" and not is_tensorboard_available():
            raise UserError(
                "report_to is 'tensorboard', which is not installed; `pip install tensorboard` or set "
                "report_to none."
            )
    if recipe.hub_token:
        raise UserError(
            "hub_token is set, and what a recipe holds is written into its run folder; leave it out and log "
            "in with `hf auth login` or set HF_TOKEN."
        )
    if recipe.hub_strategy != HubStrategy.END:
        raise UserError(
            f"hub_strategy is {recipe.hub_strategy.value!r}, which would upload checkpoints and the pickles "
            "in them; leave it out, the finished model/ is what goes to the Hub."
        )
    if recipe.hub_model_id:
        try:
            validate_repo_id(recipe.hub_model_id)
        except HFValidationError as error:
            raise UserError(
                f"hub_model_id is {recipe.hub_model_id!r}, which is no name of a Hub repository; write "
                "owner/name of letters, digits, '-', '_' and '.'."
            ) from error
