"""What every stage that trains has of transformers' and our keys, and the checks they share."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from rlcomm.config.data import DataFields
from rlcomm.config.during import DuringFields, check_during
from rlcomm.config.measured import AskedFields
from rlcomm.config.optimiser import check_optimiser
from rlcomm.config.policy import PolicyFields
from rlcomm.config.watch import WatchFields, check_watched
from rlcomm.config.workers import WorkerFields
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import Limits, option

_SEED = Limits(at_least=0, below=2**32)  # what numpy takes


@dataclass
class TrainerFields(WatchFields):
    """transformers' own keys; their limits stand here, since its dataclass declares none."""

    LIMITS: ClassVar[dict[str, Limits]] = {
        "per_device_train_batch_size": Limits(at_least=1),
        "per_device_eval_batch_size": Limits(at_least=1),
        "gradient_accumulation_steps": Limits(at_least=1),
        "eval_accumulation_steps": Limits(at_least=1),
        "num_train_epochs": Limits(at_least=1e-6),
        "max_steps": Limits(at_least=-1),
        "learning_rate": Limits(at_least=0),
        "warmup_steps": Limits(at_least=0),
        "weight_decay": Limits(at_least=0),
        "adam_beta1": Limits(at_least=0, below=1),
        "adam_beta2": Limits(at_least=0, below=1),
        "adam_epsilon": Limits(above=0),
        "max_grad_norm": Limits(at_least=0),
        "label_smoothing_factor": Limits(at_least=0, at_most=1),
        "neftune_noise_alpha": Limits(at_least=0),
        "torch_empty_cache_steps": Limits(at_least=1),
        "logging_steps": Limits(above=0),
        "eval_steps": Limits(above=0),
        "eval_delay": Limits(at_least=0),
        "save_steps": Limits(at_least=1e-6),
        "save_total_limit": Limits(at_least=0),
        "seed": _SEED,
        "data_seed": _SEED,
        "dataloader_multiprocessing_context": Limits(choices=("fork", "spawn", "forkserver")),
        "ddp_bucket_cap_mb": Limits(at_least=1),
        "ddp_timeout": Limits(at_least=1),
        "local_rank": Limits(at_least=-1),
    }

    # What our path sets itself, and what would go around it: the one value that works, and why no other does.
    FIXED: ClassVar[dict[str, Any]] = {}
    REFUSED: ClassVar[dict[str, tuple[Any, str]]] = {}

    def __post_init__(self) -> None:
        """transformers' and TRL's checks, whatever they raise in our form; then ours of what is shared."""
        try:
            super().__post_init__()  # type: ignore[misc]
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{_said(error)}; correct the value and run again.") from error
        options.check(self)  # JSON in a value has been read by now
        check_watched(self)
        check_optimiser(self)


def _said(error: Exception) -> str:
    """The first line of what a library raised, with the kind of the error where that says more."""
    first = next((line for line in str(error).splitlines() if line.strip()), "").strip().rstrip(".;")
    return (
        first if isinstance(error, (ValueError, TypeError)) and first else f"{type(error).__name__}: {first}"
    )


def keep_to_our_path(recipe: TrainerFields) -> None:
    """Sets what our collator, rollout and scoring need of TRL's trainers.

    Raises:
        UserError: an option that would go around them.
    """
    for name, value in recipe.FIXED.items():
        setattr(recipe, name, copy.copy(value))
    for name, (works, why) in recipe.REFUSED.items():
        if (value := getattr(recipe, name)) != works and value != {}:
            raise UserError(f"{name} is {value!r}, which cannot work here ({why}); leave it out.")


@dataclass
class TrainedFields(TrainerFields, WorkerFields, DuringFields, AskedFields, DataFields, PolicyFields):
    """What the stages share that train a policy."""

    stage: str = option("", "base, sft, warmup, step_rr, grpo or ans_co")
    router_aux_loss_coef: float | None = option(
        0.0, "weight of an auxiliary loss on the routing of experts: only 0, no stage of ours computes one"
    )


def check_trained(recipe: Any) -> None:
    """What all of them ask of their recipe, after transformers has read it.

    Raises:
        UserError: no rows, an evaluation that transformers would run, or one of ours that is half said.
    """
    check_during(recipe)
    if recipe.router_aux_loss_coef:
        raise UserError(
            f"router_aux_loss_coef is {recipe.router_aux_loss_coef}, which cannot work here (no stage "
            "computes an auxiliary loss on the routing of experts); leave it out."
        )
    if recipe.eval_strategy != "no":
        raise UserError(
            f"eval_strategy is {recipe.eval_strategy.value!r}, but a stage evaluates once, when it ends; "
            "leave it out and name the data to evaluate on with eval_data."
        )
    if not recipe.dataset:
        raise UserError(
            "dataset is not set; name a JSON Lines file of samples (`rlcomm data --help` makes them)."
        )
